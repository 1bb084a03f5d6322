"""Which worker runs which attempt, and how it ended: none is made without need (P5, P6, P7).

An attempt is made again only where nobody could know of the one before: its worker is dead, or was
out of reach. What is taken from a task's attempts is what its attempts did.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from chimera.frames import outcome
from chimera.sim.broken import Broken
from chimera.sim.kernel import Kernel, Process
from chimera.store.protocol import Single

if TYPE_CHECKING:
    from chimera.sim.batch import Batch
    from chimera.sim.disk import Disk
    from chimera.sim.worker import WorkerProcess

#: a process that was in trouble this lately may be taken for dead, seconds
TROUBLE_S = 12.0

#: (shard, position)
Place = tuple[int, int]


class Attempts:
    """Everything that handlers did, by task."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        #: task → its worker's process and attempt
        self.running: dict[Place, dict[int, tuple[Process, int]]] = defaultdict(dict)
        #: (task, attempt) → whose process ended it
        self.ended: dict[tuple[Place, int], Process] = {}
        #: task → whose process ended it well
        self.ended_well: dict[Place, Process] = {}
        #: attempts of a task that raised, or in which its worker died
        self.failed: Counter[Place] = Counter()

    def is_known(self, process: Process) -> bool:
        """Whether a process lives and could always be reached."""
        return process.alive and not self.is_troubled(process)

    def is_troubled(self, process: Process) -> bool:
        cut_at = self.kernel.cut_at.get(process.host, float("-inf"))
        lately = max(process.troubled_at, cut_at) > self.kernel.now - TROUBLE_S
        return process.paused or process.stuck or lately

    def began(self, worker: WorkerProcess, batch: Batch, position: int, disk: Disk) -> None:
        """A handler begins. Raises Broken."""
        place, attempt = (batch.part.shard, position), batch.attempt
        name = f"attempt {attempt} of {place} begins on {worker.name}"
        running = self.running[place]
        excused = self.is_troubled(worker) or self.is_troubled(worker.leader)
        for pid, (other, _) in list(running.items()):
            if not other.alive:
                del running[pid]
            elif pid != worker.pid and not excused and self.is_known(other):
                raise Broken(f"P6 {name}, and runs on {other.name}")
        before = self.ended.get((place, attempt))
        if before is not None and not excused and self.is_known(before):
            raise Broken(f"P5 {name}, and has ended on {before.name}, which lives")
        park = disk.memory.tasks[position].park
        if attempt > 1 and not excused and (park is None or park.attempt < attempt):
            raise Broken(f"P7 {name}, and the journal knows of no such attempt")
        running[worker.pid] = (worker, attempt)

    def over(self, worker: Process, batch: Batch, position: int, ok: bool) -> None:
        """A handler returned or raised."""
        place = (batch.part.shard, position)
        self.running[place].pop(worker.pid, None)
        self.ended[place, batch.attempt] = worker
        self.failed[place] += not ok
        if ok:
            self.ended_well[place] = worker

    def died(self, place: Place) -> None:
        """A worker died at this task."""
        self.failed[place] += 1

    def recorded(self, by: Process, shard: int, single: Single, intent: bool) -> None:
        """A task gets its outcome, by itself or in a frame; `intent`: it was to be cancelled.
        Raises Broken."""
        place = (shard, single.position)
        if single.state == outcome.FAILED and single.attempts > self.failed[place]:
            raise Broken(
                f"P7 {place} failed after {single.attempts} attempts,"
                f" of which {self.failed[place]} are its own"
            )
        for process, _ in self.running[place].values():
            if single.state == outcome.EXPIRED and self.is_known(process):
                raise Broken(f"P9 {place} expires while it runs on {process.name}")
        if single.state == outcome.CANCELLED and not intent:
            self._check_waited(by, place)

    def _check_waited(self, by: Process, place: Place) -> None:
        """A task ends that was to be cancelled only if it waits: nobody is at it, nor has run it
        well, as far as those who live beside its owner can tell. A silent one is waited for."""
        hands = [process for process, _ in self.running[place].values()]
        if place in self.ended_well:
            hands.append(self.ended_well[place])
        for process in hands:
            if process.alive and process.host == by.host:
                raise Broken(f"P9 {place} is cancelled as one that waits: {process.name} has it")

    def torn(self, shard: int, first: int) -> None:
        """A tail was lost, and reported: what was known of these tasks is gone."""
        for found in (self.running, self.failed, self.ended_well):
            for place in [p for p in found if p[0] == shard and p[1] >= first]:
                del found[place]
        self.ended = {
            key: process
            for key, process in self.ended.items()
            if key[0][0] != shard or key[0][1] < first
        }
