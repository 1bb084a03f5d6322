"""A journal in memory: the port's verified fake, for tests of what stands on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from chimera.errors import (
    ChimeraError,
    IdConflict,
    IdempotencyConflict,
    InvalidRequest,
    NotFound,
    NotOwner,
    OutcomeUnknown,
    Overloaded,
    StaleEpoch,
    StoreFull,
    Unavailable,
)
from chimera.frames import command, ids, outcome
from chimera.store.journal.append import Arrival, prepare
from chimera.store.journal.corrupt import BODY as CORRUPT_BODY
from chimera.store.journal.schedule import Cutter
from chimera.store.journal.settle import Part
from chimera.store.journal.settle import prepare as prepare_outcomes
from chimera.store.memory_disk import Frame, MemoryDisk, Task
from chimera.store.memory_reads import MemoryReads
from chimera.store.protocol import (
    Park,
    Receipt,
    Settled,
    Settlement,
    Single,
    Skipped,
    SourcePosition,
    SweepResult,
)
from chimera.swarm.reports import Owner

_OWN_SESSION = (1 << 64) - 1


class MemoryJournal(MemoryReads):
    """See `chimera.store.protocol.Journal`; nothing of it outlives its disk's last reference."""

    def __init__(
        self,
        disk: MemoryDisk,
        shard: int,
        *,
        resend_window_s: float = 86400.0,
        outcome_retention_s: float = 7 * 86400.0,
        idempotency_retention_s: float = 86400.0,
    ) -> None:
        self.shard = shard
        self.epoch = 0
        self._closed = False
        self.lost_tail = disk.lost_tail
        super().__init__(disk)
        self._resend = int(resend_window_s * 1000)
        self._kept = int(outcome_retention_s * 1000)
        self._keys_kept = int(idempotency_retention_s * 1000)

    def take(self, expected_epoch: int, owner: Owner) -> int:
        with self._disk.lock:
            if self._disk.epoch != expected_epoch:
                raise StaleEpoch(epoch=self._disk.epoch)
            self._disk.epoch, self._disk.owner = expected_epoch + 1, owner
            self.epoch = expected_epoch + 1
            return self.epoch

    @contextmanager
    def _write(self) -> Iterator[None]:
        """A transaction, if the epoch is right."""
        with self._disk.lock:
            if self._closed:
                raise NotOwner("the journal is closed")
            if self._disk.epoch != self.epoch or not self.epoch:
                raise StaleEpoch(epoch=self._disk.epoch)
            self._disk.commits += 1
            yield

    # -- tasks in

    def append(
        self,
        frames: Sequence[bytes],
        now: int,
        queue_bound: int,
        source: SourcePosition | None = None,
    ) -> list[Receipt | ChimeraError]:
        answers: list[Receipt | ChimeraError] = []
        blocked: set[Any] = set()
        with self._write():
            for frame in frames:
                arrival = prepare(frame, self.shard)
                if isinstance(arrival, ChimeraError):
                    blocked.add("all")
                    answers.append(arrival)
                    continue
                producer = (arrival.head.tenant, arrival.of.session)
                keyed = bool(arrival.of.flags & command.KEYS)
                try:
                    receipt = self._known(arrival)
                    if receipt is None:
                        if keyed and blocked & {"all", producer}:
                            raise Unavailable("an earlier frame of this producer was refused")
                        self._admit(arrival, now, queue_bound, source is not None)
                        receipt = self._accept(arrival, now)
                    answers.append(receipt)
                except ChimeraError as error:
                    blocked |= {producer} if keyed else set()
                    answers.append(error)
            if source and not any(isinstance(answer, ChimeraError) for answer in answers):
                known = self._disk.sources.get(source.name, source.position)
                self._disk.sources[source.name] = max(known, source.position)
        return answers

    def _known(self, arrival: Arrival) -> Receipt | None:
        of = arrival.of
        for frame in self._disk.frames:
            had = frame.arrival.of
            same = had.session == of.session and frame.arrival.head.tenant == arrival.head.tenant
            if not same or had.first >= of.first + of.count or had.first + had.count <= of.first:
                continue
            if frame.arrival.hash != arrival.hash:
                raise IdConflict
            old = frame.receipt
            return Receipt(old.position, old.count, True, old.skipped, old.parked)
        return None

    def _admit(self, arrival: Arrival, now: int, queue_bound: int, kept: bool) -> None:
        age = 0 if kept else now - arrival.head.at
        if age > self._resend // 2:
            raise OutcomeUnknown
        if -age > self._resend // 2:
            raise InvalidRequest("the frame was made in the future")
        if self._disk.full:
            raise StoreFull(retry_after=1.0)
        if self._disk.open + arrival.of.count > queue_bound:
            raise Overloaded(retry_after=1.0, queue_bound=queue_bound)

    def _accept(self, arrival: Arrival, now: int, replay: bool = False) -> Receipt:
        cutter, position = Cutter(arrival.frame), len(self._disk.tasks)
        count, skips = arrival.of.count, {}
        for claim in () if replay else arrival.claims:
            at = position + claim.task
            payload, first, _ = self._disk.keys.setdefault(claim.scope, (claim.payload, at, now))
            if first != at:
                of, tasks = arrival.of, self._disk.tasks
                counter = of.first + first - position
                own = first >= position
                task_id = ids.format_id(of.session, of.shard, counter) if own else tasks[first].id
                same = payload == claim.payload
                error = None if same else IdempotencyConflict(task_id=task_id)
                skips[claim.task] = Skipped(claim.task, task_id if same else None, error)
        due = cutter.columns.not_before or []
        parked = tuple(i for i, at in enumerate(due) if at > now and i not in skips)
        receipt = Receipt(position, count, False, tuple(skips.values()), parked)
        frame = Frame(arrival, now, receipt, cutter)
        self._disk.frames.append(frame)
        self._disk.tasks += [Task(frame, index, skips.get(index)) for index in range(count)]
        self._disk.open += count - len(skips)
        for index in parked:
            self._disk.tasks[position + index].park = Park(position + index, due[index], 1, False)
        return receipt

    # -- outcomes out

    def settle(self, settlement: Settlement, now: int) -> Settled:
        parts = [prepare_outcomes(frame, self.shard) for frame in settlement.frames]
        for single in settlement.singles:
            if single.state not in outcome.NAMES:
                raise ValueError(f"state {single.state} is no outcome")
        with self._write():
            done = [self._record_frame(part, now) for part in parts]
            for single in settlement.singles:
                done.append(self._record(single, now))
                self._disk.singles += [single] if done[-1] else []
            for park in settlement.parks:
                if self._disk.tasks[park.position].open:
                    self._disk.tasks[park.position].park = park
        wanted = sum(len(part.states) - part.states.count(0) for part in parts)
        return Settled(sum(done), wanted + len(settlement.singles) - sum(done))

    def _record_frame(self, part: Part, now: int) -> int:
        columns, masked = outcome.columns(part.frame, part.of), dict[int, int]()
        for index, body in enumerate(outcome.bodies(part.frame, part.of)):
            position, state = part.of.position + index, part.states[index]
            if not state:
                continue
            if not self._record(Single(position, state, part.of.attempt, body), now):
                masked[index] = outcome.OPEN
                continue
            task = self._disk.tasks[position]
            task.claimed = index in (columns.claims or ())
            if task.key is not None and index in (columns.snapshots or {}):
                head = task.frame.arrival.head
                value = (columns.snapshots or {})[index]
                self._disk.snapshots[head.tenant, head.type, task.key] = value
        done = len(part.states) - part.states.count(0) - len(masked)
        if done:
            frame = outcome.restate(part.frame, masked) if masked else part.frame
            self._disk.outcomes.append((part.of.position, frame))
        return done

    def _record(self, single: Single, now: int) -> bool:
        if single.position >= len(self._disk.tasks):
            return False
        task = self._disk.tasks[single.position]
        if not task.open:
            return False
        task.outcome, task.settled_at, task.park = single, now, None
        self._disk.ended.append(task)
        self._disk.open -= 1
        return True

    def cancel(self, position: int, reason: str, now: int) -> int:
        with self._write():
            task = self._task(position)
            if task.skip is not None:
                raise NotFound
            task.cancel |= task.open
            return int(task.outcome.state) if task.outcome else outcome.OPEN

    def replay(self, position: int, now: int) -> tuple[str, Receipt, bytes]:
        with self._write():
            task = self._task(position)
            cutter = task.frame.cutter
            if task.discarded or task.outcome is None or task.outcome.state != outcome.FAILED:
                raise NotFound
            if task.replayed is None:
                head = msgspec.structs.replace(cutter.head, at=now, replay_of=task.id)
                columns = cutter.options(task.index)
                if columns is not None:
                    columns = msgspec.structs.replace(columns, not_before=None, deadline=None)
                counter, self._disk.replays = self._disk.replays, self._disk.replays + 1
                payloads = [cutter.payload(task.index)]
                made = command.pack(_OWN_SESSION, self.shard, counter, head, payloads, columns)
                arrival = prepare(made, self.shard)
                if isinstance(arrival, ChimeraError):
                    raise arrival
                receipt = self._accept(arrival, now, replay=True)
                task.replayed = self._disk.tasks[receipt.position]
                for scope, (payload, first, _) in self._disk.keys.items():
                    if first == position:
                        self._disk.keys[scope] = (payload, receipt.position, now)
                return task.replayed.id, receipt, made
            again = task.replayed
            return again.id, Receipt(again.position, 1, True), again.frame.arrival.frame

    def discard(self, position: int) -> None:
        with self._write():
            task = self._task(position)
            if task.discarded or task.outcome is None or task.outcome.state != outcome.FAILED:
                raise NotFound
            task.discarded = True

    def probe(self) -> None:
        with self._write():
            pass

    # -- what handlers keep

    def memoise(self, position: int, step: str, value: bytes) -> bytes:
        with self._write():
            self._task(position)
            return self._disk.memos.setdefault((position, step), value)

    def quarantine(self, position: int, now: int) -> list[Single]:
        frame = self._task(position).frame
        lost = frame.receipt.position in self._disk.corrupt
        ends = [
            Single(task.position, outcome.FAILED, 0, CORRUPT_BODY)
            for task in self._tasks(frame)
            if lost and task.open and task.park is None
        ]
        self.settle(Settlement(singles=tuple(ends)), now)
        return ends

    # -- upkeep

    def publish(self, consumer: str, seq: int, now: int) -> None:
        with self._write():
            if seq >= self.published(consumer):
                self._disk.consumers[consumer] = (seq, now)

    def forget(self, consumer: str) -> None:
        with self._write():
            self._disk.consumers.pop(consumer, None)

    def sweep(self, now: int, limit: int) -> SweepResult:
        with self._write():
            disk, swept, keys = self._disk, 0, 0
            for scope, (_, position, at) in list(disk.keys.items()):
                if at <= now - self._keys_kept and not self._busy(disk.tasks[position].frame):
                    del disk.keys[scope]
                    keys += 1
            led_to = {id(disk.tasks[position].frame) for _, position, _ in disk.keys.values()}
            numbers = {id(task.frame): seq for seq, task in enumerate(disk.ended, 1)}
            live = [seq for seq, at in disk.consumers.values() if at > now - self._kept]
            read_to = min(live, default=1 << 62)
            for frame in disk.frames:
                tasks = self._tasks(frame)
                last = max([frame.at, *(task.settled_at or 0 for task in tasks)])
                if (
                    frame.swept is None
                    and last <= now - self._kept
                    and not self._busy(frame)
                    and id(frame) not in led_to
                    and numbers.get(id(frame), 0) <= read_to
                ):
                    frame.swept = now
                    swept += 1
            swept_tasks = {t.position for t in disk.tasks if t.frame.swept is not None}
            disk.outcomes = [row for row in disk.outcomes if row[0] not in swept_tasks]
            disk.singles = [one for one in disk.singles if one.position not in swept_tasks]
            disk.frames = [f for f in disk.frames if (f.swept or now) > now - self._resend]
            return SweepResult(swept, keys, 0)

    def _busy(self, frame: Frame) -> bool:
        return any(task.open for task in self._tasks(frame))

    def close(self) -> None:
        with self._disk.lock:
            if not self._closed and self._disk.epoch == self.epoch:
                self._disk.owner = None
            self._closed = True
