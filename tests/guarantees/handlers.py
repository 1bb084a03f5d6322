"""Handlers of the tests of guarantees: they write down what they do, and misbehave when told to.

A test reads the notes (`kit.notes`) and opens gates by making a file. All that a handler needs to
know is in its payload.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from typing import Any

import chimera
from chimera.api.context import Context

#: a gate that nobody opens fails its task, seconds
GATE_S = 120.0
#: between two looks at a gate, seconds
LOOK_S = 0.01

_open: dict[str, int] = {}


def note(path: str, *words: object) -> None:
    """One line in one write: processes that write at the same time do not mix their lines."""
    descriptor = _open.get(path)
    if descriptor is None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        _open[path] = descriptor
    os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())


def _note(ctx: Context, payload: dict[str, Any], event: str) -> None:
    note(
        payload["log"], event, ctx.task_id, ctx.attempt, os.getpid(), time.monotonic_ns(),
        payload.get("n", "-"),
    )  # fmt: skip


def _wait(gate: str) -> None:
    end = time.monotonic() + GATE_S
    while not os.path.exists(gate):
        if time.monotonic() > end:
            raise TimeoutError(f"nobody opened {gate}")
        time.sleep(LOOK_S)


@chimera.task("echo")
def echo(payload: Any) -> Any:
    return payload


@chimera.task("work")
def work(ctx: Context, payload: dict[str, Any]) -> Any:
    """Notes that it ran; takes `ms` milliseconds, or until its `gate` opens."""
    _note(ctx, payload, "ran")
    if "gate" in payload:
        _wait(payload["gate"])
    if "ms" in payload:
        time.sleep(payload["ms"] / 1000)
    if "log_end" in payload:
        _note(ctx, {**payload, "log": payload["log_end"]}, "ended")
    return payload.get("n")


@chimera.task("flaky", backoff_initial_s=0.05, backoff_cap_s=0.05)
def flaky(ctx: Context, payload: dict[str, Any]) -> Any:
    """Fails its first `fails` attempts, `after_s` telling when to try again."""
    _note(ctx, payload, "ran")
    if ctx.attempt <= payload.get("fails", 0):
        if "after_s" in payload:
            raise chimera.RetryAfter(payload["after_s"])
        raise ValueError(f"attempt {ctx.attempt} is to fail")
    if "ms" in payload:
        time.sleep(payload["ms"] / 1000)
    _note(ctx, payload, "ended")
    return payload.get("n")


@chimera.task("picky", no_retry=(KeyError,), max_attempts=3, backoff_initial_s=0.05)
def picky(ctx: Context, payload: dict[str, Any]) -> Any:
    """Raises what it is told."""
    _note(ctx, payload, "ran")
    how = payload.get("raises")
    if how == "permanent":
        raise chimera.PermanentError("it never will")
    if how == "no_retry":
        raise KeyError("as declared")
    if how == "value":
        raise ValueError("bad luck")
    if how == "no_json":
        return object()
    return payload.get("n")


@chimera.task("deadly", max_attempts=2, attempt_timeout_s=3.0, backoff_initial_s=0.05)
def deadly(ctx: Context, payload: dict[str, Any]) -> Any:
    """Harms its worker if it is told how, before an attempt number if `until` says so."""
    _note(ctx, payload, "ran")
    if ctx.attempt < payload.get("until", 99):
        match payload.get("how"):
            case "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hangs":
                time.sleep(3600)
            case "stops":
                os.kill(os.getpid(), signal.SIGSTOP)
                time.sleep(3600)  # another thread may be the first to stop: this one goes on
            case "holds the GIL":
                ctypes.PyDLL(None).sleep(3600)  # PyDLL: called without letting go of the GIL
    return payload.get("n")


@chimera.task("beating", max_attempts=2, heartbeat_timeout_s=2.0, backoff_initial_s=0.05)
def beating(ctx: Context, payload: dict[str, Any]) -> Any:
    """Gives heartbeats until its gate opens; or none."""
    _note(ctx, payload, "ran")
    while not os.path.exists(payload["gate"]):
        if payload.get("beats", True):
            ctx.heartbeat()
        time.sleep(LOOK_S)
    return payload.get("n")


@chimera.task("patient")
def patient(ctx: Context, payload: dict[str, Any]) -> Any:
    """Runs until it is cancelled."""
    _note(ctx, payload, "ran")
    end = time.monotonic() + GATE_S
    while not ctx.is_cancelled:
        if time.monotonic() > end:
            raise TimeoutError("nobody cancelled it")
        time.sleep(LOOK_S)
    _note(ctx, payload, "cancelled")
    raise chimera.Cancelled("cleaned up")


@chimera.task("charge", backoff_initial_s=0.05)
def charge(ctx: Context, payload: dict[str, Any]) -> Any:
    """Two effects to be done once, with a gate in between and a failed attempt behind them."""

    def effect(name: str) -> dict[str, Any]:
        note(payload["log"], name, ctx.task_id, ctx.attempt, os.getpid(), time.monotonic_ns(), "-")
        return {"attempt": ctx.attempt, "pid": os.getpid()}

    early = ctx.once("early", lambda: effect("early"))
    if "gate" in payload:
        note(payload["log"], "waits", ctx.task_id, ctx.attempt, os.getpid(), 0, "-")
        _wait(payload["gate"])
    late = ctx.once("late", lambda: effect("late"))
    if ctx.attempt <= payload.get("fails", 0):
        raise ValueError("again")
    return {"early": early, "late": late, "attempt": ctx.attempt}


@chimera.task("tally")
class Tally:
    """Counts the tasks of each key, in a state that follows the key from worker to worker."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def snapshot(self, key: str) -> int:
        return self._counts.get(key, 0)

    def restore(self, key: str, state: int | None) -> None:
        self._counts[key] = state or 0

    def run(self, ctx: Context, payload: dict[str, Any]) -> int:
        key = ctx.key or ""
        self._counts[key] += 1
        if "log" in payload:
            _note(ctx, payload, "ran")
        if "ms" in payload:
            time.sleep(payload["ms"] / 1000)
        if ctx.attempt <= payload.get("fails", 0):
            raise ValueError("what it did to the state must not stay")
        return self._counts[key]


