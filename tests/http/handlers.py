"""Handlers behind the gateway in its tests, those that the examples of its document name too."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import chimera


@chimera.task("hello")
def hello(payload: Any) -> str:
    return f"Hello, {payload}!"


@chimera.task("mail.send")
def mail(payload: Any) -> None:
    """Nothing: nobody is written to."""


@chimera.task("http.large")
def large(size: int) -> str:
    """A result of so many characters."""
    return "x" * size


@chimera.task("http.noted", max_attempts=20)
def noted(ctx: chimera.Context, payload: dict[str, Any]) -> int:
    """Note beginning and end, for the checker of histories."""
    name, file = str(payload["n"]), Path(payload["file"])
    with file.open("a") as log:
        log.write(f"began {ctx.task_id} {time.time()}\n")
    with file.open("a") as log:
        log.write(f"ended {ctx.task_id} {time.time()}\n")
    return int(name)
