"""Idempotency keys: the second task with a key is an alias of the first, or a refusal (P14)."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

from chimera.errors import IdempotencyConflict
from chimera.frames import command, ids
from chimera.store.journal import receipts
from chimera.store.journal.txn import Txn
from chimera.store.protocol import Skipped

#: parameters of one look-up; older builds of SQLite take 999
_CHUNK = 512


class Claim(NamedTuple):
    """A task that has an idempotency key."""

    task: int  #: index in the frame
    scope: bytes  #: 128-bit hash of tenant, type, ordering key and idempotency key
    payload: bytes  #: 128-bit hash


def scope(tenant: str, type: str, key: str | None, idempotency_key: str) -> bytes:
    """The hash under which a key is known. Lengths go in, so that no two scopes read alike."""
    digest = blake2b(digest_size=16)
    for part in (tenant, type, key, idempotency_key):
        data = b"" if part is None else part.encode()
        digest.update(b"%d:" % (-1 if part is None else len(data)))
        digest.update(data)
    return digest.digest()


def claims(
    head: command.Head, columns: command.Columns, payloads: Sequence[bytes]
) -> tuple[Claim, ...]:
    """The tasks of a frame that have a key."""
    keys = columns.keys or [None] * len(payloads)
    return tuple(
        Claim(
            index,
            scope(head.tenant, head.type, keys[index], idempotency_key),
            blake2b(payloads[index], digest_size=16).digest(),
        )
        for index, idempotency_key in enumerate(columns.idempotency or ())
        if idempotency_key is not None
    )


def apply(
    txn: Txn, found: Sequence[Claim], of: command.Header, position: int, now: int
) -> tuple[Skipped, ...]:
    """Record the keys that are new, for a frame at `position`; say which tasks are skipped."""
    first = _look_up(txn, [claim.scope for claim in found])
    skipped, fresh = [], []
    holders = _Holders(txn, of.shard)
    for claim in found:
        known = first.get(claim.scope)
        if known is None:
            first[claim.scope] = (claim.payload, position + claim.task)
            fresh.append((claim.scope, claim.payload, position + claim.task, now))
            continue
        payload, holder = known
        if holder >= position:  # of this very frame, which is not written yet
            task_id = ids.format_id(of.session, of.shard, of.first + holder - position)
        else:
            task_id = holders.task_id(holder)
        if payload == claim.payload:
            skipped.append(Skipped(claim.task, task_id, None))
        else:
            conflict = IdempotencyConflict(task_id=task_id)
            skipped.append(Skipped(claim.task, None, conflict))
    if fresh:
        txn.executemany("INSERT INTO idempotency VALUES (?, ?, ?, ?)", fresh)
    return tuple(skipped)


def _look_up(txn: Txn, scopes: Sequence[bytes]) -> dict[bytes, tuple[bytes, int]]:
    """Payload hash and position of the first task, by scope."""
    found = {}
    for start in range(0, len(scopes), _CHUNK):
        part = list(scopes[start : start + _CHUNK])
        # of few lengths, so that there are few statements to prepare
        part += part[-1:] * ((1 << (len(part) - 1).bit_length()) - len(part))
        marks = ",".join("?" * len(part))
        for row in txn.execute(
            f"SELECT scope, payload, position FROM idempotency WHERE scope IN ({marks})", part
        ):
            found[row[0]] = (row[1], row[2])
    return found


class _Holders:
    """Ids of accepted tasks, each frame looked up once."""

    def __init__(self, txn: Txn, shard: int) -> None:
        self._txn = txn
        self._shard = shard
        self._start, self._stop, self._session, self._first = 0, 0, 0, 0

    def task_id(self, position: int) -> str:
        if not self._start <= position < self._stop:
            self._start, count, session, self._first = self._txn.execute(
                "SELECT position, count, session, first FROM commands"
                " WHERE position <= ? ORDER BY position DESC LIMIT 1",
                (position,),
            ).fetchone()
            self._stop, self._session = self._start + count, receipts.unsigned(session)
        return ids.format_id(self._session, self._shard, self._first + position - self._start)


def repoint(txn: Txn, position: int, replay: int, now: int) -> None:
    """Let the key of a dead letter lead to the task that replays it (P17)."""
    txn.execute(
        "UPDATE idempotency SET position = ?, at = ? WHERE position = ?", (replay, now, position)
    )
