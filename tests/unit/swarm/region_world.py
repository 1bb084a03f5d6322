"""A region in virtual time: leaders, journals and processes that a coordinator's machine acts on.

It holds what must never happen: an order from a stale term obeyed, a shard with two owners at one
epoch, an act before its audit. `healthy` leaders must never be ended.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any

from chimera import names
from chimera.swarm.coordinator import Coordinator, Patience, RegionPlan
from chimera.swarm.coordinator.effects import (
    Attach,
    Audit,
    Configure,
    End,
    Look,
    Make,
    Persist,
    Reap,
    Release,
    Retire,
    Seat,
    StepDown,
    Survey,
    Take,
)
from chimera.swarm.coordinator.events import (
    Deposed,
    Event,
    Looked,
    Lost,
    MakeFailed,
    Pulse,
    Reaped,
    Surveyed,
    TakeAnswered,
    Tick,
)
from chimera.swarm.reports import LeaderConfig, Owner, TakeOrder, WorkerInfo
from tests.unit.swarm.region_fakes import FakeLeader, plan

__all__ = ["World", "plan"]


class World:
    """Runs a machine against fake leaders until what a test waits for holds."""

    MAKE_S, TAKE_S, DRAIN_S, PULSE_S, TICK_S, SURPLUS_S = 1.0, 0.05, 0.1, 0.1, 0.025, 1.0
    LEASE_S = 30.0

    def __init__(self, wanted: RegionPlan, **patience: Any) -> None:
        self.now = 100.0
        self.patience = Patience(**patience)
        self.wanted = wanted
        self.term = 0
        self.saved: tuple[Seat, ...] = ()
        self.audits: list[Audit] = []
        self.acts: list[Any] = []
        self.leaders: dict[str, FakeLeader] = {}
        self.workers: dict[str, WorkerInfo] = {}  #: living ones
        self.home: dict[str, FakeLeader] = {}  #: worker → the leader that has it
        self.journals: dict[int, tuple[int, FakeLeader | None]] = {}
        self.ended: list[str] = []
        self.ready_at_start = True
        self.make_fails: dict[str, str] = {}
        self.deposed = ""
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._pids = itertools.count(1000)
        self.new_coordinator()

    # the coordinator

    def new_coordinator(self) -> None:
        """A new incarnation takes over; the former one is never heard again."""
        self.term += 1
        self.deposed = ""
        self.machine = Coordinator(self.wanted, self.term, self.saved, self.patience)
        life = self.machine
        for leader in self.leaders.values():
            leader.watcher = 0
        self._do(self.machine.begin(), life)
        self._tick(life)

    def _tick(self, life: Coordinator) -> None:
        if life is self.machine:
            self.tell(Tick(), life)
            self.after(self.TICK_S, lambda: self._tick(life))

    def tell(self, event: Event, life: Coordinator | None = None) -> None:
        life = life or self.machine
        if life is not self.machine or self.deposed:
            return
        effects = life.step(event, self.now)
        life.check()
        self._do(effects, life)

    def _do(self, effects: list[Any], life: Coordinator) -> None:
        for effect in effects:
            match effect:
                case Persist(placement, audit, then):
                    assert len(audit) >= len(then), "every act has its audit entry"
                    self.saved = placement or self.saved
                    self.audits += audit
                    for act in then:
                        self.acts.append(act)
                        self._act(act, life)
                case Survey(makers):
                    self.after(0.01, lambda asked=makers: self._survey(asked, life))
                case Attach(name, serial):
                    self.after(0.01, lambda n=name, s=serial: self._attach(n, s, life))
                case Look(name, serial):
                    self.after(0.001, lambda n=name, s=serial: self._look(n, s, life))
                case StepDown(reason):
                    self.deposed = reason

    def _survey(self, makers: tuple[str, ...], life: Coordinator) -> None:
        alive = tuple(sorted(leader.name for leader in self.living()))
        lost = tuple(
            worker
            for name, worker in sorted(self.workers.items())
            if names.leader(*_maker(name)) not in alive or names.leader(*_maker(name)) in makers
        )
        self.tell(Surveyed(alive, lost), life)

    def _attach(self, name: str, serial: int, life: Coordinator) -> None:
        leader = self.leaders.get(name)
        if leader is None or leader.dead:
            self.tell(Lost(name, serial, "no such actor", dead=True), life)
        else:
            leader.watcher = serial
            self._pulse(leader, serial, life)

    def _look(self, name: str, serial: int, life: Coordinator) -> None:
        leader = self.leaders[name]
        state = None if leader.dead else "T" if leader.paused else "S"
        ticks = int(self.now * 100)
        self.tell(Looked(name, serial, here=True, state=state, cpu_ticks=ticks), life)

    def _act(self, act: Any, life: Coordinator) -> None:
        leader = self.leaders.get(act.leader) if not isinstance(act, Reap) else None
        match act:
            case Make():
                self.after(self.MAKE_S, lambda: self._made(act, life))
            case Take(_, serial, order):
                self._call(leader, lambda: self._take(leader, serial, order, life))
            case Release(_, _, term, shard):
                self._call(leader, lambda: self._release(leader, term, shard))
            case Configure(_, _, config):
                self._call(leader, lambda: self._configure(leader, config))
            case Retire():
                self.after(0.05, lambda: self.kill(act.leader))
            case End(name):
                self.after(0.01, lambda: self._end(name))
            case Reap(worker):
                self.end_worker(worker.name)
                self.after(0.01, lambda: self.tell(Reaped(worker.name, True), life))

    def _call(self, leader: FakeLeader | None, what: Callable[[], None], wait: float = 0.005):
        """A call reaches a leader; one that is paused gets it when it wakes up."""

        def arrive() -> None:
            if leader is not None and not leader.dead:
                self._call(leader, what, 0.02) if leader.paused else what()

        self.after(wait, arrive)

    # leaders

    def _made(self, act: Make, life: Coordinator) -> None:
        old = self.leaders.get(act.leader)
        if old is not None and not old.dead:
            self.tell(MakeFailed(act.leader, act.serial, "name taken", taken=True), life)
        elif fault := self.make_fails.get(act.leader):
            self.tell(Lost(act.leader, act.serial, fault, dead=True), life)
        else:
            new = FakeLeader(act.leader, next(self._pids), act.config, watcher=act.serial)
            new.ready = self.ready_at_start
            self.leaders[act.leader] = new
            for _ in range(act.config.workers):
                self.add_worker(new)
            self._pulse(new, act.serial, life)

    def _pulse(self, leader: FakeLeader, serial: int, life: Coordinator) -> None:
        if leader.dead or leader.watcher != serial or life is not self.machine:
            return
        if not leader.paused:
            leader.term = max(leader.term, life.state.term)
            self._keep_pool(leader)
            self.tell(Pulse(leader.name, serial, leader.report()), life)
        self.after(self.PULSE_S, lambda: self._pulse(leader, serial, life))

    def _take(
        self, leader: FakeLeader | None, serial: int, order: TakeOrder, life: Coordinator
    ) -> None:
        assert leader is not None
        if order.term < leader.term:
            self.tell(Deposed("stale term"), life)
            return
        if order.shard in leader.shards:
            self.tell(TakeAnswered(leader.name, serial, order.shard, order.epoch), life)
            return
        actual, owner = self.journals.get(order.shard, (0, None))
        if actual != order.epoch:
            answer = TakeAnswered(
                leader.name, serial, order.shard, order.epoch, "stale", actual=actual
            )
            self.tell(answer, life)
            return
        if owner is not None and not owner.dead and owner is not leader:
            self._end(owner.name)
        leader.shards[order.shard] = (order.epoch, "taking")
        for name in order.adopt:
            if name in self.workers:
                leader.workers[name] = self.workers[name]
                self.home[name] = leader
                leader.surplus_since = self.now
        self.tell(TakeAnswered(leader.name, serial, order.shard, order.epoch), life)
        self.after(self.TAKE_S, lambda: self._taken(leader, order))

    def _taken(self, leader: FakeLeader, order: TakeOrder) -> None:
        actual, _ = self.journals.get(order.shard, (0, None))
        if leader.dead or leader.paused:
            return
        if actual == order.epoch:
            self.journals[order.shard] = (actual + 1, leader)
            leader.shards[order.shard] = (actual + 1, "serving")
        else:
            leader.shards.pop(order.shard, None)

    def _release(self, leader: FakeLeader | None, term: int, shard: int) -> None:
        assert leader is not None
        if shard not in leader.shards or term < leader.term:
            return
        leader.shards[shard] = (leader.shards[shard][0], "draining")
        self.after(self.DRAIN_S, lambda: self._released(leader, shard))

    def _released(self, leader: FakeLeader, shard: int) -> None:
        if leader.paused:
            self.after(self.DRAIN_S, lambda: self._released(leader, shard))
        elif not leader.dead and leader.shards.pop(shard, None):
            # a closed journal names no owner, or its next one would end a healthy leader
            self.journals[shard] = (self.journals[shard][0], None)

    def _configure(self, leader: FakeLeader | None, config: LeaderConfig) -> None:
        assert leader is not None
        leader.config = config
        leader.surplus_since = self.now

    def _keep_pool(self, leader: FakeLeader) -> None:
        """What every leader does by itself: its number of workers, surplus let go when idle."""
        for name in [n for n in leader.workers if self.home.get(n) is not leader]:
            del leader.workers[name]  # another leader adopted it, or it ended
        while len(leader.workers) < leader.config.workers:
            self.add_worker(leader)
        if len(leader.workers) <= leader.config.workers:
            leader.surplus_since = self.now
        elif self.now - leader.surplus_since > self.SURPLUS_S:
            self.end_worker(next(iter(leader.workers)))

    def _lease_ran_out(self, name: str, leader: FakeLeader) -> None:
        if self.home.get(name) is leader:
            self.end_worker(name)

    def end_worker(self, name: str) -> None:
        self.workers.pop(name, None)
        self.home.pop(name, None)

    def add_worker(self, leader: FakeLeader) -> None:
        pid = next(self._pids)
        name = names.worker(leader.name, f"{pid:x}")
        self.home[name] = leader
        self.workers[name] = leader.workers[name] = WorkerInfo(
            name, Owner(name, "boot", 1, pid, pid, "node"), handle=None
        )

    def _end(self, name: str) -> None:
        leader = self.leaders.get(name)
        if leader is not None and not leader.dead:
            self.ended.append(name)
            assert leader.ever_paused, f"{name} was well, and was ended"
            self.kill(name)

    # what a test does

    def living(self) -> list[FakeLeader]:
        return [leader for leader in self.leaders.values() if not leader.dead]

    def kill(self, name: str) -> None:
        """kill -9: the watch tells after 10 ms; its workers live on."""
        leader = self.leaders[name]
        if leader.dead:
            return
        leader.dead = True
        for worker in leader.workers:
            self.after(self.LEASE_S, lambda n=worker: self._lease_ran_out(n, leader))
        life, serial = self.machine, leader.watcher
        if serial:
            self.after(0.01, lambda: self.tell(Lost(name, serial, "killed", dead=True), life))

    def pause(self, name: str) -> None:
        self.leaders[name].paused = self.leaders[name].ever_paused = True

    def resume(self, name: str) -> None:
        """Wake up: the fence makes it drop what others have taken."""
        leader = self.leaders[name]
        if not leader.paused:
            return
        leader.paused = False
        for shard in list(leader.shards):
            if self.journals[shard][1] is not leader:
                del leader.shards[shard]

    def after(self, wait: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + wait, next(self._order), what))

    def run(self, seconds: float) -> None:
        """Let that much time pass."""
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, what = heapq.heappop(self._queue)
            what()
        self.now = end

    def until(self, holds: Callable[[], object], within: float = 60.0) -> float:
        """Run until it holds; returns how long that took."""
        began = self.now
        while not holds():
            assert self.now - began < within, "it did not come to hold"
            self.run(0.01)
        return self.now - began

    def owner(self, shard: int) -> str:
        """The living leader that serves a shard, or nothing."""
        epoch, leader = self.journals.get(shard, (0, None))
        if leader is None or leader.dead or leader.paused:
            return ""
        return leader.name if leader.shards.get(shard) == (epoch, "serving") else ""

    def served(self, shard: int) -> tuple[str, int]:
        return self.owner(shard), self.journals[shard][0]

    def all_served(self) -> bool:
        return all(self.owner(shard) for shard in self.wanted.shards)

    def spread(self) -> list[int]:
        """How many shards each living leader serves."""
        return sorted(
            sum(state == "serving" for _, state in leader.shards.values())
            for leader in self.living()
        )

    def owned_workers(self) -> set[str]:
        return {name for leader in self.living() for name in leader.workers}

    def even(self) -> bool:
        """Whether all is as the plan says, and the coordinator has heard so."""
        spread = self.spread()
        believed = self.machine.state.shards.values()
        return (
            self.all_served()
            and all((s.owner, s.epoch) == self.served(s.number) for s in believed)
            and len(spread) == self.wanted.leaders
            and spread[-1] - spread[0] <= 1
            and sum(spread) == len(self.wanted.shards)
        )


def _maker(worker: str) -> tuple[str, int]:
    _, region, index, _ = worker.split("/")
    return region, int(index)
