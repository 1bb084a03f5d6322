"""Replaying a dead letter: a new task at the end of its key's order (P17)."""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from chimera.errors import NotFound
from chimera.frames import command, ids
from chimera.store.journal import idempotency, receipts, schedule
from chimera.store.journal.append import Arrival, accept
from chimera.store.journal.txn import Txn
from chimera.store.protocol import Receipt


def replay(txn: Txn, shard: int, position: int, now: int) -> tuple[str, Receipt, bytes]:
    """The new task's id, receipt and frame; the same ones when asked again."""
    row = txn.execute("SELECT replayed FROM dead WHERE position = ?", (position,)).fetchone()
    if row is None:
        raise NotFound(f"no dead letter at position {position}")
    session = receipts.unsigned(txn.session)
    if row[0] is not None:
        start, frame = schedule.read_command(txn.execute, row[0])
        task_id = ids.format_id(session, shard, command.header(frame).first)
        return task_id, Receipt(start, 1, True), frame
    start, old = schedule.read_command(txn.execute, position)
    cutter, index = schedule.Cutter(old), position - start
    of = cutter.of
    head = msgspec.structs.replace(
        cutter.head, at=now, replay_of=ids.format_id(of.session, shard, of.first + index)
    )
    columns = cutter.options(index)
    if columns is not None:  # delay and deadline belonged to the task that failed
        columns = msgspec.structs.replace(columns, not_before=None, deadline=None)
    counter = txn.counter
    frame = command.pack(session, shard, counter, head, [cutter.payload(index)], columns)
    digest = blake2b(frame, digest_size=16).digest()
    arrival = Arrival(frame, command.header(frame), head, digest, columns, ())
    receipt = accept(txn, arrival, now, skipped=())
    txn.counter += 1
    txn.execute("UPDATE dead SET replayed = ? WHERE position = ?", (receipt.position, position))
    idempotency.repoint(txn, position, receipt.position, now)
    return ids.format_id(session, shard, counter), receipt, frame


def discard(txn: Txn, position: int) -> None:
    """Forget a dead letter. Its outcome stays."""
    gone = txn.execute("DELETE FROM dead WHERE position = ?", (position,)).rowcount
    if not gone:
        raise NotFound(f"no dead letter at position {position}")
    txn.dead -= gone
    txn.wrote(b"discard", position.to_bytes(8, "little"))
