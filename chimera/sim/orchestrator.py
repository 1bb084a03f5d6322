"""The simulated orchestrator: its machine, and what it does to coordinators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chimera import names
from chimera.client.ports import Gone
from chimera.errors import StaleTerm
from chimera.swarm import rosters
from chimera.swarm.orchestrator import Orchestrator
from chimera.swarm.orchestrator import effects as wants
from chimera.swarm.orchestrator import events as news
from chimera.swarm.orchestrator.start import declare
from chimera.swarm.reports import RegionReport
from chimera.swarm.spec import Spec

if TYPE_CHECKING:
    from chimera.sim.world import World
from chimera.sim.control import HOLD_S, MAKE_S, Actor, name_of
from chimera.sim.coordinator import CoordinatorProcess


class OrchestratorProcess(Actor):
    """One incarnation of the orchestrator."""

    def __init__(self, world: World, spec: Spec) -> None:
        super().__init__(world.kernel, names.ORCHESTRATOR, world.head)
        self.world = world
        self.kernel.born(self)
        self.store = world.stores[""]
        self.term = self.store.draw_term()
        carried_out = self.store.spec is not None
        self.machine = Orchestrator(declare(self.store.spec, spec, carried_out), self.term, "boot")
        self.children: dict[str, tuple[int, CoordinatorProcess]] = {}
        for effect in self.machine.begin(self.kernel.now):
            self._do(effect)
        self._tick()

    def ended(self) -> None:
        """Ray restarts it."""
        self.kernel.after(1.0 + self.kernel.dice(1.0), self.world.start_orchestrator)

    def _tick(self) -> None:
        self.later(self.machine.patience.health.tick_s, self._tick)
        self.step(news.Tick())

    def step(self, event: news.Event) -> None:
        if not self.alive:
            return
        made = self.machine.step(event, self.kernel.now)
        if self.world.plan.checked:
            self.machine.check()
        if made:
            done = " ".join(name_of(one) for one in made)
            self.kernel.note(self.name, f"{type(event).__name__} -> {done}")
        for effect in made:
            self._do(effect)

    def _do(self, effect: wants.Effect) -> None:
        match effect:
            case wants.Persist(audit, then, spec):
                if spec is not None and self.term == self.store.term:
                    self.store.spec = spec
                self.commit(audit, then, self._act)
            case wants.Survey():
                alive = tuple(self.kernel.names)
                self.later(self.kernel.dice(0.02), lambda: self.step(news.Surveyed(alive)))
            case wants.Attach(region, serial):
                self.later(self.kernel.dice(0.02), lambda: self._attach(region, serial))
            case wants.Knock(region, leaders):
                self._knock(region, leaders)
            case wants.Answer():
                pass
            case _:
                raise AssertionError(f"the simulator does not know {effect}")

    def _attach(self, region: str, serial: int) -> None:
        process = self.kernel.names.get(names.coordinator(region))
        if isinstance(process, CoordinatorProcess):
            self._watch(process, serial)
        else:
            self.step(news.Lost(region, serial, "nobody has its name", True))

    def _knock(self, region: str, leaders: tuple[str, ...]) -> None:
        heard: list[bool] = []
        for name in leaders:
            process = self.kernel.names.get(name)
            self.kernel.call(
                self, process, lambda reply: reply(True),
                lambda answer: heard.append(answer is True),
            )  # fmt: skip
        self.later(1.0, lambda: self.step(news.Knocked(region, any(heard))))

    def _configure(self, act: wants.Configure) -> None:
        serial, process = self.children.get(act.region, (0, None))
        if process is not None and serial == act.serial:
            self.kernel.call(
                self, process,
                lambda reply: process.configure(self.term, act.spec, act.generation),
                self._maybe_deposed,
            )  # fmt: skip

    def _maybe_deposed(self, answer: Any) -> None:
        if isinstance(answer, StaleTerm):
            self.kernel.counters["deposed"] += 1
            self.kernel.kill(self, answer.message)

    def _watch(self, process: CoordinatorProcess, serial: int) -> None:
        region = process.region
        self.children[region] = (serial, process)

        def poll(last: RegionReport | None) -> None:
            known = rosters.known(last)
            self.kernel.call(
                self, process,
                lambda reply: process.watch(self.term, HOLD_S, known, reply),
                lambda answer: done(answer, last), known,
            )  # fmt: skip

        def done(answer: Any, asked_with: RegionReport | None) -> None:
            if self.children.get(region) != (serial, process):
                return
            if isinstance(answer, Gone):
                del self.children[region]
                self.step(news.Lost(region, serial, str(answer), True))
            elif isinstance(answer, BaseException):
                self._maybe_deposed(answer)
            else:
                process.spoke_at = self.kernel.now
                report = rosters.whole(answer, asked_with)
                self.step(news.Pulse(region, serial, report))
                poll(report)

        poll(None)

    def _act(self, act: wants.Act) -> None:
        match act:
            case wants.Make():
                self.later(self.kernel.dice(MAKE_S), lambda: self._make(act))
            case wants.Configure():
                self._configure(act)
            case wants.End(region, serial, owner):
                name = names.coordinator(region)
                target = self.kernel.names.get(name) if owner is None else (
                    self.kernel.alive(owner))  # fmt: skip
                gone = self.end(target)
                self.later(0.05, lambda: self.step(news.Ended(region, serial, gone)))
            case wants.Answer():
                pass
            case _:
                raise AssertionError(f"the simulator does not know {act}")

    def _make(self, act: wants.Make) -> None:
        name, host = names.coordinator(act.region), act.region
        if self.kernel.names.get(name) is not None:
            self.step(news.MakeFailed(act.region, act.serial, "its name is taken", True))
        elif host in self.kernel.down or (self.host, host) in self.kernel.cut:
            self.step(news.MakeFailed(act.region, act.serial, "its node is away", False))
        else:
            self.kernel.counters["coordinator_made"] += 1
            made = CoordinatorProcess(self.world, act.region, host, act.spec, act.generation)
            self._watch(made, act.serial)
