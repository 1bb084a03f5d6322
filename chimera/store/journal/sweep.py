"""Removing what is past its retention, a bounded piece at a time.

A frame goes when all its tasks have outcomes older than the retention, every consumer that is not
abandoned has read them (P10), and no idempotency key leads to it (P14). Its ids stay for the
re-send window (P12).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chimera.errors import CorruptFrame
from chimera.frames import command
from chimera.store.journal import schedule
from chimera.store.journal.txn import Txn
from chimera.store.protocol import SweepResult

#: free pages kept for new frames: giving them all back would make the file shrink and grow in turn
FREE_PAGES_KEPT = 256
#: pages given back in one transaction; each may have to be moved
_VACUUM_PAGES = 128
#: such transactions in one sweep
VACUUM_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Retention:
    """How long things are kept, milliseconds."""

    outcomes: int
    idempotency: int
    resend: int

    @classmethod
    def of(cls, outcomes_s: float, idempotency_s: float, resend_s: float) -> Retention:
        """The same, from seconds."""
        return cls(int(outcomes_s * 1000), int(idempotency_s * 1000), int(resend_s * 1000))


@dataclass(slots=True)
class Cursor:
    """Where the last sweep stopped; it goes round, so that what must stay delays nobody."""

    frame: int = -1
    key: int = -1


def sweep(
    txn: Txn, cursor: Cursor, now: int, limit: int, kept: Retention
) -> tuple[SweepResult, Cursor]:
    """Look at up to `limit` keys, frames and forgotten ids; remove what may go."""
    keys, key_at = _sweep_keys(txn, cursor.key, now - kept.idempotency, limit)
    frames, unread, frame_at = _sweep_frames(txn, cursor.frame, now, limit, kept)
    forgotten = txn.execute(
        "DELETE FROM commands WHERE position IN"
        " (SELECT position FROM commands WHERE swept <= ? LIMIT ?)",
        (now - kept.resend, limit),
    ).rowcount
    if keys or frames or forgotten:
        txn.wrote(b"sweep")
    return SweepResult(frames, keys, unread), Cursor(frame_at, key_at)


def _sweep_keys(txn: Txn, after: int, before: int, limit: int) -> tuple[int, int]:
    """Remove idempotency keys whose task's frame is settled; how many, and where it stopped."""
    rows = txn.execute(
        "SELECT position, at, scope FROM idempotency WHERE position > ? ORDER BY position LIMIT ?",
        (after, limit),
    ).fetchall()
    gone = 0
    for position, at, scope in rows:
        if at > before or _is_open(txn, position):
            continue
        txn.execute("DELETE FROM idempotency WHERE scope = ?", (scope,))
        gone += 1
    # positions and times grow together: past the first young one there is nothing to remove
    more = len(rows) == limit and rows[-1][1] <= before
    return gone, rows[-1][0] if more else -1


def _is_open(txn: Txn, position: int) -> bool:
    """Whether the frame that holds a position has an open task."""
    row = txn.execute(
        "SELECT position + count FROM open_frames WHERE position <= ?"
        " ORDER BY position DESC LIMIT 1",
        (position,),
    ).fetchone()
    return row is not None and row[0] > position


def _sweep_frames(
    txn: Txn, after: int, now: int, limit: int, kept: Retention
) -> tuple[int, int, int]:
    """Remove old frames: how many, how many of them unread, and where it stopped."""
    before = now - kept.outcomes
    rows = txn.execute(
        "SELECT position, count, flags, at FROM commands"
        " WHERE position > ? AND swept IS NULL ORDER BY position LIMIT ?",
        (after, limit),
    ).fetchall()
    gone = unread = 0
    read_to, abandoned_to = _watermarks(txn, before)
    for position, count, flags, at in rows:
        if at > before or _is_open(txn, position):
            continue
        settled_at, seq = _last_outcome(txn, position, position + count)
        if settled_at > before or seq > read_to or _has_key(txn, position, count, flags):
            continue
        unread += seq > abandoned_to
        _remove(txn, position, count, flags, now)
        gone += 1
    more = len(rows) == limit and rows[-1][3] <= before
    return gone, unread, rows[-1][0] if more else -1


