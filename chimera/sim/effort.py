"""What must not be spent twice: finished work, attempts, ids, keys. Part of the oracle."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chimera.frames import command
from chimera.sim.disk import Broken
from chimera.sim.history import Stored
from chimera.store.protocol import Receipt

if TYPE_CHECKING:
    from chimera.sim.kernel import Process
    from chimera.sim.worker import WorkerProcess
    from chimera.sim.world import World

#: attempts over the policy's that may go uncounted: outcomes that died with their workers (G3)
UNCOUNTED_MAX = 3


@dataclass(frozen=True, slots=True)
class Run:
    """A handler that returned."""

    pid: int
    at: float


class Efforts:
    """Who ran what, and what it cost."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.finished: dict[tuple[int, int], Run] = {}  #: (shard, position) → who returned it
        self.begun: Counter[str] = Counter()  #: task → runs that did not return well (yet)
        self.raised: Counter[str] = Counter()
        self.names: dict[int, str] = {}  #: number of a chore → its only id
        #: (shard, tenant, type, key, idempotency key) → position of the first
        self.firsts: dict[tuple[int, str, str, str | None, str], int] = {}

    def accepted(self, shard: int, frame: bytes, receipt: Receipt) -> None:
        """A frame was appended for the first time: one task an idempotency key (P14)."""
        columns, head = command.columns(frame), command.head(frame)
        skipped = {one.index for one in receipt.skipped}
        for index, asked in enumerate(columns.idempotency or ()):
            if asked is None:
                continue
            key = columns.keys[index] if columns.keys else None
            position = receipt.position + index
            first = self.firsts.setdefault((shard, head.tenant, head.type, key, asked), position)
            if first != position and index not in skipped:
                raise Broken(f"P14 shard {shard}: {first} and {position} have one key, {asked}")

    def started(
        self, worker: WorkerProcess, shard: int, position: int, task: str, n: int, excused: bool
    ) -> None:
        """A handler begins."""
        if self.names.setdefault(n, task) != task:
            raise Broken(f"P13 chore {n} runs as {task}, and as {self.names[n]}")
        self.begun[task] += 1
        before = self.finished.get((shard, position))
        if before is None or excused:
            return
        holder = self.world.kernel.processes.get(before.pid)
        # it keeps what it finished until that is recorded, and can be asked for it (P5, P6)
        if holder is not None and not self._troubled(holder):
            raise Broken(f"G6 shard {shard}: {position} begins again, and {holder.name} has it")

    def ended(self, worker: WorkerProcess, shard: int, position: int, task: str, ok: bool) -> None:
        """A handler returned or raised."""
        if ok:
            self.begun[task] -= 1
            self.finished[shard, position] = Run(worker.pid, self.world.kernel.now)
            return
        self.raised[task] += 1
        most = max(policy.max_attempts for policy in self.world.plan.policies)
        if self.raised[task] > most + UNCOUNTED_MAX:
            raise Broken(f"P7 {task} raised {self.raised[task]} times, and may try {most} times")

    def lapsed(self, worker: WorkerProcess) -> None:
        """A worker ends, as nobody renewed its lease: its leader must have been in trouble."""
        leader = worker.leader
        if leader.alive and not self._troubled(leader) and not self._troubled(worker):
            raise Broken(f"G6 {worker.name} ends for want of a lease, and {leader.name} is well")

    def torn(self, shard: int, first: int) -> None:
        """A tail was lost, and reported: nothing is promised of these tasks any more."""
        self.firsts = {
            scope: at for scope, at in self.firsts.items() if scope[0] != shard or at < first
        }
        self.finished = {place: run for place, run in self.finished.items() if place[0] != shard}

    def blamed(self, row: Stored) -> None:
        """In the end: who failed was at fault, for all that can be known (P7)."""
        if row.state == "failed" and self.begun[row.task] < 2:
            raise Broken(f"P7 {row.task} failed, and {self.begun[row.task]} runs of it went wrong")

    def _troubled(self, process: Process) -> bool:
        from chimera.sim.oracle import TROUBLE_S

        return process.troubled_at > self.world.kernel.now - TROUBLE_S
