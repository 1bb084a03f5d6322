"""What must hold after every step, watched from outside: nothing here looks into a machine."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chimera.client.parcels import Accepted, Parcel
from chimera.frames import command, ids
from chimera.sim import history
from chimera.sim.attempts import TROUBLE_S, Attempts
from chimera.sim.broken import Broken
from chimera.sim.history import Ended, Record, Started, Submitted
from chimera.sim.kernel import Process
from chimera.store.protocol import Receipt
from chimera.swarm import merge

if TYPE_CHECKING:
    from chimera.sim.batch import Batch
    from chimera.sim.worker import WorkerProcess
    from chimera.sim.world import World

#: from the intent to cancel to the last dispatch that may not know of it, seconds
CANCEL_S = 0.001
#: workers that one task may kill: twice the attempts of any policy, as a leader that dies with a
#: worker does not record the blame
KILLS_MAX = 8
#: an answer is on its way no longer than this, unless its link is cut, seconds
ANSWER_S = 20.0

Slot = tuple[int, str, str]


@dataclass(slots=True)
class Offer:
    """Tasks that a client offered, in the order in which it did."""

    client: str
    parcel: Parcel
    at: float


class Oracle:
    """The history of a run, and the invariants that are checked while it grows."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.history: list[Record] = []
        self.offers: list[Offer] = []
        self.places: dict[tuple[int, int, int], int] = {}  #: (shard, session, counter) → position
        self.chains: dict[Slot, list[int]] = defaultdict(list)  #: key → positions in order
        self.delayed: dict[tuple[int, int], int] = {}  #: (shard, position) → not before, Unix ms
        self.running: dict[Slot, dict[int, int]] = defaultdict(dict)  #: key → pid → position
        #: (pid, key) → positions that ended well there and are not recorded yet
        self.ran_well: dict[tuple[int, Slot], set[int]] = defaultdict(set)
        self.memos: dict[tuple[int, int], bytes] = {}
        self.lost: set[str] = set()  #: torn off with a tail whose loss was reported
        self.aliases: set[str] = set()
        self.attempts = Attempts(world.kernel)
        self.unique: dict[tuple[Any, ...], int] = {}  #: idempotency scope → position
        self.told: set[tuple[int, int, int]] = set()  #: (pid, shard, position) of cancels that came
        self.ordered: set[tuple[str, int, int]] = set()  #: (leader, shard, epoch) of orders to take
        self.terms: dict[str, int] = {}  #: who obeys → the highest term that it obeyed
        self.adopters: dict[int, int] = {}  #: worker's pid → that of its last adopter
        self.misled: set[int] = set()  #: workers that have a former leader's dispatch in hand

    # tasks

    def accepted(self, shard: int, frame: bytes, receipt: Receipt) -> None:
        """A frame was appended for the first time."""
        of = command.header(frame)
        columns, head = command.columns(frame, of), command.head(frame, of)
        skipped = {one.index for one in receipt.skipped}
        for index in range(receipt.count):
            place, position = (shard, of.session, of.first + index), receipt.position + index
            if self.places.setdefault(place, position) != position:
                raise Broken(f"P12 shard {shard}: {place} was accepted twice")
            if index in skipped:
                self.aliases.add(ids.format_id(of.session, shard, of.first + index))
                continue
            self._check_unique(shard, head, columns, index, position)
            if columns.not_before and columns.not_before[index]:
                self.delayed[shard, position] = columns.not_before[index]
            elif columns.keys and (key := columns.keys[index]) is not None:
                self.chains[shard, head.tenant, key].append(position)

    def _check_unique(
        self, shard: int, head: command.Head, columns: command.Columns, index: int, position: int
    ) -> None:
        token = columns.idempotency[index] if columns.idempotency else None
        if token is None:
            return
        key = columns.keys[index] if columns.keys else None
        scope = (shard, head.tenant, head.type, key, token)
        if self.unique.setdefault(scope, position) != position:
            raise Broken(f"P14 shard {shard}: {token} was accepted twice")

    def acknowledged(self, accepted: Accepted, payloads: list[bytes]) -> None:
        """A client was told that its tasks are durable."""
        disk = self.world.disks[accepted.shard]
        tasks = disk.memory.tasks
        if disk.torn_at > self.world.kernel.now - ANSWER_S:
            return  # the answer was on its way when the tail was torn off
        if accepted.position + accepted.count > len(tasks):
            raise Broken(f"G1 shard {accepted.shard}: acknowledged, but not in the journal")
        skipped = {one.index for one in accepted.skipped}
        for index, payload in enumerate(payloads):
            task = tasks[accepted.position + index]
            if index not in skipped and task.frame.cutter.payload(task.index) != payload:
                raise Broken(f"P12 shard {accepted.shard}: {task.id} is another task's id")

    def cancelling(self, shard: int, position: int) -> None:
        """A client was told that a task will be cancelled."""
        disk = self.world.disks[shard]
        tasks = disk.memory.tasks
        if disk.torn_at > self.world.kernel.now - ANSWER_S:
            return  # the answer was on its way when the tail was torn off
        if position < len(tasks) and tasks[position].open and not tasks[position].cancel:
            raise Broken(f"P9 shard {shard}: {position} is said to be cancelled, not durably")

    def told_to_cancel(self, worker: Process, shard: int, position: int) -> None:
        """A cancel came to a worker, before or after the task did."""
        disk = self.world.disks[shard]
        is_torn = disk.torn_at > self.world.kernel.now - ANSWER_S
        if position not in disk.cancelled_at and not is_torn:
            raise Broken(f"P9 shard {shard}: {worker.name} is to cancel {position}, by no intent")
        self.told.add((worker.pid, shard, position))

    def killed(self, task: str, kills: int) -> None:
        """A task killed its worker, for the `kills`-th time."""
        if kills > KILLS_MAX:
            raise Broken(f"P7 {task} has killed {kills} workers")

    def started(self, worker: WorkerProcess, batch: Batch, position: int, task: str,
                sent_at: float, slot: Slot | None) -> None:  # fmt: skip
        """A handler begins."""
        now, shard = self.world.kernel.now, batch.part.shard
        disk = self.world.disks[shard]
        if worker.pid in self.misled:
            raise Broken(f"P6 shard {shard}: {position} begins for {worker.name}'s former leader")
        troubled = max(worker.troubled_at, worker.leader.troubled_at)
        excused = self.attempts.is_troubled(worker)
        self.history.append(Started(task, f"{worker.name}#{worker.pid}", now, excused))
        if position in disk.recorded and not excused:
            raise Broken(f"G3 shard {shard}: {position} begins after its outcome on {worker.name}")
        cancelled = disk.cancelled_at.get(position)
        if cancelled is not None and sent_at > cancelled + CANCEL_S and troubled < cancelled - 1:
            raise Broken(f"P9 shard {shard}: {position} was sent after it was cancelled")
        if (worker.pid, shard, position) in self.told:
            raise Broken(f"P9 shard {shard}: {position} begins on a worker that was told to cancel")
        early = self.delayed.get((shard, position), 0) - self.world.kernel.unix_ms()
        jumped = self.world.kernel.counters["fault_skew"]
        if early > (self.world.plan.skew_ms_max if jumped else 0) + 1:
            raise Broken(f"P16 shard {shard}: {position} begins {early} ms early")
        self.attempts.began(worker, batch, position, disk)
        if slot is not None:
            self._check_key(worker, position, slot, excused)
            self.running[slot][worker.pid] = position

    def _check_key(self, worker: Process, position: int, slot: Slot, excused: bool) -> None:
        disk, kernel = self.world.disks[slot[0]], self.world.kernel
        for pid, other in list(self.running[slot].items()):
            if pid not in kernel.processes:
                del self.running[slot][pid]
            elif pid != worker.pid and not self._is_cut_off(worker, pid):
                raise Broken(f"G5 key {slot}: {position} begins while {other} runs elsewhere")
        if (slot[0], position) in self.delayed or excused:
            return
        here = self.ran_well[worker.pid, slot]
        for earlier in self.chains[slot]:
            if earlier >= position:
                break
            if earlier not in disk.recorded and earlier not in here:
                raise Broken(f"G5 key {slot}: {position} begins before {earlier} has an outcome")

    def _is_cut_off(self, worker: Process, pid: int) -> bool:
        """Whether the region of one of two workers is lost: who takes its shards can ask nobody
        there, and nobody there hears of it."""
        other, troubled = self.world.kernel.processes[pid], self.attempts.is_troubled
        return other.host != worker.host and (troubled(other) or troubled(worker))

    def ended(self, worker: WorkerProcess, batch: Batch, position: int, task: str,
              ok: bool) -> None:  # fmt: skip
        """A handler returned or raised."""
        now = self.world.kernel.now
        self.history.append(Ended(task, f"{worker.name}#{worker.pid}", now, ok))
        self.attempts.over(worker, batch, position, ok)
        keys = batch.keys
        key = keys[position - batch.part.position] if keys else None
        if key is not None:
            slot = (batch.part.shard, batch.tenant, key)
            self.running[slot].pop(worker.pid, None)
            if ok:
                self.ran_well[worker.pid, slot].add(position)

    def passed(self, worker: Process, batch: Batch, index: int, slot: Slot | None) -> None:
        """A worker is done with a task that it does not run, and goes on to the next of its key."""
        who, now = f"{worker.name}#{worker.pid}", self.world.kernel.now
        self.history.append(Ended(batch.task(index), who, now))
        if slot is not None:
            self.ran_well[worker.pid, slot].add(batch.part.position + index)

    def remembered(self, shard: int, position: int, value: bytes) -> None:
        """A handler was given the value of its step."""
        if self.memos.setdefault((shard, position), value) != value:
            raise Broken(f"P18 shard {shard}: {position} was given two values for one step")

    # processes

    def adopted(self, worker: Process, leader: Process) -> None:
        """A leader has a worker work for it from now on."""
        self.adopters[worker.pid] = leader.pid

    def dispatched(self, worker: Process, leader: Process) -> None:
        """A leader's dispatch comes to hand: its number means something to that leader alone."""
        self.misled.discard(worker.pid)
        if self.adopters.get(worker.pid, leader.pid) != leader.pid:
            self.misled.add(worker.pid)

    def taken(self, leader: str, shard: int, epoch: int) -> None:
        """A leader took a shard whose journal was at an epoch."""
        if (leader, shard, epoch) not in self.ordered:
            raise Broken(f"P2 {leader} took shard {shard} at {epoch}: no order named that epoch")

    def obeyed(self, who: str, term: int) -> None:
        """A child did what a parent of a term asked."""
        highest = self.terms.get(who, 0)
        if term < highest:
            raise Broken(f"P2 {who} obeys term {term}, and has obeyed {highest}")
        self.terms[who] = term

    def end_owner(self, process: Process, why: str) -> None:
        """Somebody ends a process that is taken for dead."""
        now = self.world.kernel.now
        if process.alive and process.mute_at < now - TROUBLE_S and not self.world.unwell(now):
            rule = "P2" if process.troubled_at < now - TROUBLE_S else "P3"
            state = "well" if rule == "P2" else "slow, but worked"
            raise Broken(f"{rule} {process.name} was {state}, and was ended {why}")
        self.world.kernel.kill(process, f"ended {why}")

    def lapsed(self, worker: WorkerProcess) -> None:
        """A worker ends because nobody renewed its lease."""
        leader = worker.leader
        known = self.attempts.is_known
        if leader.name == worker.machine.leader and known(leader) and known(worker):
            raise Broken(f"P6 {worker.name} lapsed beside {leader.name}, which was well")

    def counted(self, tally: merge.Tally) -> None:
        """What coordinators add up is never more than what happened."""
        if self.lost:
            return
        found = merge.totals(tally).get("succeeded", 0)
        happened = sum(
            sum(state == 1 for state in disk.recorded.values())
            for disk in self.world.disks.values()
        )
        if found > happened:
            raise Broken(f"G8 reports count {found} successes of {happened}")

    def torn(self, shard: int, first: int, reopened: set[int]) -> None:
        """A tail was lost, and reported: nothing is promised of these tasks any more."""
        for (number, session, counter), position in list(self.places.items()):
            if number == shard and (position >= first or position in reopened):
                self.lost.add(ids.format_id(session, shard, counter))
                if position >= first:
                    del self.places[number, session, counter]
        for slot, chain in self.chains.items():
            if slot[0] == shard:
                chain[:] = [position for position in chain if position < first]
        for memo in [m for m in self.memos if m[0] == shard]:
            del self.memos[memo]
        self.attempts.torn(shard, first)
        self.unique = {scope: position for scope, position in self.unique.items()
                       if scope[0] != shard or position < first}  # fmt: skip
        self.delayed = {at: due for at, due in self.delayed.items()
                        if at[0] != shard or at[1] < first}  # fmt: skip

    # the end

    def check_numbers(self) -> None:
        """What was submitted once is one task, in one shard. Raises Broken."""
        found: dict[bytes, str] = {}
        for shard, disk in self.world.disks.items():
            for task in disk.memory.tasks:
                if task.skip is not None or task.id in self.lost:
                    continue
                payload = task.frame.cutter.payload(task.index)  # no two chores are alike
                if found.setdefault(payload, task.id) != task.id:
                    raise Broken(f"P13 {found[payload]} and {task.id} of shard {shard} are one")

    def violations(self, finished: bool) -> list[history.Violation]:
        """What the history checker says of the run."""
        sent: list[Record] = []
        for offer in self.offers:
            columns = offer.parcel.columns
            for index, task in enumerate(offer.parcel.ids()):
                assert offer.parcel.placed is not None
                key = columns.keys[index] if columns and columns.keys else None
                late = bool(columns and columns.not_before and columns.not_before[index])
                name = None if key is None else f"{offer.parcel.placed.shard}/{key}"
                sent.append(Submitted(task, offer.at, offer.client, name, not late))
        rows: list[Any] = []
        for disk in self.world.disks.values():
            rows += [
                history.Stored(
                    row.task, row.shard, row.position, row.state,
                    None if row.settled_at is None else row.settled_at - 1_800_000_000,
                    row.outcomes,
                )
                for row in history.stored(self.world.reader(disk))
            ]  # fmt: skip
        kept = [one for one in (*sent, *self.history) if one.task not in self.lost]
        rows = [row for row in rows if row.task not in self.lost]
        return history.violations(kept, rows, finished=finished, aliases=self.aliases)
