"""A simulated worker: the machine of chimera.swarm.worker, and handlers that take virtual time.

It carries out what actors/worker.py and actors/batch.py do, in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from chimera.client.ports import Gone
from chimera.errors import Fenced, Unavailable
from chimera.frames import outcome
from chimera.frames.bundle import Dispatch
from chimera.frames.outcome import Failure
from chimera.sim.batch import Batch, Chore, opened, slot_of
from chimera.sim.kernel import Process, Reply
from chimera.swarm import worker as machine
from chimera.swarm.leader.events import Arrived, Board
from chimera.swarm.policy import TaskPolicy
from chimera.swarm.reports import Collected, Held, RunSummary, WorkerInfo

if TYPE_CHECKING:
    from chimera.sim.leader import LeaderProcess
    from chimera.sim.world import World

#: between two looks at the lease, as a share of it
TICK_SHARE = 0.1
#: on a board: what is in hand was numbered by another leader than the worker's own
FORMER = -1
#: between two tries to reach a shard's owner, and how long one is waited for, seconds
RETRY_S = 0.1
#: a worker that retires waits this long for its outcomes to be recorded, seconds
RETIRE_S = 10.0
CANCELLED = outcome.encode_failure(Failure("chimera.TaskCancelled", retryable=False))
EXPIRED = outcome.encode_failure(Failure("chimera.TaskExpired", retryable=False))
FAILED = outcome.encode_failure(Failure("builtins.ValueError", "planned"))


@dataclass(eq=False, slots=True)
class Call:
    """A dispatch that waits for its turn."""

    leader: LeaderProcess
    dispatch: int
    recorded: tuple[int, ...]
    items: list[Dispatch]
    reply: Reply
    sent_at: float


class WorkerProcess(Process):
    """One worker process: an actor with one thread for handlers."""

    def __init__(self, world: World, name: str, leader: LeaderProcess, revision: str) -> None:
        super().__init__(world.kernel, name, leader.host)
        self.world = world
        self.leader: LeaderProcess = leader  #: whom it takes for the owner of any shard
        self.owners: dict[int, LeaderProcess] = {}
        self.revision = revision
        self.machine = machine.Worker(leader.name, leader.sender, world.plan.lease_s)
        self.calls: list[Call] = []
        self.busy = False
        self.batches: list[Batch] = []
        self.replies: list[Arrived] = []
        self.board = Board(0, 0, 0)
        self.retired_at: float | None = None
        self._tick()

    @cached_property
    def info(self) -> WorkerInfo:
        return WorkerInfo(self.name, self.owner, None, self.revision)

    def policies(self) -> tuple[TaskPolicy, ...]:
        return self.world.plan.policies

    # for the leader

    def watch(self, sender: str, hold_s: float, reply: Reply) -> None:
        self.machine.renew(sender)
        self.later(hold_s, lambda: reply(self.machine.renew(sender)))

    def run(self, call: Call) -> None:
        self.calls.append(call)
        if not self.busy:
            self._next()

    def collect(self, sender: str, through: int) -> Collected:
        self.machine.check_leader(sender)
        in_hand = self._in_hand()
        returned = self.machine.take_back(sender, through)
        if self.machine.covers(through):
            for batch in in_hand:
                returned += batch.stop()
        arrived, self.replies = self.replies, []
        for batch in in_hand:
            arrived += self._hand_in(batch)
        running = [(b.part.shard, p) for b in in_hand for p in b.in_hand()]
        self.machine.check()
        self.kernel.counters["collected"] += 1
        frames: Any = tuple(arrived)
        return Collected(frames, tuple(returned), tuple(running), self.machine.begun)

    def adopt(self, leader: LeaderProcess, shard: int, epoch: int, own: bool) -> Held:
        before = self.machine.reign
        overtaken = self.machine.adopt(leader.name, leader.sender, shard, epoch, own)
        running: list[tuple[int, int]] = []
        for batch in self._in_hand():
            if batch.part in overtaken:
                self.machine.refuse(batch.stop())
                self._hand_in(batch)
                running += [(position, 1) for position in batch.in_hand()]
        if self.machine.is_former():
            self.board = Board(FORMER, self.board.ordinal, 0)
        held: Any = tuple(Arrived(serial, frame) for serial, frame in self.machine.held(shard))
        self.owners[shard] = leader
        if own:
            self.leader = leader
            self.world.oracle.adopted(self, leader)
        self.machine.check()
        counters = self.kernel.counters
        counters["worker_adopted"] += self.machine.reign != before
        counters["outcome_handed_over"] += len(held)
        counters["running_handed_over"] += len(running)
        return Held(held, tuple(running), self.policies())

    def recorded(self, serials: Sequence[int]) -> None:
        self.machine.recorded(serials)

    def cancel(self, shard: int, position: int) -> None:
        self.world.oracle.told_to_cancel(self, shard, position)
        part = self.machine.cancel(shard, position)
        for batch in self.batches:
            if batch.part is part:
                batch.cancelled.add(position - batch.part.position)

    def retire(self) -> None:
        self.machine.retire()
        self.retired_at = self.kernel.now

    # running

    def _next(self) -> None:
        if not self.calls:
            self.busy = False
            return
        self.busy = True
        call = self.calls.pop(0)
        self.machine.recorded(call.recorded)
        self.machine.renew(call.leader.sender)
        base, batches = 0, list[Batch]()
        for item in call.items:
            batches.append(opened(item, base, call.sent_at))
            base += batches[-1].part.count
        self.world.oracle.dispatched(self, call.leader)
        run = self.machine.begin(call.leader.sender, call.dispatch, [b.part for b in batches])
        if run.reign == self.machine.reign:
            for part in run.parts:
                self.owners.pop(part.shard, None)
        for batch in batches:
            for position in self.machine.cancelled(batch.part):
                batch.cancelled.add(position - batch.part.position)
        self.batches = batches
        self.board = Board(FORMER if self.machine.is_former() else call.dispatch, 0, 0)
        self._run_part(call, iter(batches), set())

    def _run_part(self, call: Call, rest: Any, blocked: set[Any]) -> None:
        self.machine.check()
        batch = next(rest, None)
        if batch is None:
            self._over(call)
        elif self.machine.start(batch.part):
            self._run_task(call, rest, blocked, batch)
        else:
            self._run_part(call, rest, blocked)

    def _run_task(self, call: Call, rest: Any, blocked: set[Any], batch: Batch) -> None:
        """Run tasks of a batch until one takes time."""
        while not batch.stopped and batch.next < batch.part.count:
            index = batch.next
            batch.next += 1
            self.board = Board(self.board.flight, batch.base + index, 0)
            slot = slot_of(batch, index)
            if index in batch.cancelled:
                batch.end(index, outcome.CANCELLED, CANCELLED)
                self.world.oracle.passed(self, batch, index, slot)
                continue
            deadlines = batch.columns.deadline
            if deadlines and 0 < deadlines[index] <= self.kernel.unix_ms(self.host):
                self.kernel.counters["expired_by_worker"] += 1
                batch.end(index, outcome.EXPIRED, EXPIRED)
                self.world.oracle.passed(self, batch, index, slot)
                continue
            if slot is not None and slot in blocked:
                batch.end(index, outcome.OPEN, b"")
                continue
            self._begin(call, rest, blocked, batch, index)
            return
        self.replies += self._hand_in(batch)
        self.machine.finish(batch.part)
        self._run_part(call, rest, blocked)

    def _begin(self, call: Call, rest: Any, blocked: set[Any], batch: Batch, index: int) -> None:
        chore = msgspec.json.decode(batch.payloads[index], type=Chore)
        batch.current = index
        position = batch.part.position + index
        task = batch.task(index)
        self.world.oracle.started(self, batch, position, task, call.sent_at, slot_of(batch, index))
        if self.world.deaths[task] < chore.k:
            self.world.deaths[task] += 1
            self.world.oracle.killed(task, self.world.deaths[task])
            self.kernel.counters["task_killed_worker"] += 1
            self.kernel.kill(self, "its task killed it")
            return
        if self.world.hangs:
            self.stuck = self.world.hangs.pop(0)
            self.kernel.counters["handler_hung"] += 1
            self.kernel.counters["interpreter_held"] += self.stuck
            return

        def end() -> None:
            failed = self.world.failures[task] < chore.f
            batch.current = None
            batch.spent_s += chore.d
            if failed:
                self.world.failures[task] += 1
                slot = slot_of(batch, index)
                if slot is not None:
                    blocked.add(slot)
                batch.end(index, outcome.ATTEMPT_FAILED, FAILED)
            else:
                batch.end(index, outcome.SUCCEEDED, str(chore.n).encode())
            self.world.oracle.ended(self, batch, position, task, not failed)
            self._run_task(call, rest, blocked, batch)

        if chore.o:
            self.kernel.counters["once"] += 1
            value = f"{task}@{self.kernel.now}".encode()
            self._memoise(batch.part.shard, position, value, lambda: self.later(chore.d, end))
        else:
            self.later(chore.d, end)

    def _memoise(self, shard: int, position: int, value: bytes, done: Any) -> None:
        owner = self.owners.get(shard, self.leader)

        def answered(answer: Any) -> None:
            if isinstance(answer, (Unavailable, Fenced, Gone)):
                self.later(RETRY_S, lambda: self._memoise(shard, position, value, done))
                return
            if isinstance(answer, BaseException):
                raise answer
            self.world.oracle.remembered(shard, position, answer)
            done()

        self.kernel.call(
            self, owner, lambda reply: owner.memoise(shard, position, "step", value, reply),
            answered,
        )  # fmt: skip

    def _over(self, call: Call) -> None:
        refused, returned = self.machine.end()
        replies, self.replies, self.batches = self.replies, [], []
        if self.retired_at is not None:
            self.retired_at = self.kernel.now
        self.board = Board(0, 0, 0)
        self.machine.check()
        call.reply((RunSummary(call.dispatch, refused, returned, 0, 0), replies))
        self._next()

    def _in_hand(self) -> list[Batch]:
        parts = self.machine.in_hand()
        return [batch for batch in self.batches if batch.part in parts]

    def _hand_in(self, batch: Batch) -> list[Arrived]:
        shard = batch.part.shard
        return [Arrived(self.machine.hold(shard, frame), frame) for frame in batch.hand_in()]

    # the end

    def ended(self) -> None:
        """It is dead, and the attempts that it was at with it."""
        for batch in self.batches:
            for position in batch.in_hand():
                self.world.oracle.attempts.died((batch.part.shard, position))

    def _tick(self) -> None:
        self.later(self.machine.lease_s * TICK_SHARE, self._tick)
        now = self.kernel.now
        if self.machine.lapsed(now):
            self.kernel.counters["lease_lapsed"] += 1
            self.world.oracle.lapsed(self)
            self.kernel.kill(self, "no leader renewed its lease")
        elif self.retired_at is not None and (
            self.machine.idle() or (self.machine.run is None and now - self.retired_at > RETIRE_S)
        ):
            self.kernel.counters["worker_retired"] += 1
            self.kernel.kill(self, "it is retired")