@chimera.task("narrow", max_running=3, concurrency=4)
def narrow(ctx: Context, payload: dict[str, Any]) -> Any:
    """No more than three at once in the whole swarm, though a worker alone could run four."""
    _note(ctx, payload, "began")
    time.sleep(payload["ms"] / 1000)
    _note(ctx, payload, "ended")
    return payload.get("n")


@chimera.task("wide", max_running=10, concurrency=16)
def wide(ctx: Context, payload: dict[str, Any]) -> Any:
    """More at once than there are shards: each shard has a share of the limit."""
    _note(ctx, payload, "began")
    time.sleep(payload["ms"] / 1000)
    _note(ctx, payload, "ended")
    return payload.get("n")


@chimera.task("paced", rate_per_s=40, rate_burst=4)
def paced(ctx: Context, payload: dict[str, Any]) -> Any:
    """Forty a second."""
    _note(ctx, payload, "ran")
    return payload.get("n")


@chimera.task("slow_paced", rate_per_s=5, rate_burst=1)
def slow_paced(ctx: Context, payload: dict[str, Any]) -> Any:
    """Fewer a second than there are shards."""
    _note(ctx, payload, "ran")
    return payload.get("n")


@chimera.task("large")
def large(payload: dict[str, Any]) -> Any:
    """A result of as many bytes as it is told, or a digest of what it was given."""
    if "bytes" in payload:
        return "x" * payload["bytes"]
    return [len(payload["text"]), payload["text"][:10], payload["text"][-10:]]
