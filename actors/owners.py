"""What a worker asks the owners of shards, and how it waits for a new one when an owner dies."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from chimera.actors.cluster import Cluster
from chimera.errors import Fenced, Unavailable

T = TypeVar("T")

#: an owner that has not answered by then is asked again: it may be another by now, seconds
ANSWER_S = 5.0
#: between two tries, unless a new owner introduces itself, seconds
RETRY_S = 0.1


class Owners:
    """The leaders that own the shards whose tasks are in hand (the Owner of chimera.actors.batch).

    Every question may be repeated, and is, until an owner answers or its time is up.
    """

    def __init__(self, cluster: Cluster, leader: Any) -> None:
        """`leader` is the handle of the worker's own leader: the owner of any shard at first."""
        self._cluster = cluster
        self._leader = leader
        self._by_shard: dict[int, Any] = {}
        self._changed = threading.Condition()

    def set(self, shard: int, handle: Any, own: bool) -> None:
        """A shard has a new owner; `own`: the worker's own leader from now on."""
        with self._changed:
            self._by_shard[shard] = handle
            if own:
                self._leader = handle
            self._changed.notify_all()

    def dispatched(self, shards: Iterable[int]) -> None:
        """The own leader sent tasks of these shards: it owns them, whoever did before."""
        for shard in shards:
            self._by_shard.pop(shard, None)

    def of(self, shard: int) -> Any:
        """The handle of whom we take for the owner."""
        return self._by_shard.get(shard, self._leader)

    def memo(self, shard: int, position: int, step: str, timeout_s: float) -> bytes | None:
        """What `ctx.once(step)` stored."""
        stored: bytes | None = self._ask(
            shard, timeout_s, lambda owner: owner.memo.remote(shard, position, step)
        )
        return stored

    def memoise(
        self, shard: int, position: int, step: str, value: bytes, timeout_s: float
    ) -> bytes:
        """Store it unless there is one; the stored one (P18)."""
        stored: bytes = self._ask(
            shard, timeout_s, lambda owner: owner.memoise.remote(shard, position, step, value)
        )
        return stored

    def snapshots(
        self, shard: int, tenant: str, type: str, keys: Sequence[str], timeout_s: float
    ) -> list[bytes | None]:
        """The states that a handler left for some keys."""
        states: list[bytes | None] = self._ask(
            shard,
            timeout_s,
            lambda owner: [owner.snapshot.remote(shard, tenant, type, key) for key in keys],
        )
        return states

    def progress(self, shard: int, position: int, value: Any) -> None:
        """Tell it on; nobody waits for it, and it may be lost."""
        self.of(shard).progress.remote(shard, position, value)

    def _ask(self, shard: int, timeout_s: float, call: Callable[[Any], Any]) -> Any:
        until = time.monotonic() + timeout_s
        while True:
            owner = self.of(shard)
            try:
                left = max(until - time.monotonic(), 0.001)
                return self._cluster.call(call(owner), min(left, ANSWER_S))
            except (Unavailable, Fenced) as fault:
                left = until - time.monotonic()
                if left <= 0:
                    raise Unavailable(
                        f"no owner of shard {shard} answered in {timeout_s:g} s: {fault}"
                    ) from fault
                self._await_change(shard, owner, min(left, RETRY_S))

    def _await_change(self, shard: int, owner: Any, wait_s: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self.of(shard) is not owner, wait_s)
