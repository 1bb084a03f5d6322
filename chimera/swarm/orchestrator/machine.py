"""A swarm's orchestrator: holds the spec, keeps one coordinator a region alive, and says how it is.

Holds G8 and G9: what is declared is durable and audited before anything is done about it, and every
incarnation brings it about again. It never slows a task: nothing of the data path knows it.
Events go in, effects come out: no clock, no I/O.
"""

from __future__ import annotations

from chimera import names
from chimera.errors import ChimeraError, ImpossibleStep, NotReady
from chimera.swarm import spec as specs
from chimera.swarm.budget import Budgets
from chimera.swarm.coordinator.effects import Audit
from chimera.swarm.health import Health
from chimera.swarm.orchestrator import regions, view
from chimera.swarm.orchestrator.conditions import Conditions
from chimera.swarm.orchestrator.effects import (
    Act,
    Answer,
    Attach,
    Configure,
    Effect,
    End,
    Make,
    Persist,
    Retire,
    Survey,
)
from chimera.swarm.orchestrator.events import (
    Apply,
    Ended,
    Event,
    Knocked,
    Lost,
    MakeFailed,
    Operate,
    Pulse,
    Stop,
    Surveyed,
    Tick,
)
from chimera.swarm.orchestrator.plan import Seen, Wanted, coordinators
from chimera.swarm.orchestrator.rehome import rehomed
from chimera.swarm.orchestrator.start import Declared
from chimera.swarm.orchestrator.state import TABLE, Child, ChildState, Patience
from chimera.swarm.orchestrator.wishes import Wish, wish
from chimera.swarm.orders import Ordered
from chimera.swarm.restart import next_restart
from chimera.swarm.story import Story

#: between two looks at what holds
LOOK_S = 0.5

_UNHEARD = (ChildState.MAKING, ChildState.FOUND, ChildState.AWAY)


