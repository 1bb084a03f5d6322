"""Everything that a leader's machine is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from chimera.swarm.facts import Scheduled
from chimera.swarm.policy import TaskPolicy
from chimera.swarm.reports import LeaderConfig


class Instant(NamedTuple):
    """When an event happened, by both clocks: the machine reads none."""

    mono: float  #: seconds, only growing: for intervals
    unix_ms: int  #: milliseconds since 1970: for what users name by date


@dataclass(frozen=True, slots=True)
class NewFrame:
    """A command frame that is in the journal: what the machine needs of it."""

    position: int
    count: int
    size: int  #: bytes
    type: str
    tenant: str
    priority: int
    #: [first, stop) positions that are to be run
    ranges: tuple[tuple[int, int], ...]
    keys: list[str | None] | None = None  #: one a task
    deadlines: list[int] | None = None  #: Unix ms, one a task; 0: none
    options: dict[str, Any] | None = None  #: overrides of the type's policy
    attempt: int = 1
    from_schedule: bool = False
    holds_key: bool = False  #: a retry: it waits first in its key's order
    trace_id: str | None = None  #: of whoever submitted it, for exemplars


@dataclass(frozen=True, slots=True)
class Arrived:
    """An outcome frame from a worker."""

    serial: int
    frame: bytes


@dataclass(frozen=True, slots=True)
class Board:
    """What a worker's board says: which task is in hand."""

    flight: int  #: 0: none
    ordinal: int | None  #: index within the flight; None: several at once
    heartbeats: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time goes on."""

    boards: dict[str, Board]


#: (task type, priority class, how many tasks)
Kind = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Appended:
    """Frames were accepted."""

    shard: int
    frames: tuple[NewFrame, ...]
    accepted: int  #: tasks, parked ones included
    next_due: int | None = None  #: earliest of the parked ones, Unix ms
    kinds: tuple[Kind, ...] = ()  #: of the accepted ones


@dataclass(frozen=True, slots=True)
class Replied:
    """A worker ended a flight, or handed in what it has of it so far (`flight` None)."""

    worker: str
    flight: int | None
    arrived: tuple[Arrived, ...]
    #: (shard, position, count) that it gave back or refused
    returned: tuple[tuple[int, int, int], ...]
    #: (shard, position) in hand, and the highest flight begun: only with `flight` None
    running: tuple[tuple[int, int], ...] = ()
    begun: int = 0
    through: int = 0  #: flights up to this one that had not begun will run nothing


@dataclass(frozen=True, slots=True)
class CollectFailed:
    """A worker did not answer `collect` in time."""

    worker: str


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """A worker loaded its handlers."""

    worker: str
    policies: tuple[TaskPolicy, ...]
    revision: str = ""  #: of what it was born with


@dataclass(frozen=True, slots=True)
class WorkerFailed:
    """A worker cannot load its handlers, or could not be made."""

    worker: str
    fault: str


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """A worker's process is known to be dead."""

    worker: str
    board: Board | None  #: what its board said last


@dataclass(frozen=True, slots=True)
class Recorded:
    """A settlement is durable."""

    shard: int
    token: int
    recorded: int  #: tasks that got their outcome; the others had one already (P8)


@dataclass(frozen=True, slots=True)
class RecordRefused:
    """A settlement could not be written now (the disk is full); it is to be tried again."""

    shard: int
    token: int


@dataclass(frozen=True, slots=True)
class Taken:
    """A shard is ours: what its journal says is open."""

    shard: int
    epoch: int
    frames: tuple[NewFrame, ...]
    holding: tuple[Scheduled, ...]
    cancelling: tuple[int, ...]
    open_tasks: int
    next_due: int | None
    former_workers: tuple[str, ...]  #: to be asked what they hold
    took_s: float = 0.0  #: from the order until now


@dataclass(frozen=True, slots=True)
class Held:
    """A former owner's worker told what it has of a shard; `silent` if it did not answer."""

    worker: str
    shard: int
    arrived: tuple[Arrived, ...] = ()
    running: tuple[tuple[int, int], ...] = ()  #: (position, count)
    silent: bool = False
    #: those of the tasks it runs, or hands in, that are parked in the journal
    parked: tuple[NewFrame, ...] = ()
    policies: tuple[TaskPolicy, ...] = ()  #: of the types that it runs
    #: (position, tenant, key) of those that it is first told to run, though they have an outcome
    keys: tuple[tuple[int, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ShardLost:
    """Another owner raised the epoch: not a write more."""

    shard: int


@dataclass(frozen=True, slots=True)
class ReleaseAsked:
    """Hand the shard over."""

    shard: int
    finish: bool = False  #: when what runs of it is recorded; else at once


@dataclass(frozen=True, slots=True)
class Due:
    """Parked tasks whose time has come."""

    shard: int
    tasks: tuple[NewFrame, ...]
    next_due: int | None


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """A task is to end: the intent is durable, or it is to end only if nobody has it in hand."""

    shard: int
    position: int
    reason: str = ""
    only_waiting: bool = False  #: if it runs it is let be; that this was asked is kept nowhere


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A stored command frame is corrupt: its open tasks got their outcome (P4)."""

    shard: int
    position: int
    count: int
    ended: int  #: tasks that got their outcome by it


@dataclass(frozen=True, slots=True)
class Configured:
    """New settings."""

    config: LeaderConfig


Event = (
    Tick | Appended | Replied | CollectFailed | WorkerReady | WorkerFailed | WorkerLost | Recorded
    | RecordRefused | Taken | Held | ShardLost | ReleaseAsked | Due | CancelAsked | Quarantined
    | Configured
)  # fmt: skip
