"""What every route needs: the swarm as a client sees it, for any tenant, and its limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Header, Request

from chimera import names
from chimera.actors.access import CALL_S, status
from chimera.actors.cluster import Cluster, Silent
from chimera.client import AsyncSwarm, connect_async
from chimera.errors import InvalidRequest, NotReady
from chimera.serve.checks import Memory
from chimera.serve.places import Places
from chimera.swarm.reports import SwarmStatus

T = TypeVar("T")

#: header that says for whom; without it the tenant is this one
TENANT_HEADER = "Chimera-Tenant"
DEFAULT_TENANT = "default"
TENANT_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$"
#: how long an answer about the whole swarm may be used again, seconds
STATUS_S = 0.2
MIB = 1024 * 1024
#: for the orchestrator to answer what is asked of the schema registry, seconds
REGISTRY_S = 20.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may be; past it, it is refused."""

    body_bytes: int = 17 * MIB  #: of a request, bulks aside
    batch_bytes: int = 256 * MIB  #: of a bulk
    line_bytes: int = 17 * MIB  #: of a bulk's line
    header_bytes: int = 32 * 1024
    idle_s: float = 30.0  #: between two pieces of a body
    body_s: float = 120.0  #: for a whole body, bulks aside
    streams: int = 100  #: of events, at once
    bulks: int = 32  #: at once
    waits: int = 500  #: requests that wait at once: what asks for less must still get in

    def with_payloads_of(self, payload_bytes: int) -> Limits:
        """With room for a payload that a swarm takes, and a MiB for what goes with it."""
        least = payload_bytes + MIB
        return replace(
            self,
            body_bytes=max(self.body_bytes, least),
            batch_bytes=max(self.batch_bytes, least),
            line_bytes=max(self.line_bytes, least),
        )


class Gateway:
    """The swarm behind a replica's routes."""

    def __init__(
        self, swarm: str, limits: Limits | None = None, drains: Callable[[], bool] = lambda: False
    ) -> None:
        """`drains` tells whether the replica is being taken away: it must not wait for anything."""
        self.name = names.check(swarm)
        self.limits = limits or Limits()
        self.streams = Places(self.limits.streams, "streams of events")
        self.bulks = Places(self.limits.bulks, "bulks")
        self.waits = Places(self.limits.waits, "requests that wait for a task's end")
        self.health = Memory()
        self._drains = drains
        self._client: AsyncSwarm | None = None
        self._asked: asyncio.Future[SwarmStatus] | None = None
        self._answered_at = float("inf")  #: inf: not yet

    async def open(self) -> None:
        """Connect to the swarm. Raises what `connect` raises."""
        self._client = await connect_async(self.name, DEFAULT_TENANT, timeout_s=60.0)
        settings = self._client.core.link.settings
        self.limits = self.limits.with_payloads_of(settings.payload_max_bytes)

    @property
    def is_open(self) -> bool:
        """Whether it is connected to the swarm."""
        return self._client is not None

    @property
    def draining(self) -> bool:
        """Whether it is being taken away, and only ends what it has begun."""
        return self._drains()

    @property
    def may_wait(self) -> bool:
        """Whether one more request may wait for a task's end."""
        return self.waits.free and not self.draining

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    def swarm(self, tenant: str) -> AsyncSwarm:
        """The swarm as a tenant sees it. Raises InvalidRequest, NotReady."""
        if self._client is None:
            raise NotReady("the gateway is starting")
        try:
            return AsyncSwarm(self._client.core, tenant, _nothing)
        except ValueError as fault:
            raise InvalidRequest(f"{TENANT_HEADER}: {fault}") from fault

    async def status(self, timeout_s: float = CALL_S) -> SwarmStatus:
        """What is observed of the whole swarm.

        Those who ask at once share one call, and its answer or fault is also that of whoever asks
        within `STATUS_S` of it. Raises what `access.status` raises, Silent after `timeout_s`.
        """
        if self._asked is None or time.monotonic() - self._answered_at > STATUS_S:
            self._asked = _elsewhere(partial(status, self.name, timeout_s=CALL_S))
            self._answered_at = float("inf")
            self._asked.add_done_callback(self._answered)
        asked = self._asked
        done, _ = await asyncio.wait([asked], timeout=timeout_s)
        if not done:
            raise Silent(f"no answer of the orchestrator in {timeout_s:g} s")
        return asked.result()

    def _answered(self, asked: asyncio.Future[SwarmStatus]) -> None:
        self._answered_at = time.monotonic()
        if not asked.cancelled():
            asked.exception()  # all who asked may have gone: nobody else looks at it then

    async def orchestrator(self, call: Callable[[Any], Any], timeout_s: float) -> Any:
        """Call the orchestrator. Raises what it raises, Unavailable if it does not answer."""
        return await _elsewhere(partial(self._call, call, timeout_s))

    async def registry(self, op: str, arguments: dict[str, Any]) -> Any:
        """Carry out an operation of the schema registry. Raises RegistryFault, Unavailable."""
        return await self.orchestrator(
            lambda handle: handle.registry.remote(op, arguments), REGISTRY_S
        )

    def _call(self, call: Callable[[Any], Any], timeout_s: float) -> Any:
        cluster = Cluster(names.namespace(self.name))
        handle = cluster.find(names.ORCHESTRATOR)
        if handle is None:
            raise NotReady("the orchestrator is not there just now", retry_after=1.0)
        return cluster.call(call(handle), timeout_s)


def _elsewhere(ask: Callable[[], T]) -> asyncio.Future[T]:
    """Ask Ray in a thread, and in no request's context: its end would cancel the call (ray#52476).

    That is what `asyncio.to_thread` would do.
    """
    return asyncio.get_running_loop().run_in_executor(None, ask)


def _nothing() -> None:
    """Views of a tenant share the gateway's connection, which outlives them."""


async def gateway_of(request: Request) -> Gateway:
    """The gateway of the application that answers."""
    found: Gateway = request.app.state.gateway
    return found


GatewayDep = Annotated[Gateway, Depends(gateway_of)]


async def _tenant_swarm(
    gateway: GatewayDep,
    tenant: Annotated[
        str,
        Header(
            alias=TENANT_HEADER,
            description="The tenant for whom this is done.",
            pattern=TENANT_PATTERN,
        ),
    ] = DEFAULT_TENANT,
) -> AsyncSwarm:
    return gateway.swarm(tenant)


#: the swarm, as the tenant of the request sees it
SwarmDep = Annotated[AsyncSwarm, Depends(_tenant_swarm)]
