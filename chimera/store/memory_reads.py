"""The reading half of the journal in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from chimera.errors import CorruptFrame, NotFound
from chimera.frames import command, ids, outcome
from chimera.store.journal.states import runs
from chimera.store.memory_disk import Frame, MemoryDisk, Task
from chimera.store.protocol import (
    Archived,
    Entry,
    Filter,
    OpenFrame,
    Outcomes,
    Recovered,
    Scheduled,
    Single,
    TaskRecord,
)
from chimera.swarm.reports import Owner


class MemoryReads:
    """What can be asked of a disk, by whomever has it open."""

    def __init__(self, disk: MemoryDisk) -> None:
        self._disk = disk

    def owner(self) -> tuple[int, Owner | None]:
        return self._disk.epoch, self._disk.owner

    @property
    def next_position(self) -> int:
        return len(self._disk.tasks)

    def source_position(self, name: str) -> int | None:
        return self._disk.sources.get(name)

    def memo(self, position: int, step: str) -> bytes | None:
        return self._disk.memos.get((position, step))

    def snapshot(self, tenant: str, type: str, key: str) -> bytes | None:
        return self._disk.snapshots.get((tenant, type, key))

    def _task(self, position: int) -> Task:
        if not 0 <= position < len(self._disk.tasks):
            raise NotFound
        task = self._disk.tasks[position]
        if task.frame.swept is not None:
            raise NotFound
        return task

    def _tasks(self, frame: Frame) -> Sequence[Task]:
        start = frame.receipt.position
        return self._disk.tasks[start : start + frame.receipt.count]

    def _living(self) -> list[Task]:
        living = (task for task in self._disk.tasks if task.frame.swept is None)
        return [task for task in living if task.skip is None]

    def recover(self) -> Recovered:
        living = [task for task in self._living() if task.open]
        cancelling = tuple(task.position for task in living if task.cancel)
        found = []
        for frame in {id(task.frame): task.frame for task in living}.values():
            of, head, start = frame.arrival.of, frame.arrival.head, frame.receipt.position
            states = bytes(
                not (task.open and task.park is None and not task.cancel)
                for task in self._disk.tasks[start : start + of.count]
            )
            size = len(frame.arrival.frame)
            flags = of.flags | (command.OPTIONS if head.options else 0)
            found.append(
                OpenFrame(
                    start, of.count, size, flags, head.type, head.tenant, head.priority,
                    tuple(runs(states)),
                )
            )  # fmt: skip
        parked = [scheduled for task in living if (scheduled := task.scheduled())]
        holding = tuple(scheduled for scheduled in parked if scheduled.holds_key)
        return Recovered(tuple(found), holding, cancelling, len(living))

    def _readable(self, task: Task) -> Task:
        if task.frame.receipt.position in self._disk.corrupt:
            raise CorruptFrame(position=task.frame.receipt.position)
        return task

    def read(self, position: int, *, parked: bool = False) -> tuple[int, bytes]:
        task = self._task(position)
        if not parked:
            frame = self._readable(task).frame
            return frame.receipt.position, frame.arrival.frame
        if task.park is None:
            raise NotFound
        return position, task.frame.cutter.cut(task.index)

    def due(self, since: int, until: int, limit: int) -> list[Scheduled]:
        parked = [task.scheduled() for task in self._living()]
        found = [each for each in parked if each and since <= each.due <= until]
        return sorted(found, key=lambda each: (each.due, each.position))[:limit]

    def parked(self, positions: Sequence[int]) -> list[Scheduled]:
        living = {task.position: task for task in self._living()}
        found = (living[position].scheduled() for position in positions if position in living)
        return [each for each in found if each]

    def outcomes(self, ranges: Sequence[tuple[int, int]], bytes_max: int) -> Outcomes:
        frames: list[bytes] = []
        singles: list[Single] = []
        room = bytes_max
        for start, stop in ranges:
            rows: list[tuple[int, bytes | Single]] = [
                (at, frame)
                for at, frame in self._disk.outcomes
                if at < stop and at + outcome.header(frame).count > start
            ]
            rows += [(s.position, s) for s in self._disk.singles if start <= s.position < stop]
            for _, row in sorted(rows, key=lambda row: row[0]):
                size = len(row.body if isinstance(row, Single) else row)
                if room < size and room < bytes_max:
                    return Outcomes(tuple(frames), tuple(singles))
                room -= size
                if isinstance(row, Single):
                    singles.append(row)
                elif row not in frames:
                    frames.append(row)
        return Outcomes(tuple(frames), tuple(singles))

    def find(self, tenant: str, session: int, counter: int, bodies: bool = True) -> TaskRecord:
        for task in self._disk.tasks:
            of = task.frame.arrival.of
            if (of.session, of.first + task.index) != (session, counter):
                continue
            if task.frame.arrival.head.tenant != tenant or task.frame.swept is not None:
                continue
            if task.skip is None:
                return (self._readable(task) if task.open else task).record(bodies)
            if task.skip.error is not None:
                raise task.skip.error
            first = ids.parse_id(task.skip.task_id or "")
            return self.find(tenant, first.session, first.counter, bodies)
        raise NotFound

    def list(
        self,
        where: Filter,
        cursor: int | None,
        limit: int,
        among: Sequence[tuple[int, int]] | None = None,
    ) -> list[TaskRecord]:
        found = []
        for task in reversed(self._living()):
            record = task.record(bodies=False)
            if (
                (cursor is None or record.position < cursor)
                and (among is None or any(a <= record.position < b for a, b in among))
                and where.tenant in (None, record.tenant)
                and where.type in (None, record.type)
                and where.state in (None, record.state)
                and (where.tag is None or where.tag in record.tags)
                and (where.since is None or record.accepted_at >= where.since)
                and (where.until is None or record.accepted_at < where.until)
                and (not where.dead_letters or record.dead_letter)
            ):
                body = task.record(bodies=True).body if where.dead_letters else None
                found.append(replace(record, body=body))
        return found[:limit]

    def happened(self, after_seq: int, limit: int) -> tuple[int, Sequence[tuple[int, TaskRecord]]]:
        ended = self._disk.ended
        if after_seq < 0:
            return len(ended), []
        rows = list(enumerate(ended, 1))[after_seq : after_seq + limit]
        found = [(seq, one.record(bodies=False)) for seq, one in rows if one.frame.swept is None]
        return (rows[-1][0] if rows else after_seq), found

    def outbox(self, after_seq: int, limit: int) -> Sequence[Entry]:
        rows = list(enumerate(self._disk.ended, 1))[after_seq : after_seq + limit]
        return [
            Entry(seq, task.settled_at or 0, None, task.outcome)
            for seq, task in rows
            if task.frame.swept is None
        ]

    def export(self, after_seq: int, upto_seq: int, limit: int) -> Sequence[Archived]:
        rows = list(enumerate(self._disk.ended, 1))[after_seq : min(after_seq + limit, upto_seq)]
        return [
            Archived(
                seq, of.task_id, of.tenant, of.type, of.key, of.priority, of.tags, of.state,
                of.attempts, of.accepted_at, of.settled_at or 0, of.replay_of, of.payload,
                task.index in (task.frame.cutter.columns.claims or ()), of.body or b"",
                of.body_is_claim,
            )
            for seq, task in rows
            if task.frame.swept is None
            for of in [task.record(bodies=True)]
        ]  # fmt: skip

    def claims(self, before: int) -> Sequence[bytes]:
        found: list[bytes] = []
        for task in self._living():
            claimed = task.frame.cutter.columns.claims or ()
            if task.frame.at <= before and task.index in claimed:
                found.append(task.frame.cutter.payload(task.index))
            if task.claimed and task.outcome and (task.settled_at or 0) <= before:
                found.append(task.outcome.body)
        return found

    def published(self, consumer: str) -> int:
        return self._disk.consumers.get(consumer, (0, 0))[0]

    def stats(self) -> dict[str, Any]:
        living = self._living()
        return {
            "open": sum(task.open for task in living),
            "tasks": sum(task.skip is None for task in self._disk.tasks),
            "schedule": sum(task.park is not None for task in living),
            "dead": sum(task.is_dead_letter for task in living),
            "session": id(self._disk),
            "bytes": sum(len(frame.arrival.frame) for frame in self._disk.frames),
            "commits": self._disk.commits,
            "requests": self._disk.commits,
            "full": self._disk.full,
        }
