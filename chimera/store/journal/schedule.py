"""Parked tasks: each a frame of one, with when it is due (P16)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from chimera.errors import CorruptFrame, NotFound
from chimera.frames import command
from chimera.store.journal.txn import Txn
from chimera.store.protocol import Park, Scheduled

_COLUMNS = "position, due, attempt, holds_key, key, type, tenant, priority"


class Cutter:
    """Frames of one task each, out of one frame that is decoded once."""

    def __init__(self, frame: bytes) -> None:
        """Raises CorruptFrame."""
        self.of = of = command.verify(frame)
        self.head = command.head(frame, of)
        self.columns = command.columns(frame, of)
        self._payloads = command.payloads(frame, of)
        self._head_bytes = frame[command.HEADER_BYTES : command.HEADER_BYTES + of.head_bytes]
        self._claims = frozenset(self.columns.claims or ())

    def key(self, index: int) -> str | None:
        return None if self.columns.keys is None else self.columns.keys[index]

    def payload(self, index: int) -> bytes:
        return self._payloads[index]

    def tags(self, index: int) -> tuple[str, ...]:
        return () if self.columns.tags is None else tuple(self.columns.tags[index])

    def options(self, index: int) -> command.Columns | None:
        """The columns of one task alone."""
        if not self.of.flags:
            return None

        def one(column: list[Any] | None) -> list[Any] | None:
            return None if column is None else [column[index]]

        of = self.columns
        return command.Columns(
            keys=one(of.keys),
            idempotency=one(of.idempotency),
            not_before=one(of.not_before),
            deadline=one(of.deadline),
            tags=one(of.tags),
            claims=[0] if index in self._claims else None,
        )

    def cut(self, index: int) -> bytes:
        of = self.of
        return command.pack(
            of.session,
            of.shard,
            of.first + index,
            self._head_bytes,
            [self._payloads[index]],
            self.options(index),
        )


def park_new(txn: Txn, frame: bytes, position: int, indices: Sequence[int]) -> None:
    """Park the tasks of a new frame whose `not_before` is ahead."""
    if not indices:
        return
    cutter = Cutter(frame)
    due = cutter.columns.not_before or []
    wanted = [Park(position + index, due[index], 1, False) for index in indices]
    _insert(txn, [_row(cutter, index, one) for index, one in zip(indices, wanted, strict=True)])


def park(txn: Txn, wanted: Sequence[Park], cutter: Callable[[int], tuple[Cutter, int]]) -> None:
    """Park open tasks, or change when parked ones are due. `cutter` gives the frame of a task."""
    known: set[int] = set()
    if txn.scheduled and wanted:
        positions = [one.position for one in wanted]
        rows = txn.execute(
            "SELECT position FROM schedule WHERE position >= ? AND position <= ?",
            (min(positions), max(positions)),
        )
        known = {position for (position,) in rows.fetchall()}
    fresh, changed = {}, []
    for one in wanted:
        if one.position in known:
            changed.append((one.due, one.attempt, one.holds_key, one.error, one.position))
        else:
            frame, start = cutter(one.position)
            fresh[one.position] = _row(frame, one.position - start, one)
    if changed:
        txn.executemany(
            "UPDATE schedule SET due = ?, attempt = ?, holds_key = ?, error = ? WHERE position = ?",
            changed,
        )
    if fresh:
        _insert(txn, list(fresh.values()))


def _row(cutter: Cutter, index: int, wanted: Park) -> tuple[Any, ...]:
    head = cutter.head
    return (
        wanted.position, wanted.due, wanted.attempt, wanted.holds_key, cutter.key(index),
        head.type, head.tenant, head.priority, wanted.error, cutter.cut(index),
    )  # fmt: skip


def _insert(txn: Txn, rows: Sequence[tuple[Any, ...]]) -> None:
    txn.executemany("INSERT INTO schedule VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    txn.scheduled += len(rows)
    txn.bytes += sum(len(row[-1]) for row in rows)


def unpark(txn: Txn, start: int, stop: int, ended: set[int]) -> None:
    """Drop what is parked of the tasks in [start, stop) that have ended."""
    rows = txn.execute(
        "SELECT position FROM schedule WHERE position >= ? AND position < ?", (start, stop)
    ).fetchall()
    if gone := [row for row in rows if row[0] in ended]:
        txn.executemany("DELETE FROM schedule WHERE position = ?", gone)
        txn.scheduled -= len(gone)


def due(execute: Callable[..., Any], since: int, until: int, limit: int) -> list[Scheduled]:
    """Parked tasks due in [since, until], earliest first."""
    rows = execute(
        f"SELECT {_COLUMNS} FROM schedule WHERE due >= ? AND due <= ?"
        " ORDER BY due, position LIMIT ?",
        (since, until, limit),
    )
    return [_scheduled(row) for row in rows]


def parked(execute: Callable[..., Any], positions: Sequence[int]) -> list[Scheduled]:
    """Those of some tasks that are parked."""
    query = f"SELECT {_COLUMNS} FROM schedule WHERE position = ?"
    rows = (execute(query, (position,)).fetchone() for position in positions)
    return [_scheduled(row) for row in rows if row is not None]


def holding(execute: Callable[..., Any]) -> list[Scheduled]:
    """Parked retries that hold their key."""
    rows = execute(f"SELECT {_COLUMNS} FROM schedule WHERE holds_key = 1 ORDER BY position")
    return [_scheduled(row) for row in rows]


def _scheduled(row: tuple[Any, ...]) -> Scheduled:
    position, due, attempt, holds_key, *rest = row
    return Scheduled(position, due, attempt, bool(holds_key), *rest)


def read_parked(execute: Callable[..., Any], position: int) -> tuple[int, bytes]:
    """The frame of one of a parked task, and its position."""
    row = execute("SELECT frame FROM schedule WHERE position = ?", (position,)).fetchone()
    if row is None:
        raise NotFound(f"no task is parked at position {position}")
    return position, checked(row[0], position)


def read_command(execute: Callable[..., Any], position: int) -> tuple[int, bytes]:
    """The command frame that holds a position, and where it starts."""
    row = execute(
        "SELECT position, count, frame FROM commands WHERE position <= ?"
        " ORDER BY position DESC LIMIT 1",
        (position,),
    ).fetchone()
    if row is None or row[0] + row[1] <= position or row[2] is None:
        raise NotFound(f"no task at position {position}")
    return row[0], checked(row[2], row[0])


def start_of(execute: Callable[..., Any], position: int) -> int:
    """Where the command frame that holds a position starts. Raises NotFound."""
    row = execute(
        "SELECT position, count FROM commands WHERE position <= ? AND swept IS NULL"
        " ORDER BY position DESC LIMIT 1",
        (position,),
    ).fetchone()
    if row is None or row[0] + row[1] <= position:
        raise NotFound(f"no task at position {position}")
    return int(row[0])


def checked(frame: bytes, position: int) -> bytes:
    """The frame, if its bytes are what was written. Raises CorruptFrame with `position`."""
    try:
        command.verify(frame)
    except CorruptFrame as error:
        raise CorruptFrame(error.message, position=position) from error
    return frame
