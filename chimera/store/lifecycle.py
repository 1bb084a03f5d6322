"""Sweeps objects that no task refers to any more.

An object goes when it was last stored long before anything that is kept, and no shard names it. To
that end each shard's owner leaves a mark in the store: the objects that its tasks refer to, as far
as these are older than their retention. Nothing is swept while a mark is missing or old, so that a
shard without an owner loses nothing; nor in a store that another swarm's objects are in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from chimera.errors import ChimeraError, InvalidRequest, NotFound
from chimera.store import blobs
from chimera.store.blobs import Blobs

#: a mark that is older says nothing any more, ms; also what clocks may differ by
FRESH_MS = 3_600_000
_OWNER = "lifecycle/swarm"
_OBJECT = re.compile(r"[0-9a-f]{2}/[0-9a-f]{64}\Z")


class Mark(msgspec.Struct, frozen=True):
    """What a shard still refers to."""

    at: int  #: Unix ms
    keys: list[str]


class Lifecycle:
    """The object store of a swarm, as whoever sweeps it sees it."""

    def __init__(self, store: Blobs, swarm: str, shards: int, kept_ms: int) -> None:
        """`swarm` names it as nothing else does. `kept_ms`: after that long a frame that refers
        to an object is in the marks, or gone: the retention of outcomes and the re-send window.
        """
        self._store = store
        self._swarm = swarm
        self._shards = shards
        self._kept_ms = kept_ms

    def mark(self, shard: int, claims: Sequence[bytes], now: int) -> None:
        """Say what a shard refers to. Raises Unavailable."""
        keys = sorted({key for claim in claims if (key := _key(claim))})
        self._store.write(f"lifecycle/marks/{shard:04d}", msgspec.json.encode(Mark(now, keys)))

    def sweep(self, now: int) -> int:
        """Delete what is old and named by nobody; how many objects.

        Raises InvalidRequest if the store is shared with another swarm, Unavailable.
        """
        self._check_owner()
        used: set[str] = set()
        for shard in range(self._shards):
            mark = self._marked(shard)
            if mark is None or mark.at < now - FRESH_MS:
                return 0
            used.update(mark.keys)
        before = now - self._kept_ms - 2 * FRESH_MS
        old = [
            name
            for name, at in self._store.list("")
            if at < before and name not in used and _OBJECT.match(name)
        ]
        self._store.remove(old)
        return len(old)

    def _check_owner(self) -> None:
        owner = self._store.create(_OWNER, self._swarm.encode()).decode(errors="replace")
        if owner != self._swarm:
            raise InvalidRequest(
                f"the object store {self._store.shown} also holds objects of swarm {owner!r}: none"
                " are swept. Give each swarm a prefix of its own, such as s3://BUCKET/SWARM"
            )

    def _marked(self, shard: int) -> Mark | None:
        try:
            data: Any = self._store.read(f"lifecycle/marks/{shard:04d}")
            return msgspec.json.decode(data, type=Mark)
        except (NotFound, msgspec.MsgspecError):
            return None


def _key(claim: bytes) -> str:
    """The object behind a claim check; nothing for what is none."""
    try:
        return blobs.parse(claim).key
    except ChimeraError:
        return ""
