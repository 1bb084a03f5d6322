"""A swarm's control plane in memory: a store, coordinators that obey at once, and an orchestrator
that may die between any two steps of what it does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from chimera import names
from chimera.swarm import spec as specs
from chimera.swarm.orchestrator import Orchestrator, events
from chimera.swarm.orchestrator.effects import (
    Answer,
    Attach,
    Configure,
    End,
    Make,
    Persist,
    Retire,
    Survey,
)
from chimera.swarm.orchestrator.plan import plan
from chimera.swarm.orchestrator.start import declare
from chimera.swarm.reports import LeaderReport, Owner, RegionReport, ShardInfo, WorkerInfo
from chimera.swarm.spec import Spec

TICK_S = 0.5


class Killed(Exception):
    """kill -9 of the orchestrator."""


@dataclass
class Store:
    """What survives the orchestrator."""

    spec: Spec | None = None
    generation: int = 0
    audit: list[tuple[str, str]] = field(default_factory=list)
    terms: int = 0


@dataclass
class Coordinator:
    """One that brings about what it is told in no time."""

    region: str
    spec: Spec
    generation: int

    def report(self) -> RegionReport:
        process = Owner(names.coordinator(self.region), "boot", 1, 7, 7, "node")
        region_plan = specs.region_plan(self.spec, self.region, self.generation)
        found = region_plan.leader_names()
        leaders = []
        for index, name in enumerate(found):
            workers = tuple(
                WorkerInfo(
                    names.worker(name, f"a-{i}"), process, None, region_plan.template.revision
                )
                for i in range(region_plan.template.workers)
            )
            shards = tuple(
                ShardInfo(s, 1, "serving", 0) for s in region_plan.shards[index :: len(found)]
            )
            leaders.append(LeaderReport(name, process, self.generation, True, shards, workers, {}))
        return RegionReport(
            process.name, self.region, 1, process, self.generation, True, tuple(leaders), {}, 0
        )


class World:
    """Kills the orchestrator at the `kill_at`th moment between two steps; None: never."""

    def __init__(self, first: Spec, kill_at: int | None = None) -> None:
        self.first, self.kill_at = first, kill_at
        self.store = Store()
        self.coordinators: dict[str, Coordinator] = {}
        self.now, self.moments, self.deaths = 0.0, 0, 0
        self.inbox: list[events.Event] = []
        self.answers: dict[int, Any] = {}
        self.unaudited: list[Any] = []
        self.boot()

    def boot(self) -> None:
        """Another incarnation; it may die as it begins."""
        while True:
            stored = (self.store.generation, self.store.spec) if self.store.spec else None
            declared = declare(stored, self.first, carried_out=stored is not None)
            self.store.terms += 1
            self.machine = Orchestrator(declared, self.store.terms, "up 1")
            self.serials: dict[str, int] = {}  #: watched coordinators
            self.inbox = []
            try:
                for effect in self.machine.begin(self.now):
                    self.do(effect)
            except Killed:
                continue
            return

    def between(self) -> None:
        """A moment between two steps."""
        self.moments += 1
        if self.moments - 1 == self.kill_at:
            self.deaths += 1
            raise Killed

    def tell(self, event: events.Event) -> bool:
        """One event; False if the orchestrator died of it."""
        try:
            for effect in self.machine.step(event, self.now):
                self.do(effect)
            self.machine.check()
        except Killed:
            self.boot()
            return False
        return True

    def do(self, effect: Any) -> None:
        self.between()
        match effect:
            case Persist():
                self.store.audit += [(one.action, one.subject) for one in effect.audit]
                if effect.spec is not None:
                    self.store.generation, self.store.spec = effect.spec
                told = {one.subject for one in effect.audit}
                for act in effect.then:
                    self.between()
                    self.act(act, told)
            case Survey():
                alive = tuple(names.coordinator(region) for region in self.coordinators)
                self.inbox.append(events.Surveyed(alive))
            case Attach(region, serial):
                self.serials[region] = serial
            case Answer():
                self.answers[effect.cause] = effect
            case _:
                self.unaudited.append(effect)

    def act(self, act: Any, audited: set[str]) -> None:
        """Something in the world: the store has it in the audit log already."""
        match act:
            case Answer():
                self.answers[act.cause] = act
                return
            case Make(region, serial, spec, generation):
                assert region not in self.coordinators, "made although it lives"
                self.coordinators[region] = Coordinator(region, spec, generation)
                self.serials[region] = serial
            case Configure(region, _, spec, generation):
                found = self.coordinators[region]
                if generation > found.generation:
                    found.spec, found.generation = spec, generation
            case End(region, serial, _) | Retire(region, serial, _):
                self.coordinators.pop(region, None)
                self.inbox.append(events.Ended(region, serial, gone=True))
        held = [
            shard
            for one in self.coordinators.values()
            for shard in specs.region_shards(one.spec, one.region)
        ]
        assert len(held) == len(set(held)), f"a shard is with two regions: {held}"
        if not {names.coordinator(act.region), self.first.name, *self.ordered} & audited:
            self.unaudited.append(act)

    #: what orders are about: their entry stands for what follows at once
    ordered: tuple[str, ...] = ()

    def run(self, seconds: float = 10.0) -> None:
        """Let time pass: coordinators speak, the orchestrator ticks."""
        for _ in range(round(seconds / TICK_S)):
            self.now += TICK_S
            while self.inbox:
                self.tell(self.inbox.pop(0))
            for region, found in list(self.coordinators.items()):
                if region in self.serials:
                    self.tell(events.Pulse(region, self.serials[region], found.report()))
            self.tell(events.Tick())

    def ask(self, make: Any, cause: int) -> Answer:
        """An order by a person, who repeats it until there is an answer."""
        for _ in range(5):
            self.tell(make(cause))
            if cause in self.answers:
                return self.answers[cause]
            self.run(1.0)
        raise AssertionError("no answer")

    def left(self) -> list[str]:
        """What is yet to be done."""
        return list(map(str, plan(self.machine.wanted(), self.machine.seen())))
