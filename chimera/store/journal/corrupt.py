"""Quarantine: tasks whose bytes cannot be read any more end as `failed: corrupt` (P4)."""

from __future__ import annotations

from chimera.errors import CorruptFrame, NotFound
from chimera.frames import command, outcome
from chimera.store.journal import receipts, settle, states
from chimera.store.journal.txn import Txn
from chimera.store.protocol import Settlement, Single

#: what a task ends with whose bytes are lost
BODY = outcome.encode_failure(
    outcome.Failure("corrupt", "the stored bytes are not what was written", retryable=False)
)


def quarantine(txn: Txn, position: int, now: int) -> list[Single]:
    """End what is unreadable of the command frame that holds `position`; the new outcomes.

    Open tasks of a corrupt frame fail. Tasks whose recorded outcome is corrupt fail too: what
    it was is gone, and a reader must be told something. Raises NotFound.
    """
    row = txn.execute(
        "SELECT position, count, receipt, frame FROM commands WHERE position <= ?"
        " ORDER BY position DESC LIMIT 1",
        (position,),
    ).fetchone()
    if row is None or row[0] + row[1] <= position or row[3] is None:
        raise NotFound(f"no task at position {position}")
    start, count, receipt, frame = row
    singles = _replace_outcomes(txn, start, count, now)
    readable = _is_readable(frame)
    skipped = receipts.skips(receipts.unpack(receipt)[0], count)
    have = states.load(txn.execute, start, count, skipped)
    ends = [
        Single(start + index, outcome.FAILED, 0, BODY)
        for index, state in enumerate(have)
        if state == outcome.OPEN and not _is_left(txn, start + index, readable)
    ]
    if ends:
        settle.settle(txn, Settlement(singles=tuple(ends)), [], now)
    return singles + ends


def _is_readable(frame: bytes) -> bool:
    try:
        command.verify(frame)
    except CorruptFrame:
        return False
    return True


def _is_left(txn: Txn, position: int, readable: bool) -> bool:
    """Whether a task can be run: a parked one has its own bytes."""
    row = txn.execute("SELECT frame FROM schedule WHERE position = ?", (position,)).fetchone()
    return readable if row is None else _is_readable(row[0])


def _replace_outcomes(txn: Txn, start: int, count: int, now: int) -> list[Single]:
    """Put a failure in place of each outcome whose frame is corrupt."""
    found = []
    for seq, position, size, attempt, kept, frame in txn.execute(
        "SELECT seq, position, count, attempt, states, frame FROM outcomes"
        " WHERE position >= ? AND position < ?",
        (start, start + count),
    ).fetchall():
        try:
            outcome.verify(frame)
            continue
        except CorruptFrame:
            txn.execute("DELETE FROM outcomes WHERE seq = ?", (seq,))
        found += [
            Single(position + index, outcome.FAILED, attempt, BODY)
            for index in range(size)
            if kept is None or kept[index]
        ]
    for single in found:
        txn.execute(
            "INSERT INTO singles VALUES (?, ?, ?, ?, ?, ?)",
            (
                single.position, txn.next_seq(), single.state, single.attempts, now, single.body,
            ),
        )  # fmt: skip
        buried = txn.execute(
            "INSERT INTO dead VALUES (?, ?, ?, NULL) ON CONFLICT DO NOTHING",
            (single.position, now, settle.reason(BODY)),
        )
        txn.dead += buried.rowcount
        txn.wrote(single.body)
    return found
