"""The world of one seed: a whole swarm, its clients, its disks, and what goes wrong with it."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import msgspec

from chimera import names
from chimera.frames import command
from chimera.sim import faults as trouble
from chimera.sim.batch import Chore
from chimera.sim.broken import Broken
from chimera.sim.clients import Client
from chimera.sim.control import Store
from chimera.sim.coordinator import CoordinatorProcess
from chimera.sim.disk import Disk
from chimera.sim.faults import Fault
from chimera.sim.kernel import STORE, Kernel, Process
from chimera.sim.oracle import Offer, Oracle
from chimera.sim.orchestrator import OrchestratorProcess
from chimera.store.memory import MemoryJournal
from chimera.swarm.orders import Order
from chimera.swarm.policy import TaskPolicy
from chimera.swarm.spec import RegionSpec, Spec

#: a host that is no part of the swarm
OUTSIDE = "outside"
#: seconds that tasks take, and how many are submitted at once
CHORES_S = (0.001, 0.005, 0.05, 0.3)
CHORES_QUICK_S = (*(0.001,) * 20, 0.1, 0.3)
CROWDS, CROWDS_QUICK = (1, 1, 3, 10), (1, 10, 30)
#: from a submit, until its client cancels something, seconds at most
CANCELS_S = (0.02, 0.2, 1.0)
#: share of the cancels that are only for what waits
ONLY_WAITING = 0.5
#: after the healing, for everything to be as declared and every task to have ended, seconds
LIVENESS_S = 90.0


@dataclass(frozen=True)
class Plan:
    """The size of a world and what is asked of it."""

    seed: int
    regions: int
    leaders: int
    workers: int
    shards: int
    tasks: int
    keys: int
    fsync: bool
    span_s: float
    lease_s: float = 4.0
    skew_ms_max: int = 6000  #: over the lease, so that a jump of a clock can end one
    region_timeout_s: float = 2.5
    leader_tick_s: float = 0.05
    shared: bool = False  #: every region can open every journal
    reorder: bool = False  #: calls of a client may overtake each other, as those of two threads do
    quick: bool = False  #: most tasks take a millisecond, and come in crowds
    #: machines check their invariants at each step, and leaders tell of each worker at once
    checked: bool = True
    policies: tuple[TaskPolicy, ...] = (
        TaskPolicy(type="t", max_attempts=3, backoff_initial_s=0.1, backoff_cap_s=0.5,
                   attempt_timeout_s=3.0),
        TaskPolicy(type="u", max_attempts=4, backoff_initial_s=0.05, attempt_timeout_s=3.0),
    )  # fmt: skip

    @staticmethod
    def draw(seed: int) -> Plan:
        dice = random.Random(f"plan {seed}")
        regions = 2 if dice.random() < 0.3 else 1
        plan = Plan(
            seed, regions, dice.randint(2, 3), dice.randint(1, 2), dice.randint(2, 4),
            dice.choice((40, 80, 120)), dice.choice((1, 3, 8)), dice.random() < 0.5,
            dice.uniform(6.0, 10.0),
        )  # fmt: skip
        shared = regions > 1 and dice.random() < 0.6
        plan = replace(plan, shared=shared, reorder=dice.random() < 0.3)
        return replace(plan, quick=dice.random() < 0.3)


class World:
    """Everything that lives, and the schedule of what breaks."""

    kernel_type: ClassVar[type[Kernel]] = Kernel

    def __init__(self, plan: Plan, schedule: list[Fault], keep_trace: bool = False) -> None:
        self.plan, self.schedule = plan, schedule
        self.kernel = self.kernel_type(plan.seed, keep_trace)
        self.head = "head"
        self.hosts = [f"r{i}" for i in range(plan.regions)]
        self.oracle = Oracle(self)
        self.deaths: Counter[str] = Counter()  #: task → workers that it killed
        self.failures: Counter[str] = Counter()  #: task → attempts that raised
        self.hangs: list[bool] = []  #: of the next handlers that never return: who holds the lock
        self.duplicates = 0.0
        self.spawn_fails = False
        self.pause_taker_s = 0.0  #: for how long the next one is stopped; 0: not at all
        self.undo: list[Order] = []
        self.healed_at: float | None = None
        self.stores = {"": Store(), **{host: Store() for host in self.hosts}}
        self.disks = {
            shard: Disk(
                self.kernel,
                shard,
                STORE if plan.shared else self._birthplace(shard),
                plan.fsync or plan.shared,
                self.oracle.attempts,
            )
            for shard in range(plan.shards)
        }
        self.spec = Spec(
            handlers=("sim",), data_dir="/sim", objects="", shards=plan.shards,
            durability="fsync" if plan.fsync else "os", worker_lease_s=plan.lease_s,
            store="postgresql://sim" if plan.shared else "", region_timeout_s=plan.region_timeout_s,
            regions=tuple(
                RegionSpec(name=host, leaders=plan.leaders, workers=plan.workers)
                for host in self.hosts
            ),
        )  # fmt: skip
        self.start_orchestrator()
        # one lives where no link is ever cut: it reaches regions that the head does not
        self.clients = [Client(self, "client/0", self.head), Client(self, "client/1", OUTSIDE)]
        self._schedule_work()
        for fault in schedule:
            self.kernel.at(fault.at, partial(trouble.strike, self, fault))

    def _birthplace(self, shard: int) -> str:
        return self.hosts[shard % self.plan.regions]

    def start_orchestrator(self) -> None:
        if names.ORCHESTRATOR not in self.kernel.names:
            self.kernel.counters["orchestrator_made"] += 1
            OrchestratorProcess(self, self.spec)

    # what clients do

    def _schedule_work(self) -> None:
        dice = random.Random(f"work {self.plan.seed}")
        kinds = random.Random(f"cancels {self.plan.seed}")
        left, number = self.plan.tasks, 0
        while left > 0:
            client = dice.choice(self.clients)
            count = min(left, dice.choice(CROWDS_QUICK if self.plan.quick else CROWDS))
            left -= count
            chores = [self._chore(dice, number + i) for i in range(count)]
            number += count
            at = dice.uniform(1.2, self.plan.span_s)
            columns, shard = self._columns(dice, count, at)
            patience = dice.choice((3.0, 20.0))
            self.kernel.at(
                at,
                lambda c=client, j=chores, k=columns, s=shard, p=patience:  # type: ignore[misc]
                    c.deliver(lambda: self.submit(c, j, k, s, p)),
            )  # fmt: skip
            if dice.random() < 0.3:
                at += dice.random() * dice.choice(CANCELS_S)
                self.kernel.at(at, partial(client.cancel_one, kinds.random() < ONLY_WAITING))

    def _chore(self, dice: random.Random, number: int) -> bytes:
        chore = Chore(
            number, dice.choice(CHORES_QUICK_S if self.plan.quick else CHORES_S),
            dice.choice((0,) * 8 + (1, 2, 9)), dice.choice((0,) * 20 + (1, 9)),
            dice.random() < 0.1,
        )  # fmt: skip
        return msgspec.json.encode(chore)

    def _columns(
        self, dice: random.Random, count: int, at: float
    ) -> tuple[command.Columns | None, int | None]:
        keys: list[str | None] | None = None
        idempotent: list[str | None] | None = None
        shard: int | None = None
        delays: list[int] | None = None
        if dice.random() < 0.6:
            number = dice.randrange(self.plan.keys)
            shard = number % self.plan.shards
            same = [n for n in range(self.plan.keys) if n % self.plan.shards == shard]
            keys = [f"k{dice.choice(same)}" for _ in range(count)]
        if dice.random() < 0.2:
            base = 1_800_000_000_000 + 2000
            delays = [base + dice.randrange(8000) for _ in range(count)]
        if dice.random() < 0.2:
            idempotent = [f"i{dice.randrange(10)}" for _ in range(count)]
            shard = 0 if shard is None else shard
        deadlines: list[int] | None = None
        if delays is None and dice.random() < 0.15:
            base = 1_800_000_000_000 + int(at * 1000)
            deadlines = [base + dice.choice((100, 500, 2000, 8000)) for _ in range(count)]
        if keys is None and delays is None and idempotent is None and deadlines is None:
            return None, None
        return command.Columns(keys, idempotent, delays, deadlines), shard

    def submit(
        self, client: Client, chores: list[bytes], columns: command.Columns | None,
        shard: int | None, patience_s: float,
    ) -> None:  # fmt: skip
        parcel = client.submit(chores, columns, shard, patience_s)
        self.oracle.offers.append(Offer(client.name, parcel, self.kernel.now))

    def owners(self, host: str) -> dict[int, str]:
        """Who has which shard, as the coordinators say that a host can hear: a hint."""
        best: dict[int, tuple[int, str]] = {}
        for process in self.kernel.processes.values():
            heard = (process.host, host) not in self.kernel.cut
            if isinstance(process, CoordinatorProcess) and heard:
                for shard in process.machine.state.shards.values():
                    claim = (shard.epoch, shard.owner)
                    if shard.owner:
                        best[shard.number] = max(best.get(shard.number, claim), claim)
        return {number: owner for number, (_, owner) in best.items()}

    # what breaks

    def crash(self, host: str) -> None:
        """The power of a machine fails."""
        self.kernel.down.add(host)
        for process in list(self.kernel.processes.values()):
            if process.host == host:
                self.kernel.kill(process, "its host is off")
        for disk in self.disks.values():
            if disk.host == host:
                before = set(disk.recorded)
                first = disk.power_loss()
                if first is not None:
                    self.oracle.torn(disk.shard, first, before - disk.recorded.keys())
                    for client in self.clients:
                        client.forget(disk.shard, self.oracle.lost)

    def taking(self, taker: Process) -> None:
        """A leader agreed to take a shard, and has not begun."""
        span_s, self.pause_taker_s = self.pause_taker_s, 0.0
        if span_s:
            self.kernel.counters["taker_paused"] += 1
            self.kernel.note("fault", f"{taker.name} is stopped before it takes")
            self.kernel.pause(taker)
            self.kernel.after(span_s, lambda: self.kernel.resume(taker))

    def unwell(self, now: float) -> bool:
        """Whether some observer was in trouble lately, so that it may suspect the healthy."""
        return any(
            p.troubled_at > now - 12.0
            for p in self.kernel.processes.values()
            if names.tier(p.name) in ("coordinator", "orchestrator")
        )

    def heal(self) -> None:
        """All faults end."""
        kernel = self.kernel
        kernel.note("fault", "all heal")
        self.healed_at = kernel.now
        for route in sorted(kernel.cut):
            kernel.heal(*route)
        kernel.slow.clear()
        kernel.skew_ms.clear()
        kernel.down.clear()
        self.hangs.clear()
        self.duplicates, self.spawn_fails, self.pause_taker_s = 0.0, False, 0.0
        for disk in self.disks.values():
            disk.full, disk.stall_s, disk.unsure, disk.deadly = False, 0.0, 0.0, False
        for process in list(kernel.processes.values()):
            process.lag_s = 0.0
            if process.paused:
                kernel.resume(process)
        self._undo()

    def _undo(self) -> None:
        """Operators want it as it was; said until it is so."""
        for order in self.undo:
            trouble.operate(self, order)
        if self.undo:
            self.kernel.after(3.0, self._undo)

    # how it is

    def reader(self, disk: Disk) -> MemoryJournal:
        return MemoryJournal(disk.memory, disk.shard)

    def missing(self) -> str:
        """What is not as declared; empty: all is well and all is done."""
        for disk in self.disks.values():
            if disk.memory.open:
                return f"shard {disk.shard} has {disk.memory.open} open tasks"
        process = self.kernel.names.get(names.ORCHESTRATOR)
        if not isinstance(process, OrchestratorProcess):
            return "no orchestrator"
        if not process.machine.ready:
            return f"not ready: {process.machine.waiting_for()}"
        for host in self.hosts:
            owners = self.owners(self.head)
            held = Counter(
                owners.get(shard) for shard in self.disks if self._birthplace(shard) == host
            )
            if held and max(held.values()) - min(held.values()) > 1:
                return f"uneven: {held}"
        return ""

    def run(self) -> None:
        """Safety, then healing, then liveness. Raises Broken."""
        kernel = self.kernel
        kernel.at(self.plan.span_s + 1.0, self.heal)
        self._watch_counts()
        looked = 0.0
        while kernel.run_one():
            if self.healed_at is None or kernel.now - looked < 0.5:
                continue
            looked = kernel.now
            if kernel.now - self.healed_at > 2.0 and not self.missing():
                break
            if kernel.now - self.healed_at > LIVENESS_S:
                raise Broken(f"G8 {LIVENESS_S:.0f} s after all healed: {self.missing()}")
        self.oracle.check_numbers()
        found = self.oracle.violations(finished=True)
        if found:
            raise Broken("; ".join(str(one) for one in found[:3]))

    def _watch_counts(self) -> None:
        self.kernel.after(0.5, self._watch_counts)
        for process in self.kernel.processes.values():
            if isinstance(process, CoordinatorProcess):
                self.oracle.counted(process.machine.state.tally)