def _watermarks(txn: Txn, before: int) -> tuple[int, int]:
    """What every live consumer has read, and what the abandoned ones had read too."""
    live = abandoned = 1 << 62
    for seq, at in txn.execute("SELECT seq, at FROM consumers"):
        if at > before:
            live = min(live, seq)
        else:
            abandoned = min(abandoned, seq)
    return live, abandoned


def _last_outcome(txn: Txn, start: int, stop: int) -> tuple[int, int]:
    """Time and number of the last outcome recorded in a range."""
    row: tuple[int, int] = txn.execute(
        "SELECT coalesce(max(at), 0), coalesce(max(seq), 0) FROM"
        " (SELECT at, seq FROM outcomes WHERE position >= ?1 AND position < ?2"
        " UNION ALL SELECT at, seq FROM singles WHERE position >= ?1 AND position < ?2) AS ends",
        (start, stop),
    ).fetchone()
    return row


def _has_key(txn: Txn, position: int, count: int, flags: int) -> bool:
    if not flags & command.IDEMPOTENCY:
        return False
    row = txn.execute(
        "SELECT 1 FROM idempotency WHERE position >= ? AND position < ?",
        (position, position + count),
    ).fetchone()
    return row is not None


def _remove(txn: Txn, position: int, count: int, flags: int, now: int) -> None:
    bounds = (position, position + count)
    if flags & command.TAGS:
        _remove_tags(txn, *bounds)
    for table in ("outcomes", "singles", "memos", "cancels"):
        txn.execute(f"DELETE FROM {table} WHERE position >= ? AND position < ?", bounds)
    txn.dead -= txn.execute(
        "DELETE FROM dead WHERE position >= ? AND position < ?", bounds
    ).rowcount
    _forget_frame(txn, position, now)


def _forget_frame(txn: Txn, position: int, now: int) -> None:
    """Drop a frame and keep its ids."""
    kept = txn.execute(
        "SELECT position, count, tenant, session, first, type, priority, flags, at, hash, receipt,"
        " replay_of FROM commands WHERE position = ?",
        (position,),
    ).fetchone()
    # an update would leave a page to each of these rows, which are small now
    txn.execute("DELETE FROM commands WHERE position = ?", (position,))
    txn.execute(
        "INSERT INTO commands VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)", (*kept, now)
    )


def _remove_tags(txn: Txn, start: int, stop: int) -> None:
    try:
        _, frame = schedule.read_command(txn.execute, start)
        tags = command.columns(frame).tags or []
    except CorruptFrame:  # then by looking at every row
        txn.execute("DELETE FROM tags WHERE position >= ? AND position < ?", (start, stop))
        return
    txn.executemany(
        "DELETE FROM tags WHERE tag = ? AND position = ?",
        [(tag, start + index) for index, some in enumerate(tags) for tag in some],
    )


def vacuum(txn: Txn, kept: int) -> bool:
    """Take free pages off the end of the file, all but `kept` of them; whether there were any."""
    (free,) = txn.execute("PRAGMA freelist_count").fetchone()
    if free > kept:
        for _ in range(min(free - kept, _VACUUM_PAGES)):
            # one page a statement: sqlite3 of Python steps it once, whatever number it names
            txn.execute("PRAGMA incremental_vacuum(1)")
        txn.wrote(b"vacuum")
    return bool(free > kept)


def size(db_execute: Any) -> tuple[int, int]:
    """Pages of the file, and how many of them are free."""
    (pages,) = db_execute("PRAGMA page_count").fetchone()
    (free,) = db_execute("PRAGMA freelist_count").fetchone()
    return pages, free
