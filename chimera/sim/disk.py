"""A shard's journal on a disk that may lose its tail, fill up, answer late, or not say what it did.

The journal is the store's verified fake. Beside it stands an oracle that never looks at the
machines: who took the shard last, what was recorded, and which ids were accepted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from chimera.errors import ChimeraError, StoreFull, Unavailable
from chimera.frames import outcome
from chimera.sim.attempts import Attempts
from chimera.sim.broken import Broken
from chimera.sim.kernel import Kernel, Process
from chimera.store.memory import MemoryJournal
from chimera.store.memory_disk import MemoryDisk
from chimera.store.protocol import Receipt, Settled, Settlement, Single, SourcePosition
from chimera.swarm.reports import Owner


class Disk:
    """What outlives processes and hosts of one shard."""

    def __init__(
        self, kernel: Kernel, shard: int, host: str, fsync: bool, attempts: Attempts
    ) -> None:
        self.kernel = kernel
        self.attempts = attempts
        self.shard = shard
        self.host = host
        self.fsync = fsync
        self.memory = MemoryDisk()
        self.full = False
        self.stall_s = 0.0
        self.deadly = False  #: who commits next dies before it can say so
        self.unsure = 0.0  #: share of commits whose answer is lost
        #: every committed transaction: what is not synced may be lost with the host
        self.log: list[tuple[str, tuple[Any, ...]]] = []
        self.synced = 0
        self.torn_at = float("-inf")
        self.taker: Process | None = None
        self.epoch_max = 0
        self.recorded: dict[int, int] = {}  #: position → state; the first one stands
        self.recorded_at: dict[int, float] = {}
        self.cancelled_at: dict[int, float] = {}
        self.memos: dict[tuple[int, str], bytes] = {}

    def latency(self) -> float:
        """Seconds that a commit takes now."""
        return self.kernel.dice(0.004 if self.fsync else 0.001) + self.stall_s

    def commit(self, op: str, *args: Any) -> None:
        self.log.append((op, args))
        if self.fsync or op == "take" or self.kernel.random.random() < 0.1:
            self.synced = len(self.log)

    def may_have_failed(self) -> None:
        """After a commit: its answer may be lost. Raises Unavailable."""
        if self.unsure and self.kernel.random.random() < self.unsure:
            self.kernel.counters["commit_unknown"] += 1
            raise Unavailable("the disk did not say whether it wrote")

    def power_loss(self) -> int | None:
        """The host is off: what was not synced is torn off at some commit.

        Returns the position from which on tasks are gone; None: nothing was lost.
        """
        keep = self.kernel.random.randint(self.synced, len(self.log))
        if keep == len(self.log):
            return None
        self.kernel.counters["torn_tail"] += 1
        self.torn_at = self.kernel.now
        self.log = self.log[:keep]
        owner = self.memory.owner
        self.memory = MemoryDisk()
        replayer = MemoryJournal(self.memory, self.shard)
        for op, args in self.log:
            getattr(replayer, op)(*args)
        self.memory.owner = owner
        # the side file knows the last commit: the loss is noticed when the journal is opened (P4)
        self.memory.lost_tail = True
        tasks = self.memory.tasks
        self.recorded = {t.position: t.outcome.state for t in tasks if t.outcome is not None}
        self.recorded_at = {p: self.recorded_at[p] for p in self.recorded}
        self.cancelled_at = {p: at for p, at in self.cancelled_at.items()
                             if p < len(tasks) and tasks[p].cancel}  # fmt: skip
        self.memos = dict(self.memory.memos)
        return len(tasks)


class SimJournal(MemoryJournal):
    """A journal that one process opened; the oracle watches what it writes."""

    def __init__(self, disk: Disk, opener: Process) -> None:
        super().__init__(disk.memory, disk.shard)
        self.disk = disk
        self._opener = opener

    @contextmanager
    def _write(self) -> Iterator[None]:
        """A transaction, if what keeps the journal can be reached."""
        self._reach()
        with super()._write():
            yield

    def _reach(self) -> None:
        if (self._opener.host, self.disk.host) in self.disk.kernel.cut:
            self.disk.kernel.counters["store_out_of_reach"] += 1
            raise Unavailable("the store does not answer")

    def take(self, expected_epoch: int, owner: Owner) -> int:
        self._reach()
        epoch = super().take(expected_epoch, owner)
        if epoch <= self.disk.epoch_max:
            raise Broken(f"G4 shard {self.shard}: epoch {epoch} was given twice")
        self.disk.epoch_max = epoch
        self.disk.taker = self._opener
        self.disk.commit("take", expected_epoch, owner)
        return epoch

    def _watch(self, what: str) -> None:
        if self.disk.taker is not self._opener:
            taker = self.disk.taker.name if self.disk.taker else "nobody"
            raise Broken(
                f"G4 {self._opener.name} {self._opener.pid}: {what} in shard {self.shard},"
                f" which {taker} has taken"
            )

    def _committed(self) -> None:
        """Its answer may be lost, and whoever waits for it. Raises Unavailable."""
        if self.disk.deadly:
            self.disk.deadly = False
            self.disk.kernel.counters["died_at_commit"] += 1
            self.disk.kernel.kill(self._opener, "it dies with a commit's answer")
        self.disk.may_have_failed()

    def append(
        self,
        frames: Sequence[bytes],
        now: int,
        queue_bound: int,
        source: SourcePosition | None = None,
    ) -> list[Receipt | ChimeraError]:
        if self.disk.full:
            self.disk.kernel.counters["disk_full_append"] += 1
            raise StoreFull("the disk is full", retry_after=0.2)
        answers = super().append(frames, now, queue_bound, source)
        self._watch("append")
        kept = [frame for frame, answer in zip(frames, answers, strict=True)
                if isinstance(answer, Receipt) and not answer.duplicate]  # fmt: skip
        for answer in answers:
            if isinstance(answer, Receipt) and answer.duplicate:
                self.disk.kernel.counters["frame_recognised"] += 1
        if any(isinstance(answer, ChimeraError) for answer in answers):
            source = None
        if kept or source:
            self.disk.commit("append", kept, now, queue_bound, source)
        self._committed()
        return answers

    def settle(self, settlement: Settlement, now: int) -> Settled:
        if self.disk.full:
            self.disk.kernel.counters["disk_full_settle"] += 1
            raise StoreFull("the disk is full", retry_after=0.2)
        settled = super().settle(settlement, now)
        self._watch("settle")
        self._check_settled(settlement)
        self.disk.commit("settle", settlement, now)
        if settled.already:
            self.disk.kernel.counters["outcome_masked"] += settled.already
        self._committed()
        return settled

    def _check_settled(self, settlement: Settlement) -> None:
        """Each task that was handed in as ended has an outcome, whatever the others have."""
        tasks = self.disk.memory.tasks
        for frame in settlement.frames:
            handed_in = enumerate(outcome.states(frame), outcome.header(frame).position)
            for position, state in handed_in:
                if state != outcome.OPEN and position < len(tasks) and tasks[position].open:
                    raise Broken(f"P8 shard {self.shard}: {position} was handed in, and is open")

    def _record(self, single: Single, now: int) -> bool:
        done = super()._record(single, now)
        if done:
            if single.position in self.disk.recorded:
                raise Broken(f"G2 shard {self.shard}: {single.position} was settled twice")
            intent = self.disk.memory.tasks[single.position].cancel
            self.disk.attempts.recorded(self._opener, self.shard, single, intent)
            self.disk.recorded[single.position] = single.state
            self.disk.recorded_at[single.position] = self.disk.kernel.now
        return done

    def cancel(self, position: int, reason: str, now: int) -> int:
        state = super().cancel(position, reason, now)
        self._watch("cancel")
        self.disk.commit("cancel", position, reason, now)
        if not state:
            self.disk.cancelled_at.setdefault(position, self.disk.kernel.now)
        return state

    def memoise(self, position: int, step: str, value: bytes) -> bytes:
        stored = super().memoise(position, step, value)
        self._watch("memoise")
        self.disk.commit("memoise", position, step, value)
        first = self.disk.memos.setdefault((position, step), stored)
        if first != stored:
            raise Broken(f"P18 shard {self.shard}: step {step} of {position} has two values")
        return stored
