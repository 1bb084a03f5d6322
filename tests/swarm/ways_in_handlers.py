"""Handlers that the examples of the commands' help name."""

from __future__ import annotations

from dataclasses import dataclass

import chimera


@dataclass
class Mail:
    to: str


@chimera.task("mail.send", max_attempts=1)
def send(payload: Mail) -> str:
    if "@" not in payload.to:
        raise ValueError(f"{payload.to} is no address")
    return f"sent to {payload.to}"


@chimera.task("charge")
def charge(payload: int) -> int:
    return payload
