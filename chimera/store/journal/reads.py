"""Single tasks and ranges of outcomes, as a reader sees them."""

from __future__ import annotations

from collections.abc import Sequence

from chimera.errors import CorruptFrame, NotFound
from chimera.frames import command, ids, outcome
from chimera.store.journal import receipts, schedule
from chimera.store.journal.shelf import META, Execute, Row, Shelf, holding
from chimera.store.protocol import Outcomes, Single, TaskRecord


class FrameView:
    """A command frame and what became of its tasks; reads its blob only when something asks."""

    def __init__(self, execute: Execute, shard: int, row: Row, shelf: Shelf) -> None:
        (
            self.position, self.count, self.tenant, self._session, self._first, self.type,
            self._priority, self._flags, self.at, receipt, self._replay_of,
        ) = row  # fmt: skip
        self._execute = execute
        self._shard = shard
        self._shelf = shelf
        self.skipped, _ = receipts.unpack(receipt)
        self.states = shelf.states(
            self.position, self.count, receipts.skips(self.skipped, self.count)
        )
        self._cutter: schedule.Cutter | None = None

    def state(self, index: int) -> str | None:
        """queued, scheduled, cancelling or the outcome's name; None if the task was skipped."""
        state = self.states[index]
        if state == outcome.OPEN:
            position = self.position + index
            if position in self._shelf.cancels:
                return "cancelling"
            return "scheduled" if position in self._shelf.parked else "queued"
        return outcome.NAMES.get(state)

    def is_dead_letter(self, index: int) -> bool:
        """Whether a task failed and was not given up."""
        failed = self.states[index] == outcome.FAILED
        return failed and self.position + index in self._shelf.dead

    def tags(self, index: int) -> tuple[str, ...]:
        return self.cutter().tags(index) if self._flags & command.TAGS else ()

    def cutter(self) -> schedule.Cutter:
        """The decoded frame. Raises CorruptFrame."""
        if self._cutter is None:
            self._cutter = schedule.Cutter(self._shelf.blob(self.position))
        return self._cutter

    def record(self, index: int, bodies: bool, reason: bool = False) -> TaskRecord:
        """All of one task; with `reason`, the body of its outcome though without its payload.

        Raises CorruptFrame for an open one whose frame cannot be read.
        """
        position = self.position + index
        due, attempt = self._shelf.parked.get(position, (None, 1))
        attempts, settled_at, body, claimed = attempt - 1, None, None, False
        if self.states[index] != outcome.OPEN:
            attempts, settled_at, body, claimed = self._outcome(position, bodies or reason)
        key: str | None = None
        tags: tuple[str, ...] = ()
        payload = None
        try:
            if bodies or self._flags & (command.KEYS | command.TAGS):
                cutter = self.cutter()
                key, tags = cutter.key(index), cutter.tags(index)
                payload = cutter.payload(index) if bodies else None
        except CorruptFrame:
            # its outcome is what is left of a settled task
            if bodies and self.states[index] == outcome.OPEN:
                raise
        return TaskRecord(
            task_id=ids.format_id(
                receipts.unsigned(self._session), self._shard, self._first + index
            ),
            position=position,
            type=self.type,
            tenant=self.tenant,
            priority=self._priority,
            state=self.state(index) or "",
            attempts=attempts,
            accepted_at=self.at,
            settled_at=settled_at,
            due=due,
            key=key,
            tags=tags,
            cancel_requested=position in self._shelf.cancels,
            replay_of=self._replay_of,
            replayed_as=self._replayed_as(index),
            payload=payload,
            body=body,
            body_is_claim=claimed,
            dead_letter=self.is_dead_letter(index),
        )

    def _outcome(self, position: int, bodies: bool) -> tuple[int, int, bytes | None, bool]:
        """Attempts, time, body and whether it is a claim check. A single row wins (P8)."""
        single = self._shelf.singles.get(self.position, {}).get(position)
        if single is not None:
            _, attempts, at = single
            return attempts, at, self._single(position) if bodies else None, False
        for seq, start, count, attempt, at, found in self._shelf.outcomes.get(self.position, ()):
            index = position - start
            if not 0 <= index < count or (found is not None and not found[index]):
                continue
            if not bodies:
                return attempt, at, None, False
            (frame,) = self._execute("SELECT frame FROM outcomes WHERE seq = ?", (seq,)).fetchone()
            of = outcome.verify(frame)
            claims = outcome.columns(frame, of).claims or ()
            return attempt, at, outcome.body(frame, index)[1], index in claims
        raise NotFound(f"no outcome of the task at position {position}")

    def _single(self, position: int) -> bytes:
        query = "SELECT body FROM singles WHERE position = ?"
        body: bytes = self._execute(query, (position,)).fetchone()[0]
        return body

    def _replayed_as(self, index: int) -> str | None:
        if self.states[index] != outcome.FAILED:
            return None
        row = self._shelf.dead.get(self.position + index)
        return row and ids.format_id(receipts.unsigned(row[0]), self._shard, row[1])


