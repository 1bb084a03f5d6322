"""The task types that benchmarks submit."""

from __future__ import annotations

import os
import struct
import time
from typing import Any

import chimera
from chimera.api.context import Context

#: the most that is waited for in a handler, seconds
PATIENCE_S = 3600.0
#: open files by path: a handler that opens one a task would measure that
_files: dict[str, int] = {}


def _append(path: str, record: bytes) -> None:
    """Add a record to a file of this process's own; a write of few bytes is never torn."""
    file = _files.get(path)
    if file is None:
        name = f"{path}/{os.getpid()}"
        file = _files[path] = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(file, record)


@chimera.task("bench.noop")
def noop(payload: Any) -> Any:
    """Nothing; the payload comes back."""
    return payload


@chimera.task("bench.context")
def context(ctx: Context, payload: Any) -> Any:
    """Nothing, but it looks at its context."""
    return payload if ctx.attempt else None


@chimera.task("bench.size")
def size(payload: str) -> int:
    """How long the payload is: it travels one way only."""
    return len(payload)


@chimera.task("bench.nap")
def nap(payload: Any) -> float:
    """Sleep for 1 ms; returns for how long that really was, in seconds."""
    began = time.perf_counter()
    time.sleep(0.001)
    return time.perf_counter() - began


@chimera.task("bench.ruled", rate_per_s=100_000_000.0, max_running=1_000_000)
def ruled(payload: Any) -> Any:
    """Nothing, under limits that are counted and never reached."""
    return payload


@chimera.task("bench.gate", attempt_timeout_s=PATIENCE_S)
def gate(payload: Any) -> int:
    """Wait until a file exists; from then on it is there for good."""
    path = payload["gate"]
    if path not in _files:
        until = time.monotonic() + PATIENCE_S
        while not os.path.exists(path) and time.monotonic() < until:
            time.sleep(0.01)
        _files[path] = -1
    return int(payload["i"])


TALLY = struct.Struct("<Q")


@chimera.task("bench.tally")
def tally(payload: Any) -> int:
    """Its last act is to note in a file that it was done."""
    number = int(payload["i"])
    _append(payload["dir"], TALLY.pack(number))
    return number


#: number, process, nanoseconds on the machine's monotonic clock
BEGUN = struct.Struct("<QQQ")


@chimera.task("bench.begin")
def begin(payload: Any) -> int:
    """Its first act is to note in a file who began it and when; then it sleeps."""
    number = int(payload["i"])
    _append(payload["dir"], BEGUN.pack(number, os.getpid(), time.monotonic_ns()))
    time.sleep(payload["sleep_s"])
    return number
