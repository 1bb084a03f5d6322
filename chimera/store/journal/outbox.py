"""What was recorded, in the order of recording, for those who publish it (P10)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chimera.store.journal.commit import Txn
from chimera.store.protocol import Single


@dataclass(frozen=True, slots=True)
class Entry:
    """One recorded row: a frame of outcomes or a single one."""

    seq: int
    at: int  #: when it was recorded
    frame: bytes | None
    single: Single | None


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
        " SET seq = max(seq, excluded.seq), at = max(at, excluded.at)",
        (consumer, seq, now),
    )
    txn.wrote(consumer.encode())


def forget(txn: Txn, consumer: str) -> None:
    """Keep nothing for this consumer any more."""
    txn.execute("DELETE FROM consumers WHERE name = ?", (consumer,))
    txn.wrote(consumer.encode())
