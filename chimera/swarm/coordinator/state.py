"""What a coordinator knows: its leaders, its shards, workers without a leader; and their tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from chimera.errors import ImpossibleStep
from chimera.swarm.coordinator.effects import Act, Audit, Effect, Persist, Seat
from chimera.swarm.coordinator.plan import Patience, RegionPlan
from chimera.swarm.health import Health, Scrutiny
from chimera.swarm.merge import Tally
from chimera.swarm.reports import LeaderConfig, LeaderReport, WorkerInfo
from chimera.swarm.story import Story


class LeaderState(Enum):
    """Where a leader is in its life."""

    MISSING = "missing"  #: dead or never made; made at `retry_at`
    MAKING = "making"  #: being made: no word yet, and no shards
    FOUND = "found"  #: lives by its name: no word yet, may have shards
    UP = "up"  #: speaks
    SUSPECT = "suspect"  #: silent; looked at; keeps its shards for now
    CONDEMNED = "condemned"  #: its shards are given away; it may live
    RETIRING = "retiring"  #: asked to end


class SeatState(Enum):
    """Where a shard is."""

    FREE = "free"  #: nobody is known to have it
    ORDERED = "ordered"  #: `owner` was ordered to take it
    HELD = "held"  #: `owner` reports it at `epoch`
    RELEASING = "releasing"  #: `owner` drains it, to close it


_L, _S = LeaderState, SeatState
#: what may follow what
LEADER_TABLE: Mapping[LeaderState, frozenset[LeaderState]] = {
    _L.MISSING: frozenset({_L.MAKING, _L.FOUND}),
    _L.MAKING: frozenset({_L.UP, _L.MISSING, _L.FOUND}),
    _L.FOUND: frozenset({_L.UP, _L.MISSING, _L.CONDEMNED}),
    _L.UP: frozenset({_L.SUSPECT, _L.CONDEMNED, _L.RETIRING, _L.MISSING}),
    _L.SUSPECT: frozenset({_L.UP, _L.CONDEMNED, _L.MISSING}),
    _L.CONDEMNED: frozenset({_L.UP, _L.MISSING}),
    _L.RETIRING: frozenset({_L.MISSING}),
}
SEAT_TABLE: Mapping[SeatState, frozenset[SeatState]] = {
    _S.FREE: frozenset({_S.ORDERED, _S.HELD, _S.RELEASING}),
    _S.ORDERED: frozenset({_S.FREE, _S.HELD, _S.RELEASING}),
    _S.HELD: frozenset({_S.FREE, _S.HELD, _S.RELEASING}),
    _S.RELEASING: frozenset({_S.FREE, _S.HELD, _S.RELEASING}),
}


@dataclass(slots=True)
class Child:
    """One leader."""

    name: str
    state: LeaderState = LeaderState.MISSING
    serial: int = 0  #: of the last attempt to make or attach it
    since: float = 0.0  #: when it came into this state
    report: LeaderReport | None = None  #: the last of this incarnation
    revisions: frozenset[str] = frozenset()  #: those of its workers, by that report
    recent: tuple[float, ...] = ()  #: its deaths within the restart window
    retry_at: float = 0.0  #: MISSING: when it is made
    fault: str = ""  #: why it is missing, for a person
    failures: int = 0  #: attempts to make it that failed, in a row
    scrutiny: Scrutiny | None = None  #: SUSPECT: the looks at it
    end_at: float = 0.0  #: CONDEMNED or RETIRING: when its process is ended
    sent: LeaderConfig | None = None  #: the configuration it was given last
    sent_at: float = 0.0
    rolled_at: float = 0.0  #: when it was first given the generation of `sent`
    blocked_until: float = 0.0  #: it refused a configuration: none before then

    def hear(self, report: LeaderReport) -> bool:
        """Take in its newest report; returns whether it became ready, or is so no more."""
        last, self.report = self.report, report
        if last is None or report.workers is not last.workers:
            self.revisions = frozenset(worker.revision for worker in report.workers)
        return report.ready != (last is not None and last.ready)


@dataclass(slots=True)
class Shard:
    """One shard, as far as it is known: the journal knows better (P2)."""

    number: int
    state: SeatState = SeatState.FREE
    owner: str = ""  #: empty only in FREE
    epoch: int = 0  #: what the journal is believed to hold
    since: float = 0.0  #: when it came into this state
    #: somebody reported it, or it was ordered; until then a leader not heard yet may have it
    known: bool = False
    info: str = ""  #: state in the owner's last report
    open: int = 0  #: tasks, by the owner's last report
    answered: bool = False  #: ORDERED: the order was accepted
    missed: int = 0  #: ORDERED: reports since then without it
    bound_for: str = ""  #: RELEASING and then FREE: who shall have it
    avoid: set[str] = field(default_factory=set)  #: leaders that could not take it
    tries: int = 0  #: orders in a row that failed
    not_before: float = 0.0  #: FREE: no order before then
    #: workers that may hold something of it: those of every former owner, while they live
    ask: dict[str, WorkerInfo] = field(default_factory=dict)


@dataclass(slots=True)
class Orphan:
    """A worker whose leader is gone, and that no other one reports."""

    info: WorkerInfo
    since: float
    reap_at: float


@dataclass(slots=True)
class State:
    """All of it, and the effects of the step under way."""

    plan: RegionPlan
    term: int
    patience: Patience = field(default_factory=Patience)
    leaders: dict[str, Child] = field(default_factory=dict)
    shards: dict[int, Shard] = field(default_factory=dict)
    orphans: dict[str, Orphan] = field(default_factory=dict)
    heirs: dict[str, str] = field(default_factory=dict)  #: orphaned worker → leader to adopt it
    health: Health = field(default_factory=Health)
    story: Story = field(default_factory=Story)
    surveyed: bool = False  #: the first survey is in
    survey_at: float = 0.0
    #: until then a survey is out for the workers of a leader that was never heard
    asking_until: float = 0.0
    attached: set[str] = field(default_factory=set)  #: leaders that lived before they were watched
    asked: bool = False  #: workers of these leaders' former incarnations were asked for
    gather_until: float = 0.0  #: until then no shard is given out at a region's first start
    changed_at: float = 0.0  #: when a leader came or went, or a shard moved, last
    failovers: int = 0
    tally: Tally = ()  #: what leaders counted, those that are gone too
    serials: int = 0
    changes: int = 0  #: steps of any table, of any epoch, and in who is ready, ever
    flushed: int = 0  #: of them, those that are persisted
    acts: list[Act] = field(default_factory=list)
    audits: list[Audit] = field(default_factory=list)
    plain: list[Effect] = field(default_factory=list)
    persisted: tuple[Seat, ...] = ()

    def become(self, child: Child, state: LeaderState, now: float, why: str) -> None:
        """Move a leader along its table."""
        key = child.name
        if state not in LEADER_TABLE[child.state]:
            raise ImpossibleStep(
                f"{key} cannot go from {child.state.value} to {state.value} ({why}); "
                f"before: {self.story.tell(key)}"
            )
        self.story.note(key, now, f"{child.state.value} → {state.value}: {why}")
        child.state, child.since = state, now
        child.scrutiny = None
        self.changed_at = now
        self.changes += 1

    def seat(self, shard: Shard, state: SeatState, owner: str, now: float, why: str) -> None:
        """Move a shard along its table."""
        key = f"shard {shard.number}"
        if state not in SEAT_TABLE[shard.state] or (not owner) != (state is SeatState.FREE):
            raise ImpossibleStep(
                f"{key} cannot go from {shard.state.value} of {shard.owner or 'nobody'} to "
                f"{state.value} of {owner or 'nobody'} ({why}); before: {self.story.tell(key)}"
            )
        self.story.note(key, now, f"{state.value} {owner} at {shard.epoch}: {why}")
        shard.state, shard.owner, shard.since = state, owner, now
        shard.answered, shard.missed = False, 0
        self.changed_at = now
        self.changes += 1

    def do(self, act: Act, action: str, subject: str, **detail: Any) -> None:
        """Act after an audit entry says so."""
        self.acts.append(act)
        self.audit(action, subject, **detail)

    def audit(self, action: str, subject: str, **detail: Any) -> None:
        self.audits.append(Audit(action, subject, {"term": self.term, **detail}))

    def next_serial(self) -> int:
        self.serials += 1
        return self.serials

    def owned(self, leader: str) -> list[Shard]:
        """Shards that a leader has, takes or drains."""
        return [shard for shard in self.shards.values() if shard.owner == leader]

    def up(self) -> Iterator[Child]:
        return (child for child in self.leaders.values() if child.state is LeaderState.UP)

    def is_planned(self, leader: str) -> bool:
        return self.plan.has_leader(leader)

    def listed(self, *, but: str = "") -> set[str]:
        """Workers that a living leader reports, one leader aside."""
        return {
            worker.name
            for child in self.leaders.values()
            if child.name != but
            and child.report is not None
            and child.state in (LeaderState.UP, LeaderState.SUSPECT)
            for worker in child.report.workers
        }

    def seats(self) -> tuple[Seat, ...]:
        return tuple(Seat(s.number, s.owner, s.epoch) for _, s in sorted(self.shards.items()))

    def flush(self) -> list[Effect]:
        """The step's effects: what must be durable first, with all that rests on it."""
        effects: list[Effect] = []
        seats = self.seats() if self.changes != self.flushed else self.persisted
        self.flushed = self.changes
        if self.acts or self.audits or seats != self.persisted:
            placement = seats if seats != self.persisted else ()
            effects.append(Persist(placement, tuple(self.audits), tuple(self.acts)))
            self.persisted = seats
        effects += self.plain
        self.acts, self.audits, self.plain = [], [], []
        return effects