def views(execute: Execute, shard: int, positions: Sequence[int]) -> list[FrameView]:
    """The frames that hold the positions, in their order, unless they were swept."""
    shelf = Shelf(execute, holding(execute, positions))
    return [FrameView(execute, shard, row, shelf) for row in shelf.rows]


def view(execute: Execute, shard: int, position: int) -> FrameView | None:
    """The frame that holds a position, unless it was swept."""
    found = views(execute, shard, (position,))
    return found[0] if found else None


def find(
    execute: Execute, shard: int, tenant: str, session: int, counter: int, bodies: bool
) -> TaskRecord:
    """One task by the parts of its id; an alias resolves to the first (P14)."""
    row = execute(
        f"SELECT {META}, swept FROM commands"
        " WHERE tenant = ? AND session = ? AND first <= ? ORDER BY first DESC LIMIT 1",
        (tenant, receipts.signed(session), counter),
    ).fetchone()
    if row is None or row[4] + row[1] <= counter or row[-1] is not None:
        raise NotFound
    found = FrameView(execute, shard, row[:-1], Shelf(execute, [row[:-1]]))
    index = counter - row[4]
    for skip in found.skipped:
        if skip.index == index:
            if skip.error is not None:
                raise skip.error
            first = ids.parse_id(skip.task_id or "")
            return find(execute, shard, tenant, first.session, first.counter, bodies)
    return found.record(index, bodies)


def outcomes(execute: Execute, ranges: Sequence[tuple[int, int]], bytes_max: int) -> Outcomes:
    """Outcome frames and singles that touch the ranges, in order, up to about `bytes_max`."""
    frames: list[bytes] = []
    singles: list[Single] = []
    seen: set[int] = set()
    room = bytes_max
    for start, stop in ranges:
        for at, seq, size in _rows(execute, start, stop):
            if seq in seen:
                continue
            if room < size and room < bytes_max:  # one at least, or nobody gets on
                return Outcomes(tuple(frames), tuple(singles))
            seen.add(seq)
            room -= size
            row = execute("SELECT frame FROM outcomes WHERE seq = ?", (seq,)).fetchone()
            if row is not None:
                frames.append(_checked(row[0]))
            else:
                single = execute(
                    "SELECT position, state, attempts, body FROM singles WHERE position = ?",
                    (at,),
                ).fetchone()
                singles.append(Single(*single))
    return Outcomes(tuple(frames), tuple(singles))


def _rows(execute: Execute, start: int, stop: int) -> list[tuple[int, int, int]]:
    """(position, seq, bytes) of the outcome rows that touch [start, stop), in order."""
    (first,) = execute(
        "SELECT coalesce(max(position), 0) FROM commands WHERE position <= ?", (start,)
    ).fetchone()
    rows = execute(
        "SELECT position, seq, length(frame) FROM outcomes"
        " WHERE position >= ? AND position < ? AND position + count > ?"
        " UNION ALL SELECT position, seq, length(body) FROM singles"
        " WHERE position >= ? AND position < ? ORDER BY 1, 2",
        (first, stop, start, start, stop),
    )
    found: list[tuple[int, int, int]] = rows.fetchall()
    return found


def _checked(frame: bytes) -> bytes:
    try:
        outcome.verify(frame)
    except CorruptFrame as error:
        at = outcome.header(frame).position if frame[:2] == outcome.MAGIC else None
        raise CorruptFrame(error.message, position=at) from error
    return frame
