"""What was recorded, in the order of recording, for those who publish it (P10)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chimera.frames import outcome
from chimera.store.journal.reads import FrameView, view
from chimera.store.journal.shelf import Execute
from chimera.store.journal.txn import Txn
from chimera.store.protocol import Entry, Single, TaskRecord


def read(execute: Callable[..., Any], after_seq: int, limit: int) -> list[Entry]:
    """Rows past `after_seq`, in order."""
    rows = execute(
        "SELECT seq, at, frame, NULL, NULL, NULL FROM outcomes WHERE seq > ?1"
        " UNION ALL SELECT seq, at, body, position, state, attempts FROM singles WHERE seq > ?1"
        " ORDER BY seq LIMIT ?2",
        (after_seq, limit),
    )
    return [
        Entry(seq, at, blob, None)
        if position is None
        else Entry(seq, at, None, Single(position, state, attempts, blob))
        for seq, at, blob, position, state, attempts in rows
    ]


def watermark(execute: Callable[..., Any], consumer: str) -> int:
    """The number up to which a consumer has published; 0 if it is not known."""
    row = execute("SELECT seq FROM consumers WHERE name = ?", (consumer,)).fetchone()
    return row[0] if row else 0


def advance(txn: Txn, consumer: str, seq: int, now: int) -> None:
    """Note that a consumer has published up to `seq`; a lower number than before is ignored."""
    txn.execute(
        "INSERT INTO consumers VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE"
        " SET seq = excluded.seq, at = excluded.at WHERE consumers.seq <= excluded.seq",
        (consumer, seq, now),
    )
    txn.wrote(consumer.encode())


def forget(txn: Txn, consumer: str) -> None:
    """Keep nothing for this consumer any more."""
    txn.execute("DELETE FROM consumers WHERE name = ?", (consumer,))
    txn.wrote(consumer.encode())


def happened(
    execute: Execute, shard: int, after_seq: int, limit: int
) -> tuple[int, list[tuple[int, TaskRecord]]]:
    """The tasks of rows past `after_seq`, and the last row's number."""
    entries = read(execute, after_seq, limit)
    found = [(entry.seq, one) for entry in entries for one in _records(execute, shard, entry)]
    return (entries[-1].seq if entries else after_seq), found


def _records(execute: Execute, shard: int, entry: Entry) -> list[TaskRecord]:
    """The tasks that got their outcome in a row, without bodies; those that are gone left out."""
    if entry.single is not None:
        positions = [entry.single.position]
    else:
        assert entry.frame is not None
        header = outcome.header(entry.frame)
        states = outcome.states(entry.frame, header)
        positions = [header.position + i for i, code in enumerate(states) if code != outcome.OPEN]
    found: list[TaskRecord] = []
    frame: FrameView | None = None
    for position in positions:
        if frame is None or not frame.position <= position < frame.position + frame.count:
            frame = view(execute, shard, position)
        if frame is not None:
            found.append(frame.record(position - frame.position, bodies=False))
    return found
