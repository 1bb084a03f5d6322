"""Taking a journal over, and what the new owner finds in it."""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

import msgspec

from chimera.errors import StaleEpoch, Unavailable
from chimera.store.journal import schedule, schema, states
from chimera.store.journal.commit import Committer
from chimera.store.journal.mark import MarkFile
from chimera.store.protocol import OpenFrame, Recovered
from chimera.swarm.reports import Owner

#: more tasks than a WAL can have held: a worker's outcome of a lost task must find no other task
#: at its position
LOST_POSITIONS = 1 << 24


def lost_tail(db: sqlite3.Connection, mark: MarkFile) -> bool:
    """Whether the journal holds less than was acknowledged (P4)."""
    # the mark first: another opener may be committing, and its mark comes after its commit
    promised = mark.read()
    commits, chain = db.execute("SELECT commits, chain FROM shard").fetchone()
    if promised is None:
        return False
    if commits == promised.commits:
        return bool(chain != promised.chain)
    return bool(commits < promised.commits)


def owner(execute: Callable[..., Any]) -> tuple[int, Owner | None]:
    """The epoch, and who raised it."""
    epoch, blob = execute("SELECT epoch, owner FROM shard").fetchone()
    return epoch, None if blob is None else msgspec.json.decode(blob, type=Owner)


def take(db: sqlite3.Connection, expected: int, owner: Owner, raised: int, lost: bool) -> int:
    """Raise the epoch from `expected` by compare-and-swap; the new one.

    `raised` is the epoch that this opener raised before, if only the checkpoint was left to do.
    It is no numbered commit: a lost tail must show until somebody goes on without it. `lost`:
    there is one, and what it held may still be out there: its positions and ids stay unused.
    """
    db.execute("BEGIN IMMEDIATE")
    (epoch,) = db.execute("SELECT epoch FROM shard").fetchone()
    if epoch == raised == expected + 1:
        db.execute("ROLLBACK")
        return raised
    if epoch != expected:
        raise StaleEpoch(f"the journal's epoch is {epoch}, not {expected}", epoch=epoch)
    schema.upgrade(db)
    gap = LOST_POSITIONS if lost else 0
    db.execute(
        "UPDATE shard SET epoch = ?, owner = ?,"
        " next_position = next_position + ?, counter = counter + ?",
        (expected + 1, msgspec.json.encode(owner), gap, gap),
    )
    db.execute("COMMIT")
    return expected + 1


def disown(db: sqlite3.Connection, epoch: int) -> None:
    """Take the owner's name out, unless somebody newer has put theirs in."""
    db.execute("BEGIN IMMEDIATE")
    db.execute("UPDATE shard SET owner = NULL WHERE epoch = ?", (epoch,))
    db.execute("COMMIT")


def empty_wal(db: sqlite3.Connection, committer: Committer) -> None:
    """Move all that was written into the file, synced: the new epoch outlives any WAL (P4)."""
    if not committer.checkpoint(db, "TRUNCATE"):
        raise Unavailable("another process still reads the journal", retry_after=0.2)


def recover(execute: Callable[..., Any]) -> Recovered:
    """What is open. Reads no frame: a million queued tasks must not delay a takeover."""
    cancelling = [
        row[0] for row in execute("SELECT position FROM cancels WHERE open = 1 ORDER BY position")
    ]
    parked = [
        row[0]
        # in the order of an index, which has the positions: the table has the frames too
        for row in execute("SELECT position FROM schedule ORDER BY due, position")
    ]
    away = sorted({*cancelling, *parked})
    found = []
    names: dict[str, str] = {}
    for position, count, left, size, flags, type, tenant, priority, skips in execute(
        "SELECT position, count, open, bytes, flags, type, tenant, priority, skips"
        " FROM open_frames ORDER BY position"
    ):
        first, last = bisect_left(away, position), bisect_left(away, position + count)
        if left == count and first == last:
            runs: tuple[tuple[int, int], ...] = _WHOLE if count == 1 else ((0, count),)
        else:
            have = states.load(execute, position, count, skips)
            for at in away[first:last]:
                have[at - position] = have[at - position] or states.SKIPPED
            runs = tuple(states.runs(have))
        # one string for all frames: a million rows would bring a million copies
        type, tenant = names.setdefault(type, type), names.setdefault(tenant, tenant)
        found.append(OpenFrame(position, count, size, flags, type, tenant, priority, runs))
    (open_tasks,) = execute("SELECT open FROM shard").fetchone()
    return Recovered(tuple(found), tuple(schedule.holding(execute)), tuple(cancelling), open_tasks)


_WHOLE = ((0, 1),)
