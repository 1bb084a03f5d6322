"""A region's coordinator: places shards on leaders and fails them over. Holds G6 and G8.

Events go in, effects come out: no clock, no I/O. It never assumes that a silent leader has stopped:
it orders others to take its shards, and the taker and the journal's epoch see to the rest (P2, P3).
It never decides from its own memory against a report: placement is a hint, the journal the truth.
"""

from __future__ import annotations

from collections.abc import Iterable

from chimera.errors import ImpossibleStep
from chimera.swarm.coordinator import leaders, seats
from chimera.swarm.coordinator.effects import Effect, Seat, StepDown, Survey
from chimera.swarm.coordinator.events import (
    ConfigureRefused,
    Deposed,
    Event,
    Looked,
    Lost,
    MakeFailed,
    Planned,
    Pulse,
    Reaped,
    ReleaseRefused,
    Surveyed,
    TakeAnswered,
    Tick,
)
from chimera.swarm.coordinator.plan import Patience, RegionPlan
from chimera.swarm.coordinator.state import Child, LeaderState, SeatState, Shard, State
from chimera.swarm.health import Health
from chimera.swarm.reports import ChildInfo, Owner, RegionReport

#: states in which a leader may have shards
_MAY_HOLD = frozenset({LeaderState.UP, LeaderState.SUSPECT})


class Coordinator:
    """The machine. `saved` is what a former incarnation persisted; its owners may be gone."""

    def __init__(
        self,
        plan: RegionPlan,
        term: int,
        saved: Iterable[Seat] = (),
        patience: Patience | None = None,
    ) -> None:
        patience = patience or Patience()
        self.state = State(plan, term, patience, health=Health(patience.health))
        epochs = {seat.shard: seat.epoch for seat in saved}
        for number in plan.shards:
            self.state.shards[number] = Shard(number, epoch=epochs.get(number, 0))
        self.state.persisted = self.state.seats()

    def begin(self) -> list[Effect]:
        """The first effects."""
        return [Survey()]

    def step(self, event: Event, now: float) -> list[Effect]:
        """Take in one event at `now` (seconds, monotonic); returns what is to be done, in order."""
        state = self.state
        quiet = self._marks()
        match event:
            case Pulse():
                leaders.on_pulse(state, event, now)
            case Tick():
                leaders.on_tick(state, now)
                seats.overdue(state, now)
            case Lost():
                leaders.on_lost(state, event, now)
            case Looked():
                leaders.on_looked(state, event, now)
            case MakeFailed():
                leaders.on_make_failed(state, event, now)
            case TakeAnswered():
                seats.on_take_answered(state, event, now)
            case ReleaseRefused():
                seats.on_release_refused(state, event, now)
            case ConfigureRefused():
                leaders.on_configure_refused(state, event, now)
            case Reaped():
                leaders.on_reaped(state, event, now)
            case Surveyed():
                leaders.on_surveyed(state, event, now)
            case Planned():
                self._on_planned(event)
            case Deposed():
                state.plain.append(StepDown(event.reason))
        if state.surveyed and (isinstance(event, (Tick, Planned)) or self._marks() != quiet):
            # moving work comes first: nobody waits for a leader to be made again
            seats.let_go(state, now)
            seats.ask_for_former(state, now)
            seats.order_free(state, now)
            leaders.make_missing(state, now)
            leaders.configure(state, now)
            leaders.retire_surplus(state, now)
            seats.rebalance(state, now)
        return state.flush()

    def _marks(self) -> tuple[object, ...]:
        """What must have changed for anything to follow from an event that is no tick."""
        state = self.state
        return state.changes, state.surveyed, len(state.audits), len(state.orphans)

    def _on_planned(self, event: Planned) -> None:
        state = self.state
        if event.plan.generation < state.plan.generation:
            return  # an old spec, told late
        state.plan = event.plan
        for number in event.plan.shards:
            state.shards.setdefault(number, Shard(number))
        for name in event.plan.leader_names():
            state.leaders.setdefault(name, Child(name))
        state.audit("plan", event.plan.region, generation=event.plan.generation)

    def report(self, coordinator: str, process: Owner) -> RegionReport:
        """The region as it is seen now."""
        state = self.state
        held = [
            shard.state is SeatState.HELD and shard.info == "serving"
            for shard in state.shards.values()
            if seats.is_ours(state, shard)
        ]
        faults = [child.fault for child in state.leaders.values() if child.fault]
        faults += [
            f"shard {shard.number} lost acknowledged commits: see accept_lost_tail"
            for shard in state.shards.values()
            if shard.info == "lost_tail" and shard.state is SeatState.HELD
        ]
        reports = [
            child.report
            for _, child in sorted(state.leaders.items())
            if child.report is not None and child.state is not LeaderState.MISSING
        ]
        return RegionReport(
            coordinator=coordinator,
            region=state.plan.region,
            term=state.term,
            process=process,
            generation=state.plan.generation,
            ready=all(held) and all(report.ready for report in reports if report.shards),
            leaders=tuple(reports),
            placement={s.number: s.owner for s in state.shards.values() if s.owner},
            failovers=state.failovers,
            faults=tuple(faults),
            tally=state.tally,
            children={child.name: _info(child) for child in state.leaders.values()},
        )

    def check(self) -> None:
        """Raise ImpossibleStep unless every invariant holds."""
        state = self.state
        faults: list[str] = []
        for shard in state.shards.values():
            owner = state.leaders.get(shard.owner)
            if (shard.state is SeatState.FREE) != (not shard.owner):
                faults.append(f"shard {shard.number} is {shard.state.value} of {shard.owner!r}")
            if shard.owner and (owner is None or owner.state not in _MAY_HOLD):
                what = owner.state.value if owner else "unknown"
                faults.append(f"shard {shard.number} is with {shard.owner}, which is {what}")
        for child in state.leaders.values():
            if child.state in _MAY_HOLD and child.report is None:
                faults.append(f"{child.name} is {child.state.value} without a report")
            if (child.state is LeaderState.SUSPECT) != (child.scrutiny is not None):
                faults.append(f"{child.name} is {child.state.value}, its scrutiny is not")
        listed = {
            worker.name for c in state.up() if c.report is not None for worker in c.report.workers
        }
        if both := listed & state.orphans.keys():
            faults.append(f"{sorted(both)} have a leader and are orphans")
        moving = [s.number for s in state.shards.values() if s.bound_for]
        if len(moving) > 1:
            faults.append(f"shards {moving} move at the same time")
        if state.acts or state.audits or state.plain:
            faults.append("effects of a step were left behind")
        if faults:
            raise ImpossibleStep("; ".join(faults))


def _info(child: Child) -> ChildInfo:
    """What is to be said of a leader; one that is suspected keeps its shards for now."""
    holds = child.state in (LeaderState.UP, LeaderState.SUSPECT, LeaderState.RETIRING)
    return ChildInfo(child.state.value, holds, (child.fault,) if child.fault else ())
