"""Results as Ray objects: whoever calls this actor owns the ref, and it outlives leaders (P21).

It keeps nothing: a call that was pending when it died is made again by Ray and asks the leaders
anew. Refs of a bulk come by range, so that pending ones are few.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import ray

from chimera.client import AsyncSwarm, connect_async
from chimera.client.aio import AsyncBulk
from chimera.client.bulk import BulkTasks, Segment
from chimera.client.parcels import Accepted
from chimera.errors import Unavailable

T = TypeVar("T")

#: pending calls, at most; the next ones wait at the actor
CONCURRENCY = 10_000
#: seconds that a swarm which is down may take to come back before it is asked again
PATIENCE_S = 60.0
#: seconds until then
AGAIN_S = 0.1


#: Ray's own signature does not know them all
_OPTIONS: dict[str, Any] = {
    "num_cpus": 0,
    "max_restarts": -1,
    "max_task_retries": -1,
    "max_concurrency": CONCURRENCY,
    "enable_task_events": False,
}


@ray.remote(**_OPTIONS)
class Results:
    """Waits for outcomes on behalf of those who want ObjectRefs; stateless."""

    def __init__(self, swarm: str) -> None:
        self._swarm = swarm
        self._tenants: dict[str, AsyncSwarm] = {}

    async def result(self, task_id: str, tenant: str) -> Any:
        """The result of a task. Raises TaskError, NotFound, InvalidRequest."""
        return await self._patiently(tenant, lambda swarm: swarm.handle(task_id).result())

    async def results(self, accepted: Accepted, tenant: str) -> list[Any]:
        """The results of consecutive tasks; an error stands in the place of one that failed."""

        async def gather(swarm: AsyncSwarm) -> list[Any]:
            tasks = BulkTasks(swarm.core, tenant)
            tasks.add(Segment(range(accepted.count), accepted))
            return [one async for one in AsyncBulk(tasks).results(return_exceptions=True)]

        return await self._patiently(tenant, gather)

    async def pid(self) -> int:
        """The process that this runs in."""
        return os.getpid()

    async def _patiently(self, tenant: str, work: Callable[[AsyncSwarm], Awaitable[T]]) -> T:
        """A swarm that is not ready is no answer: ask until it is."""
        while True:
            try:
                swarm = self._tenants.get(tenant)
                if swarm is None:
                    swarm = await connect_async(self._swarm, tenant, timeout_s=PATIENCE_S)
                    self._tenants[tenant] = swarm
                return await work(swarm)
            except Unavailable:
                await asyncio.sleep(AGAIN_S)
