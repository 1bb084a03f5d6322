"""What leaves a journal whole: settled tasks for the archive, and claim checks still in use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from chimera.errors import CorruptFrame
from chimera.frames import command, ids, outcome
from chimera.store.journal import outbox, receipts, schedule
from chimera.store.protocol import Archived, Entry

Execute = Callable[..., Any]


class _Commands:
    """Command frames, each read and decoded once."""

    def __init__(self, execute: Execute, shard: int) -> None:
        self._execute = execute
        self._shard = shard
        self._known: tuple[int, int, Any, schedule.Cutter | None] | None = None

    def task(self, position: int) -> tuple[Any, schedule.Cutter | None, int] | None:
        """(meta, frame, index) of a task; None if it was swept, no frame if that is corrupt."""
        if self._known is None or not self._known[0] <= position < self._known[1]:
            row = self._execute(
                "SELECT position, count, tenant, session, first, type, priority, at, replay_of,"
                " frame FROM commands WHERE position <= ? AND swept IS NULL"
                " ORDER BY position DESC LIMIT 1",
                (position,),
            ).fetchone()
            if row is None or row[0] + row[1] <= position:
                return None
            try:
                cutter = schedule.Cutter(row[-1])
            except CorruptFrame:
                cutter = None
            self._known = (row[0], row[0] + row[1], row, cutter)
        start, _, row, cutter = self._known
        return row, cutter, position - start

    def archived(self, entry: Entry, position: int, state: int, attempts: int,
                 body: bytes, claimed: bool) -> Archived | None:  # fmt: skip
        """One task, all of it; None if it was swept."""
        found = self.task(position)
        if found is None:
            return None
        row, cutter, index = found
        task_id = ids.format_id(receipts.unsigned(row[3]), self._shard, row[4] + index)
        claims = () if cutter is None else cutter.columns.claims or ()
        return Archived(
            entry.seq, task_id, row[2], row[5], cutter.key(index) if cutter else None, row[6],
            cutter.tags(index) if cutter else (), outcome.NAMES[state], attempts, row[7],
            entry.at, row[8], cutter.payload(index) if cutter else None, index in claims,
            body, claimed,
        )  # fmt: skip


def export(
    execute: Execute, shard: int, after_seq: int, upto_seq: int, limit: int
) -> list[Archived]:
    """The tasks of up to `limit` recorded rows with numbers in (after_seq, upto_seq], in order."""
    commands = _Commands(execute, shard)
    rows = (e for e in outbox.read(execute, after_seq, limit) if e.seq <= upto_seq)
    return [one for entry in rows for one in _tasks(commands, entry)]


def _tasks(commands: _Commands, entry: Entry) -> Iterator[Archived]:
    if entry.single is not None:
        given = entry.single
        found = commands.archived(
            entry, given.position, given.state, given.attempts, given.body, False
        )
        if found is not None:
            yield found
        return
    assert entry.frame is not None
    of = outcome.header(entry.frame)
    claims = frozenset(outcome.columns(entry.frame, of).claims or ())
    for index, body in enumerate(outcome.bodies(entry.frame, of)):
        state = entry.frame[outcome.HEADER_BYTES + index]
        if state == outcome.OPEN:
            continue
        found = commands.archived(
            entry, of.position + index, state, of.attempt, body, index in claims
        )
        if found is not None:
            yield found


def claims(execute: Execute, before: int) -> list[bytes]:
    """Claim checks in the frames that were written by `before` and are still there."""
    found: list[bytes] = []
    positions = []
    # positions and times grow together: what is young need not be looked at
    for position, at, flags in execute(
        "SELECT position, at, flags FROM commands WHERE swept IS NULL ORDER BY position"
    ):
        if at > before:
            break
        if flags & command.CLAIMS:
            positions.append(position)
    for position in positions:
        _, frame = schedule.read_command(execute, position)
        payloads = command.payloads(frame)
        found += [payloads[index] for index in command.columns(frame).claims or ()]
    for at, frame in execute("SELECT at, frame FROM outcomes ORDER BY seq"):
        if at > before:
            break
        of = outcome.header(frame)
        if of.flags & outcome.COLUMNS:
            claimed = outcome.columns(frame, of).claims or ()
            found += [outcome.body(frame, index)[1] for index in claimed]
    return found