class Orchestrator:
    """The machine. `declared` is what it starts with, `order` who ordered that."""

    def __init__(
        self, declared: Declared, term: int, order: str, patience: Patience | None = None
    ) -> None:
        self.spec = declared.spec
        self.generation = declared.generation
        self.term = term
        self.patience = patience or Patience()
        self.children = {region.name: Child(region.name) for region in declared.spec.regions}
        self.health = Health(self.patience.health)
        self.story = Story()
        self.surveyed = False
        self.stopping: list[int] = []  #: causes of the stops to be answered
        self.ready = False
        self.ready_since = 0.0
        self.conditions = Conditions()
        self.budgets = Budgets()
        self._declared, self._order = declared, order
        self._acts: list[Act] = []
        self._audits: list[Audit] = []
        self._plain: list[Effect] = []
        self._by = ""  #: who declared another spec in this step; empty: nobody did
        self._serials = 0

    def begin(self, now: float) -> list[Effect]:
        """The first effects."""
        self.ready_since = now
        self._audit("boot", self.spec.name, generation=self.generation)
        declared = (self.generation, self.spec) if self._declared.new else None
        boot = Persist(tuple(self._audits), (), declared, self._order)
        self._audits = []
        return [boot, Survey()]

    def step(self, event: Event, now: float) -> list[Effect]:
        """Take in one event at `now` (seconds, monotonic); returns what is to be done, in order."""
        match event:
            case Apply() | Operate():
                return self._on_declare(event, now)
            case Ended():
                self._on_ended(event, now)
            case Knocked():
                self._on_knocked(event, now)
            case Lost():
                self._on_lost(event, now)
            case MakeFailed():
                self._on_make_failed(event, now)
            case Pulse():
                self._on_pulse(event, now)
            case Stop():
                self._on_stop(event)
            case Surveyed():
                self._on_surveyed(event, now)
            case Tick():
                self._on_tick(now)
                if now - self.conditions.looked_at >= LOOK_S:
                    self.look(now)
        if self.surveyed:
            self._converge(now)
        self._judge(now)
        return self._flush()

    # events, by name

    def _on_declare(self, event: Apply | Operate, now: float) -> list[Effect]:
        try:
            if self.stopping:
                raise NotReady("the swarm is being stopped")
            wished = wish(self.spec, self.generation, event, self.children.values())
        except ChimeraError as fault:
            return [Answer(event.cause, error=fault)]
        changes = specs.changes(self.spec, wished.spec)
        answer = Answer(event.cause, Ordered(self.generation + bool(changes), changes))
        if not changes:
            return [answer]
        self._declare(wished, event.by, now)
        self._acts.append(answer)
        self._judge(now)
        return self._flush()

    def _on_ended(self, event: Ended, now: float) -> None:
        child = self._current(event.region, event.serial)
        if child is None or child.state is ChildState.MISSING:
            return
        if event.gone:
            self._bury(child, now, event.fault or "ended")
            return
        if child.state not in (ChildState.SILENT, ChildState.RETIRING):
            return  # it spoke again, and was spared
        child.fault = f"cannot be ended: {event.fault}"
        if child.state is ChildState.RETIRING:
            self._become(child, ChildState.SILENT, now, child.fault)
        child.end_at = now + self.patience.end_again_s

    def _on_knocked(self, event: Knocked, now: float) -> None:
        child = self.children[event.region]
        if event.answered and regions.heard(child, now):
            self._audit("region_back", child.region)

    def _on_lost(self, event: Lost, now: float) -> None:
        child = self._current(event.region, event.serial)
        if child is None or child.state in (ChildState.MISSING, ChildState.RETIRING):
            return  # what retires is heard of once more, with `Ended`
        if event.dead or self._is_linked(child):  # a link is made anew
            self._bury(child, now, event.reason)
        elif child.state is not ChildState.SILENT:
            self._end(child, now, event.reason)

    def _on_make_failed(self, event: MakeFailed, now: float) -> None:
        child = self._current(event.region, event.serial)
        if child is None or child.state is not ChildState.MAKING:
            return
        if event.taken:  # it lives after all, or is being buried: the watch will tell
            self._attach(child, now, "its name is taken")
        else:
            self._bury(child, now, event.reason)

    def _on_pulse(self, event: Pulse, now: float) -> None:
        child = self._current(event.region, event.serial)
        if child is None or child.state in (ChildState.MISSING, ChildState.RETIRING):
            return
        child.report, child.reported_at, child.fault = event.report, now, ""
        if regions.heard(child, now):
            self._audit("region_back", child.region)
        if child.state in _UNHEARD:
            self.health.expect(child.region, now)
        else:
            self.health.pulse(child.region, now)
        if child.state is not ChildState.UP:
            self._become(child, ChildState.UP, now, "spoke")
        if event.report.generation > self.generation:
            child.fault = (
                f"works by generation {event.report.generation} of the spec, which this store has"
                f" only up to {self.generation}: was an old copy brought back?"
            )

    def _on_stop(self, event: Stop) -> None:
        self._audit("stop", self.spec.name, by=event.by)
        self.stopping.append(event.cause)

    def _on_surveyed(self, event: Surveyed, now: float) -> None:
        if self.surveyed:
            return
        self.surveyed = True
        for child in self.children.values():
            if names.coordinator(child.region) in event.alive:
                self._attach(child, now, "found alive")

    def _on_tick(self, now: float) -> None:
        silent = self.health.tick(now)
        for region in (*silent, *regions.mute(self.children.values(), self.spec, self.health, now)):
            child = self.children[region]
            if child.state is ChildState.UP and self._is_linked(child):
                self._leave(child, now, f"not heard for {self.health.silence(region, now):.1f} s")
            elif child.state is ChildState.UP:
                self._end(child, now, f"silent for {self.health.silence(region, now):.1f} s")
        for child in self.children.values():
            waited = now - child.since
            if child.state is ChildState.MAKING and waited >= self.patience.make_s:
                self._end(child, now, f"said nothing for {waited:.0f} s after it was made")
            elif child.state is ChildState.FOUND and waited >= self.patience.found_s:
                self._end(child, now, f"said nothing for {waited:.0f} s after it was found")
            elif child.state is ChildState.RETIRING and waited >= self.patience.retire_s:
                self._end(child, now, f"did not retire within {waited:.0f} s")
            elif child.state is ChildState.SILENT and now >= child.end_at:
                self._end_again(child, now)
            if self.surveyed and not self.stopping:
                self._look_for_region(child, now)

    # what follows from the state as a whole

    def _converge(self, now: float) -> None:
        for action in coordinators(self.wanted(), self.seen()):
            child = self.children[names.region(action.subject)]
            match action.verb:
                case "retire" if child.report is not None:
                    self._audit("retire", action.subject)
                    self._acts.append(Retire(child.region, child.serial, child.report.process))
                    self.health.forget(child.region)
                    self._become(child, ChildState.RETIRING, now, action.why)
                case "leave" if child.state is ChildState.AWAY:
                    child.fault = "out of reach when the swarm was stopped: it lives on"
                    self._bury(child, now, child.fault)
                case "make" if child.state is ChildState.MISSING and now >= child.retry_at:
                    self._make(child, now)
                case "reach" if child.state is ChildState.MISSING and now >= child.retry_at:
                    self._leave(child, now, "not heard over its link yet")
                case "configure" if now - child.told_at >= self.patience.configure_s:
                    self._audit("configure", action.subject, generation=self.generation)
                    self._acts.append(self._configure(child, now))
        moved = None if self.stopping else rehomed(self.spec, self.generation, self.seen())
        if moved is not None:
            self._declare(Wish(moved, "rehome", self.spec.name), names.ORCHESTRATOR, now)
        if self.stopping and self.is_stopped():
            self._acts += [Answer(cause) for cause in self.stopping if cause >= 0]
            self.stopping = [-1]  # stopped for good: nothing is made again

    def is_stopped(self) -> bool:
        """Whether a stop was asked for and nothing below lives."""
        missing = all(child.state is ChildState.MISSING for child in self.children.values())
        return bool(self.stopping) and missing

    def _judge(self, now: float) -> None:
        ready = not self.waiting_for()
        if ready != self.ready:
            self.ready, self.ready_since = ready, now

    def look(self, now: float) -> None:
        """Note what holds now, so that it is known since when."""
        self.budgets.look(self.spec.slos, (one.report for one in self.children.values()), now)
        self.conditions.look(view.conditions_of(self, now), now)

    def wanted(self) -> Wanted:
        """What is declared, as `plan` takes it."""
        return Wanted(self.spec, self.generation, bool(self.stopping))

    def seen(self) -> dict[str, Seen]:
        """What is observed, as `plan` takes it."""
        return {
            name: Seen(child.state, child.report, child.lost)
            for name, child in self.children.items()
        }

    def waiting_for(self) -> str:
        """What is missing for the swarm to be ready; empty: nothing."""
        if self.stopping:
            return "the end" if not self.is_stopped() else "nobody: it is stopped"
        for region in self.spec.regions:
            missing = regions.missing(self.spec, self.children[region.name], self.generation)
            if missing:
                return f"region {region.name}: {missing}"
        return ""

    def faults(self) -> tuple[str, ...]:
        """What a person should see."""
        return regions.faults(self.children.values(), specs.is_shared(self.spec))

    # steps

    def _declare(self, wished: Wish, by: str, now: float) -> None:
        """Make another spec the declared one, and tell it to all coordinators."""
        told = {one.key: [one.old, one.new] for one in specs.changes(self.spec, wished.spec)}
        self.spec, self.generation, self._by = wished.spec, self.generation + 1, by
        self._audit(wished.action, wished.subject, by=by, generation=self.generation, changes=told)
        up = [child for child in self.children.values() if child.state is ChildState.UP]
        self._acts += [self._configure(child, now) for child in up]

    def _attach(self, child: Child, now: float, why: str) -> None:
        child.serial = self._next_serial()
        self._become(child, ChildState.FOUND, now, why)
        self._plain.append(Attach(child.region, child.serial))

    def _bury(self, child: Child, now: float, why: str) -> None:
        self.health.forget(child.region)
        if self.stopping:
            self._become(child, ChildState.MISSING, now, why)
            return
        restart = next_restart(child.recent, now, self.patience.restart)
        child.recent, child.retry_at = restart.recent, restart.at
        often = ", and has died too often lately" if restart.exceeded else ""
        child.fault = f"{why}{often}"
        self._audit("coordinator_lost", names.coordinator(child.region), reason=why)
        self._become(child, ChildState.MISSING, now, why)

    def _configure(self, child: Child, now: float) -> Configure:
        child.told_at = now
        return Configure(child.region, child.serial, self.spec, self.generation)

    def _end(self, child: Child, now: float, why: str) -> None:
        child.fault = why
        self._become(child, ChildState.SILENT, now, why)
        self._end_again(child, now)

    def _end_again(self, child: Child, now: float) -> None:
        child.end_at = now + self.patience.end_again_s
        process = child.report.process if child.report is not None else None
        self._audit("end", names.coordinator(child.region), reason=child.fault)
        self._acts.append(End(child.region, child.serial, process))

    def _leave(self, child: Child, now: float, why: str) -> None:
        """Wait for a region in another Ray cluster; its link is tried for ever."""
        child.fault = why
        self.health.forget(child.region)
        if child.state is ChildState.MISSING:
            child.serial = self._next_serial()
            self._plain.append(regions.attach(child, self.spec))
        self._become(child, ChildState.AWAY, now, why)

    def _look_for_region(self, child: Child, now: float) -> None:
        knock = regions.knock(child, now, self.spec, self.patience)
        if knock is not None:
            self._plain.append(knock)
        if regions.is_lost(child, now, self.spec.region_timeout_s):
            self._audit("region_lost", child.region, silent_s=self.spec.region_timeout_s)

    def _is_linked(self, child: Child) -> bool:
        return bool(self.spec.region(child.region).link)

    def _make(self, child: Child, now: float) -> None:
        child.serial = self._next_serial()
        child.report = None
        self._audit("make", names.coordinator(child.region), generation=self.generation)
        self._acts.append(Make(child.region, child.serial, self.spec, self.generation))
        self._become(child, ChildState.MAKING, now, "made")

    # helpers

    def _audit(self, action: str, subject: str, **detail: object) -> None:
        self._audits.append(Audit(action, subject, {"term": self.term, **detail}))

    def _become(self, child: Child, state: ChildState, now: float, why: str) -> None:
        key = names.coordinator(child.region)
        if state not in TABLE[child.state]:
            raise ImpossibleStep(
                f"{key} cannot go from {child.state.value} to {state.value} ({why}); "
                f"before: {self.story.tell(key)}"
            )
        self.story.note(key, now, f"{child.state.value} → {state.value}: {why}")
        child.state, child.since = state, now

    def _current(self, region: str, serial: int) -> Child | None:
        child = self.children[region]
        return child if child.serial == serial else None

    def _flush(self) -> list[Effect]:
        effects: list[Effect] = []
        if self._acts or self._audits:
            spec = (self.generation, self.spec) if self._by else None
            effects.append(Persist(tuple(self._audits), tuple(self._acts), spec, self._by))
        effects += self._plain
        self._acts, self._audits, self._plain, self._by = [], [], [], ""
        return effects

    def _next_serial(self) -> int:
        self._serials += 1
        return self._serials

    def check(self) -> None:
        """Raise ImpossibleStep unless every invariant holds."""
        left = bool(self._acts or self._audits or self._plain)
        if faults := list(view.broken(self, left)):
            raise ImpossibleStep("; ".join(faults))
