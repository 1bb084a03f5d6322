"""How a leader claims a journal: whose it is, and the epoch raised (P2)."""

from __future__ import annotations

import time

from chimera.errors import StaleEpoch, Unavailable
from chimera.store.protocol import Journal
from chimera.swarm.reports import Owner, TakeOrder

#: for those who still read a journal to let go of it, seconds
TAKE_S = 5.0


def owner_at(journal: Journal, order: TakeOrder) -> Owner | None:
    """Who has the shard at the order's epoch. Raises StaleEpoch, with the actual one (P2)."""
    epoch, owner = journal.owner()
    if epoch != order.epoch:
        raise StaleEpoch(
            f"the journal of shard {order.shard} is at epoch {epoch}, not {order.epoch}",
            epoch=epoch,
            shard=order.shard,
            owner=owner.name if owner is not None else "",
        )
    return owner


def raise_epoch(journal: Journal, expected: int, owner: Owner) -> None:
    """Take the journal, as soon as nobody who is going reads it any more. Raises Unavailable."""
    until = time.monotonic() + TAKE_S
    while True:
        try:
            journal.take(expected, owner)
            return
        except Unavailable as busy:
            if time.monotonic() >= until:
                raise
            time.sleep(min(busy.retry_after, 0.05))
