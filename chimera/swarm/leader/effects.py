"""Everything that a leader's machine asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from chimera.swarm.facts import Settlement


class Item(NamedTuple):
    """Part of a command frame that a worker shall run."""

    shard: int
    epoch: int
    attempt: int
    frame: int  #: position at which its command frame starts
    first: int
    stop: int
    from_schedule: bool


@dataclass(frozen=True, slots=True)
class Send:
    """Give a worker a flight of work."""

    worker: str
    flight: int
    recorded: tuple[int, ...]  #: serials the worker may forget
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """Write this in one transaction; `Recorded` or `RecordRefused` answers.

    What rests on it (acknowledging the worker, freeing keys) happens when `Recorded` comes.
    """

    shard: int
    token: int
    settlement: Settlement


@dataclass(frozen=True, slots=True)
class TellRecorded:
    """Tell a worker that has no flight coming what it may forget."""

    worker: str
    serials: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Collect:
    """Ask a worker for what it has finished, and for what it has not begun."""

    worker: str
    through: int


@dataclass(frozen=True, slots=True)
class Kill:
    """End a worker's process; `WorkerLost` follows."""

    worker: str
    reason: str


@dataclass(frozen=True, slots=True)
class Spawn:
    """Make a worker."""

    worker: str


@dataclass(frozen=True, slots=True)
class Retire:
    """Let a worker go: it has nothing in hand."""

    worker: str


@dataclass(frozen=True, slots=True)
class TellCancelled:
    """Tell a worker that a task in its hands is to be cancelled."""

    worker: str
    shard: int
    position: int


@dataclass(frozen=True, slots=True)
class PollHeld:
    """Ask a former owner's worker what it holds and runs of a shard."""

    worker: str
    shard: int
    epoch: int


@dataclass(frozen=True, slots=True)
class ReadDue:
    """Read the shard's parked tasks that are due."""

    shard: int
    until: int  #: Unix ms
    limit: int


@dataclass(frozen=True, slots=True)
class CloseShard:
    """Close the journal: the shard is released."""

    shard: int


Effect = (
    Send | Record | TellRecorded | Collect | Kill | Spawn | Retire | TellCancelled | PollHeld
    | ReadDue | CloseShard
)  # fmt: skip
