"""Everything that a coordinator's machine is told.

`serial` names the attempt to make or attach a leader that the news is about: news of a former
attempt is refused by it.
"""

from __future__ import annotations

from dataclasses import dataclass

from chimera.swarm.coordinator.plan import RegionPlan
from chimera.swarm.reports import LeaderReport, WorkerInfo


@dataclass(frozen=True, slots=True)
class Surveyed:
    """Who lives: asked for with `Survey`."""

    leaders: tuple[str, ...]  #: names of the region's living leaders
    #: living workers whose makers are not among them, or were asked for
    workers: tuple[WorkerInfo, ...]


@dataclass(frozen=True, slots=True)
class Pulse:
    """A leader spoke: its report answers the pending watch."""

    leader: str
    serial: int
    report: LeaderReport


@dataclass(frozen=True, slots=True)
class Lost:
    """The watch on a leader ended."""

    leader: str
    serial: int
    reason: str
    dead: bool  #: False: it lives, but cannot be watched


@dataclass(frozen=True, slots=True)
class MakeFailed:
    """A leader could not be made, or its constructor failed."""

    leader: str
    serial: int
    reason: str
    taken: bool  #: because one of this name lives


@dataclass(frozen=True, slots=True)
class TakeAnswered:
    """A leader accepted or refused an order to take a shard."""

    leader: str
    serial: int
    shard: int
    epoch: int  #: of the order
    refusal: str = ""  #: empty: accepted; the leader's reports tell the rest
    actual: int | None = None  #: the journal's epoch, if the order named another (P2)
    #: who raised it, as far as the journal tells: a leader's name
    raised_by: str = ""


@dataclass(frozen=True, slots=True)
class ReleaseRefused:
    """A leader did not accept the order to release a shard."""

    leader: str
    serial: int
    shard: int
    reason: str


@dataclass(frozen=True, slots=True)
class ConfigureRefused:
    """A leader did not accept its configuration."""

    leader: str
    serial: int
    reason: str


@dataclass(frozen=True, slots=True)
class Looked:
    """What /proc says of a suspect's process."""

    leader: str
    serial: int
    here: bool  #: False: on another machine or Ray node, nothing can be seen
    state: str | None  #: None: there is no such process
    cpu_ticks: int


@dataclass(frozen=True, slots=True)
class Reaped:
    """A worker that nobody owns was ended."""

    worker: str
    gone: bool  #: False: it may live still


@dataclass(frozen=True, slots=True)
class Planned:
    """The spec changed."""

    plan: RegionPlan


@dataclass(frozen=True, slots=True)
class Deposed:
    """A leader has heard of a newer coordinator."""

    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed."""


Event = (
    Surveyed | Pulse | Lost | MakeFailed | TakeAnswered | ReleaseRefused | ConfigureRefused
    | Looked | Reaped | Planned | Deposed | Tick
)  # fmt: skip
