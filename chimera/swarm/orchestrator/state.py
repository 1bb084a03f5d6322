"""What an orchestrator knows of its coordinators, how they may change, and how patient it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from chimera.swarm.health import HealthPolicy
from chimera.swarm.reports import RegionReport
from chimera.swarm.restart import RestartPolicy


class ChildState(Enum):
    """Where a coordinator is in its life."""

    MISSING = "missing"  #: dead or never made; made at `retry_at`
    MAKING = "making"  #: being made: no word yet
    FOUND = "found"  #: lives by its name: no word yet
    UP = "up"  #: speaks
    AWAY = "away"  #: in another Ray cluster, and not heard over its link: nobody ends it
    SILENT = "silent"  #: spoke no more, or never; being ended
    RETIRING = "retiring"  #: ends its region


_C = ChildState
#: what may follow what
TABLE: Mapping[ChildState, frozenset[ChildState]] = {
    _C.MISSING: frozenset({_C.MAKING, _C.FOUND, _C.AWAY}),
    _C.MAKING: frozenset({_C.UP, _C.FOUND, _C.SILENT, _C.MISSING}),
    _C.FOUND: frozenset({_C.UP, _C.SILENT, _C.MISSING}),
    _C.UP: frozenset({_C.SILENT, _C.RETIRING, _C.MISSING, _C.AWAY}),
    _C.AWAY: frozenset({_C.UP, _C.MISSING}),
    _C.SILENT: frozenset({_C.UP, _C.MISSING}),
    _C.RETIRING: frozenset({_C.SILENT, _C.MISSING}),
}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the orchestrator waits for what. All in seconds."""

    #: a coordinator that is being made, for its first word
    make_s: float = 60.0
    #: a coordinator that was found, for its first word
    found_s: float = 5.0
    #: between two attempts to end the same process
    end_again_s: float = 10.0
    #: for a region to end; longer than its coordinator's own patience
    retire_s: float = 60.0
    #: between two times that the same coordinator is told the spec
    configure_s: float = 2.0
    #: between two times that the leaders of a silent coordinator are asked whether they live
    knock_s: float = 1.0
    #: silence of a coordinator slows no task, so that there is time to be sure
    health: HealthPolicy = field(
        default_factory=lambda: HealthPolicy(
            suspect_s=2.0, tick_s=0.1, jitter_s=0.1, guard_max_s=30.0
        )
    )
    restart: RestartPolicy = field(default_factory=RestartPolicy)


@dataclass(slots=True)
class Child:
    """One region's coordinator."""

    region: str
    state: ChildState = ChildState.MISSING
    serial: int = 0  #: of the last attempt to make or attach it: older news is refused by it
    since: float = 0.0  #: when it came into this state
    report: RegionReport | None = None  #: the last one; of a former incarnation until it speaks
    reported_at: float = 0.0  #: when it came
    recent: tuple[float, ...] = ()  #: its deaths within the restart window
    retry_at: float = 0.0  #: MISSING: when it is made
    end_at: float = 0.0  #: SILENT: when it is ended again
    told_at: float = float("-inf")  #: when it was told the spec last
    fault: str = ""  #: for a person
    heard_at: float | None = None  #: when its coordinator or a leader of it spoke last
    knocked_at: float = float("-inf")  #: when its leaders were asked whether they live
    lost: bool = False  #: nothing was heard of it for the spec's `region_timeout_s`
    #: what it lacks to be ready, after that of which it was found (`regions.missing`)
    lacks: tuple[tuple[object, ...], str] | None = None
