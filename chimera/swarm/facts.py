"""What a journal holds and records, as plain data: shared by the machines and the store."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Single:
    """One task settled on its own."""

    position: int
    state: int  #: FAILED, CANCELLED, EXPIRED or SUCCEEDED of chimera.frames.outcome
    attempts: int
    body: bytes  #: result or Failure, JSON


@dataclass(frozen=True, slots=True)
class Park:
    """Move one task to the schedule, or change when and as which attempt it is due (P16)."""

    position: int
    due: int
    attempt: int  #: the attempt that is due, from 1
    holds_key: bool  #: a retry in wait holds its key; a delayed first attempt does not
    error: bytes = b""  #: Failure of the attempt before, JSON


@dataclass(frozen=True, slots=True)
class Settlement:
    """What one transaction records: all of it or nothing."""

    #: outcome frames; states OPEN, SUCCEEDED, FAILED, CANCELLED, EXPIRED only
    frames: tuple[bytes, ...] = ()
    singles: tuple[Single, ...] = ()
    parks: tuple[Park, ...] = ()


@dataclass(frozen=True, slots=True)
class OpenFrame:
    """An appended frame with tasks that have no outcome, as a new owner finds it."""

    position: int
    count: int
    bytes: int  #: size of the frame
    flags: int  #: columns it has, and whether it has options (chimera.frames.command)
    type: str
    tenant: str
    priority: int
    #: [start, stop) indices without outcome that are not parked, skipped or cancelled
    open: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A parked task."""

    position: int
    due: int
    attempt: int
    holds_key: bool
    key: str | None
    type: str
    tenant: str
    priority: int


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a new owner needs to go on."""

    open: tuple[OpenFrame, ...]
    #: parked retries that hold their key: rebuilt before the first dispatch (P16)
    holding: tuple[Scheduled, ...]
    #: positions with an intent to cancel and no outcome (P9)
    cancelling: tuple[int, ...]
    open_tasks: int  #: accepted and not settled, parked ones included
