"""Handlers that the client's tests run on a real swarm."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import chimera

DEADLINE_S = 90.0


@chimera.task("client.echo")
def echo(payload: Any) -> Any:
    return payload


@dataclass
class Order:
    item: str
    count: int = 1


@chimera.task("client.order")
def order(payload: Order) -> int:
    return payload.count


@chimera.task("client.fail", max_attempts=1)
def fail(payload: Any) -> Any:
    raise ValueError(f"{payload} is bad")


@chimera.task("client.await_file", attempt_timeout_s=DEADLINE_S)
def await_file(payload: str) -> str:
    """Run until a file is there."""
    end = time.monotonic() + DEADLINE_S
    while not Path(payload).exists():
        assert time.monotonic() < end
        threading.Event().wait(0.02)
    return "there"


@chimera.task("client.note")
def note(payload: dict[str, Any]) -> int:
    """Append a line to a file: what ran, in which order."""
    with Path(payload["file"]).open("a") as file:
        file.write(f"{payload['key']} {payload['i']}\n")
    return int(payload["i"])
