"""Everything that an orchestrator's machine is told.

`serial` names the attempt to make or attach a coordinator that the news is about.
"""

from __future__ import annotations

from dataclasses import dataclass

from chimera.swarm.orders import Order
from chimera.swarm.reports import RegionReport
from chimera.swarm.spec import Spec


@dataclass(frozen=True, slots=True)
class Surveyed:
    """Which actors of the swarm live: asked for with `Survey`."""

    alive: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pulse:
    """A coordinator spoke."""

    region: str
    serial: int
    report: RegionReport


@dataclass(frozen=True, slots=True)
class Lost:
    """The watch on a coordinator ended."""

    region: str
    serial: int
    reason: str
    dead: bool  #: False: it lives, but cannot be watched


@dataclass(frozen=True, slots=True)
class Knocked:
    """Leaders were asked whether they live."""

    region: str
    answered: bool  #: one did


@dataclass(frozen=True, slots=True)
class MakeFailed:
    """A coordinator could not be made, or its constructor failed."""

    region: str
    serial: int
    reason: str
    taken: bool  #: because one of this name lives


@dataclass(frozen=True, slots=True)
class Ended:
    """A coordinator was to be ended, or to retire."""

    region: str
    serial: int
    gone: bool  #: False: it may live still
    fault: str = ""  #: what went wrong on the way


@dataclass(frozen=True, slots=True)
class Apply:
    """A person wants another spec. `Answer` follows."""

    cause: int
    spec: Spec
    by: str


@dataclass(frozen=True, slots=True)
class Operate:
    """A person orders something of the living swarm. `Answer` follows."""

    cause: int
    order: Order
    by: str
    #: generations of the spec for which it is meant; empty: whichever there is
    expected: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Stop:
    """A person wants everything below to end. `Answer` follows when it has."""

    cause: int
    by: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed."""


Event = (
    Surveyed | Pulse | Knocked | Lost | MakeFailed | Ended | Apply | Operate | Stop | Tick
)  # fmt: skip
