"""A simulated coordinator: its machine, and what it does to leaders and workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chimera import names
from chimera.client.ports import Gone
from chimera.errors import StaleEpoch, StaleTerm
from chimera.sim.kernel import Reply
from chimera.sim.leader import LeaderProcess
from chimera.sim.worker import WorkerProcess
from chimera.swarm import rosters
from chimera.swarm.coordinator import Coordinator, effects, events
from chimera.swarm.reports import LeaderReport, RegionReport
from chimera.swarm.rosters import Known
from chimera.swarm.spec import Spec, region_plan

if TYPE_CHECKING:
    from chimera.sim.world import World
from chimera.sim.control import HOLD_S, MAKE_S, SILENCE_S, Actor, name_of


class CoordinatorProcess(Actor):
    """One coordinator process."""

    def __init__(self, world: World, region: str, host: str, spec: Spec, generation: int) -> None:
        super().__init__(world.kernel, names.coordinator(region), host)
        self.world, self.region, self.spec = world, region, spec
        self.kernel.born(self)
        self.store = world.stores[region]
        self.term = self.store.draw_term()
        plan = region_plan(spec, region, generation)
        self.machine = Coordinator(plan, self.term, self.store.placement)
        self.children: dict[str, tuple[int, LeaderProcess]] = {}
        self.heard_at = self.kernel.now
        for effect in self.machine.begin():
            self._do(effect)
        self._tick()
        self._guard()

    def _tick(self) -> None:
        self.later(self.machine.state.patience.health.tick_s, self._tick)
        self.step(events.Tick())

    def step(self, event: events.Event) -> None:
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

    def report(self) -> RegionReport:
        return self.machine.report(self.name, self.owner)

    def _do(self, effect: effects.Effect) -> None:
        match effect:
            case effects.Persist(placement, audit, then):
                if self.term == self.store.term:
                    self.store.placement = placement or self.store.placement
                self.commit(audit, then, self._act)
            case effects.Survey(makers, living):
                self.later(self.kernel.dice(0.02), lambda: self._survey(makers, living))
            case effects.Attach(leader, serial):
                self.later(self.kernel.dice(0.02), lambda: self._attach(leader, serial))
            case effects.Look(leader, serial, process):
                self.later(0.0, lambda: self._look(leader, serial, process.pid))
            case effects.StepDown(reason):
                self.kernel.counters["deposed"] += 1
                self.kernel.kill(self, reason)
            case _:
                raise AssertionError(f"the simulator does not know {effect}")

    def _survey(self, makers: tuple[str, ...], living: tuple[str, ...]) -> None:
        found = [p for p in self.kernel.processes.values()
                 if p.name.count("/") and names.region(p.name) == self.region]  # fmt: skip
        leaders = tuple(p.name for p in found if isinstance(p, LeaderProcess))
        strays = tuple(
            p.info
            for p in found
            if isinstance(p, WorkerProcess) and names.is_stray(p.name, leaders, makers, living)
        )
        self.step(events.Surveyed(leaders, strays))

    def _attach(self, leader: str, serial: int) -> None:
        process = self.kernel.names.get(leader)
        if isinstance(process, LeaderProcess):
            self._watch(process, serial)
        else:
            self.step(events.Lost(leader, serial, "nobody has its name", True))

    def _look(self, leader: str, serial: int, pid: int) -> None:
        process = self.kernel.processes.get(pid)
        state = None if process is None else "T" if process.paused else "S"
        ticks = int(self.kernel.now * 100)
        self.step(events.Looked(leader, serial, True, state, ticks))

    def _watch(self, process: LeaderProcess, serial: int) -> None:
        self.children[process.name] = (serial, process)

        def poll(last: LeaderReport | None) -> None:
            known = rosters.known(last)
            self.kernel.call(
                self, process,
                lambda reply: process.watch(self.term, HOLD_S, known, reply),
                lambda answer: done(answer, last), known,
            )  # fmt: skip

        def done(answer: Any, asked_with: LeaderReport | None) -> None:
            if self.children.get(process.name) != (serial, process):
                return
            if isinstance(answer, StaleTerm):
                self.step(events.Deposed(answer.message))
            elif isinstance(answer, Gone):
                del self.children[process.name]
                self.step(events.Lost(process.name, serial, str(answer), True))
            else:
                process.spoke_at = self.kernel.now
                if asked_with is not None:
                    self.kernel.counters["roster_known"] += bool(answer.brief)
                    self.kernel.counters["roster_changed"] += not answer.brief
                report = rosters.whole(answer, asked_with)
                self.step(events.Pulse(process.name, serial, report))
                poll(report)

        poll(None)

    def _act(self, act: effects.Act) -> None:
        self.kernel.counters[f"act_{type(act).__name__.lower()}"] += 1
        match act:
            case effects.Make():
                self.later(self.kernel.dice(MAKE_S), lambda: self._make(act))
            case effects.Take(leader, serial, order):
                self.world.oracle.ordered.add((leader, order.shard, order.epoch))
                self._call(leader, serial, lambda process: process.take(order),
                           lambda answer: self._take_answered(act, answer))  # fmt: skip
            case effects.Release(leader, serial, term, shard, finish):
                self._call(leader, serial, lambda process: process.release(term, shard, finish),
                           lambda answer: self._refused(answer, events.ReleaseRefused(
                               leader, serial, shard, str(answer))))  # fmt: skip
            case effects.Configure(leader, serial, config):
                self._call(leader, serial, lambda process: process.configure(self.term, config),
                           lambda answer: self._refused(answer, events.ConfigureRefused(
                               leader, serial, str(answer))))  # fmt: skip
            case effects.Retire(leader, serial):
                _, process = self.children.get(leader, (0, None))
                self._call(leader, serial, lambda one: one.retire(self.term), lambda _: None)
                if process is not None:
                    self.later(0.1, lambda: self.kernel.kill(process, "retired"))
            case effects.End(leader, _, owner):
                found = self.kernel.names.get(leader) if owner is None else (
                    self.kernel.alive(owner))  # fmt: skip
                self.end(found)
            case effects.Reap(worker):
                stray = self.kernel.alive(worker.process)
                if stray is not None:
                    self.kernel.counters["worker_reaped"] += 1
                    self.kernel.kill(stray, "reaped")
                self.later(0.01, lambda: self.step(events.Reaped(worker.name, True)))
            case _:
                raise AssertionError(f"the simulator does not know {act}")

    def _make(self, act: effects.Make) -> None:
        if self.kernel.names.get(act.leader) is not None:
            self.step(events.MakeFailed(act.leader, act.serial, "its name is taken", True))
            return
        made = LeaderProcess(self.world, act.leader, self.host, act.config)
        self.kernel.counters["leader_made"] += 1
        self._watch(made, act.serial)

    def _call(self, leader: str, serial: int, do: Callable[[LeaderProcess], Any],
              done: Reply) -> None:  # fmt: skip
        known, process = self.children.get(leader, (0, None))
        if process is None or known != serial:
            done(Gone("it is not there"))
        else:
            self.kernel.call(self, process, lambda reply: reply(do(process)), done)

    def _take_answered(self, act: effects.Take, answer: Any) -> None:
        order = act.order
        told = (act.leader, act.serial, order.shard, order.epoch)
        if isinstance(answer, StaleTerm):
            self.step(events.Deposed(answer.message))
        elif isinstance(answer, StaleEpoch):
            actual = int(answer.details["epoch"])
            by = answer.details["owner"]
            self.step(events.TakeAnswered(*told, answer.message, actual, by))
        else:
            refusal = str(answer) if isinstance(answer, BaseException) else ""
            self.step(events.TakeAnswered(*told, refusal))

    def _refused(self, answer: Any, event: events.Event) -> None:
        if isinstance(answer, StaleTerm):
            self.step(events.Deposed(answer.message))
        elif isinstance(answer, BaseException):
            self.step(event)

    # the orchestrator

    def heed(self, term: int) -> None:
        """Refuse an orchestrator that has a successor. Raises StaleTerm."""
        if term < self.store.heeded:
            self.kernel.counters["stale_orchestrator_refused"] += 1
            raise StaleTerm(f"term {term} is below {self.store.heeded}")
        self.store.heeded = term

    def _obey(self, term: int) -> None:
        self.heed(term)
        self.world.oracle.obeyed(self.name, term)

    def watch(self, term: int, hold_s: float, known: Known, reply: Reply) -> None:
        """The region's report, without the rosters that are known. Raises StaleTerm."""
        self._obey(term)
        self.heard_at = self.kernel.now
        self.later(hold_s, lambda: reply(rosters.brief(self.report(), known)))

    def configure(self, term: int, spec: Spec, generation: int) -> None:
        """Bring about a new spec. Raises StaleTerm."""
        self._obey(term)
        self.spec = spec
        self.step(events.Planned(region_plan(spec, self.region, generation)))

    def _guard(self) -> None:
        """End an orchestrator that is silent: Ray never notices a pause (P19)."""
        self.later(0.5, self._guard)
        silent = self.kernel.now - self.heard_at
        target = self.kernel.names.get(names.ORCHESTRATOR)
        if silent > SILENCE_S and target is not None and target.paused:
            self.store.audit.append(effects.Audit("end", names.ORCHESTRATOR))
            self.heard_at = self.kernel.now
            self.kernel.counters["orchestrator_ended"] += 1
            self.kernel.kill(target, f"by {self.name}")
