"""What stands in a Ray cluster for the leaders of a region in another one, and is called like them.

It knows nothing: whatever it is asked it passes on over the region's link. When the region does not
answer, it says that it has none of its shards, so that clients send new work elsewhere at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ray

from chimera.actors.cluster import Silent, myself
from chimera.actors.control.remote import RemoteRegion
from chimera.errors import ChimeraError, NotOwner, OutcomeUnknown
from chimera.swarm.reports import Placement

#: between two questions to the region for its placement, seconds
LOOK_S = 0.25
#: a region that has not answered for so long takes no new work, seconds
QUIET_S = 1.0
#: for a leader's answer, beside the time that it is asked to wait, seconds; a client waits as long
ASK_S = 2.0


@ray.remote(  # type: ignore[call-overload]  # Ray's stubs know neither option for classes
    concurrency_groups={"publish": 8, "call": 16, "receipt": 16, "wait": 32, "read": 4, "ctl": 4},
    enable_task_events=False,
)
class Gate:
    """The leaders of one region behind its link.

    Methods are those of a leader that clients call; each raises what the leader raised, or
    OutcomeUnknown if it is not known whether the leader heard it.
    """

    def __init__(self, link: str) -> None:
        self._region = RemoteRegion(link)
        self._found: tuple[float, Placement] | None = None
        threading.Thread(target=self._look, name="look", daemon=True).start()

    def _look(self) -> None:
        while True:
            asked = time.monotonic()
            try:
                found = self._region.placement.remote().future().result()
            except ChimeraError:
                pass
            else:
                self._found = (asked, found)
            time.sleep(LOOK_S)

    @ray.method(concurrency_group="ctl")
    def placement(self) -> Placement:
        """Which shards the region serves, all of them through here; none if it does not answer."""
        if self._found is None or self._is_quiet():
            return Placement(term=0, shards={}, handles={})
        found = self._found[1]
        here = dict.fromkeys(found.shards.values(), myself())
        return replace(found, handles=here)

    @ray.method(concurrency_group="ctl")
    def types(self) -> Any:
        return self._ask("types", None, ())

    @ray.method(concurrency_group="publish")
    def append(self, shard: int, *frames: bytes) -> Any:
        if self._is_quiet():  # not sent, so that it may go elsewhere (P13)
            refusal = NotOwner(f"the region of shard {shard} does not answer", shard=shard)
            return [refusal.to_wire()] * len(frames)
        return self._ask("append", shard, (shard, *frames))

    @ray.method(concurrency_group="call")
    def call(self, shard: int, wait_s: float, frame: bytes) -> Any:
        return self._ask("call", shard, (shard, wait_s, frame), wait_s)

    @ray.method(concurrency_group="receipt")
    def receipts(self, shard: int, wait_s: float, senders: Sequence[Any]) -> Any:
        return self._ask("receipts", shard, (shard, wait_s, list(senders)), wait_s)

    @ray.method(concurrency_group="wait")
    def outcomes(
        self, shard: int, ranges: Sequence[tuple[int, int]], wait_s: float, least: int = 8
    ) -> Any:
        return self._ask("outcomes", shard, (shard, list(ranges), wait_s, least), wait_s)

    @ray.method(concurrency_group="read")
    def get(self, tenant: str, keys: Sequence[tuple[int, int, int]], bodies: bool) -> Any:
        return self._ask("get", keys[0][1], (tenant, list(keys), bodies))

    @ray.method(concurrency_group="read")
    def list_tasks(self, shard: int, where: Any, cursor: int | None, limit: int) -> Any:
        return self._ask("list_tasks", shard, (shard, where, cursor, limit))

    @ray.method(concurrency_group="read")
    def cancel(self, tenant: str, session: int, shard: int, counter: int, reason: str) -> Any:
        return self._ask("cancel", shard, (tenant, session, shard, counter, reason))

    @ray.method(concurrency_group="read")
    def cancel_waiting(
        self, tenant: str, session: int, shard: int, counter: int, reason: str
    ) -> Any:
        return self._ask("cancel_waiting", shard, (tenant, session, shard, counter, reason))

    @ray.method(concurrency_group="read")
    def replay(self, tenant: str, session: int, shard: int, counter: int) -> Any:
        return self._ask("replay", shard, (tenant, session, shard, counter))

    @ray.method(concurrency_group="read")
    def discard(self, tenant: str, session: int, shard: int, counter: int) -> Any:
        return self._ask("discard", shard, (tenant, session, shard, counter))

    @ray.method(concurrency_group="read")
    def happened(self, shard: int, tenant: str, after: int, limit: int) -> Any:
        return self._ask("happened", shard, (shard, tenant, after, limit))

    @ray.method(concurrency_group="read")
    def progress_of(self, shard: int, position: int) -> Any:
        return self._ask("progress_of", shard, (shard, position))

    def _is_quiet(self) -> bool:
        return self._quiet_s() > QUIET_S

    def _quiet_s(self) -> float:
        """Since the region was asked for what it answered last, seconds."""
        return time.monotonic() - (self._found[0] if self._found else float("-inf"))

    def _ask(self, verb: str, shard: int | None, args: tuple[Any, ...], wait_s: float = 0.0) -> Any:
        try:
            # a client that is told at once looks who has the shard now
            return self._region.ask(verb, shard, args, wait_s + ASK_S, self._is_quiet)
        except Silent as fault:
            raise OutcomeUnknown(fault.message) from fault
