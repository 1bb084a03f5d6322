"""Connecting to a swarm: one core for each in a process, shared by all who connect."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from chimera import names
from chimera.client.address import resolve
from chimera.client.aio import AsyncSwarm
from chimera.client.core import Blobs, Core
from chimera.client.ports import LeaderLink
from chimera.client.swarm import Swarm
from chimera.errors import ChimeraError

if TYPE_CHECKING:
    from chimera.config import Environment

#: seconds that `connect` waits for a swarm that is still starting
CONNECT_TIMEOUT_S = 10.0


class _Shared:
    """A core, its Ray connection, and how many clients use it."""

    def __init__(self, core: Core, connection: str) -> None:
        self.core = core
        self.connection = connection
        self.users = 0


#: cores by swarm
_shared: dict[str, _Shared] = {}
_lock = threading.Lock()
#: this process was forked off one that was connected: Ray's threads did not come along
_orphaned = False


def connect(
    swarm: str | None = None,
    tenant: str | None = None,
    address: str | None = None,
    timeout_s: float = CONNECT_TIMEOUT_S,
) -> Swarm:
    """Connect to a running swarm.

    `swarm` and `tenant` are those of CHIMERA_SWARM and CHIMERA_TENANT, else `local` and `default`.
    `address` is that of its Ray cluster; without it CHIMERA_ADDRESS, RAY_ADDRESS or the cluster
    that `chimera up` started on this machine. A process that is connected to Ray stays with that
    cluster. Raises NotFound if there is no such swarm, NotReady if it is not up `timeout_s` seconds
    later, ChimeraError if its Ray cannot be joined, ModuleNotFoundError without `chimera[swarm]`.
    """
    core, release = _acquire(swarm, address, timeout_s)
    return Swarm(core, tenant or _environment().tenant, release)


async def connect_async(
    swarm: str | None = None,
    tenant: str | None = None,
    address: str | None = None,
    timeout_s: float = CONNECT_TIMEOUT_S,
) -> AsyncSwarm:
    """The same for coroutines."""
    # beside the event loop: joining Ray takes a second or more
    core, release = await asyncio.to_thread(_acquire, swarm, address, timeout_s)
    return AsyncSwarm(core, tenant or _environment().tenant, release)


def _environment() -> Environment:
    from chimera.config import environment  # here: pydantic is not needed over HTTP

    return environment()


def _acquire(
    name: str | None, address: str | None, timeout_s: float
) -> tuple[Core, Callable[[], None]]:
    if _orphaned:
        raise ChimeraError(
            "this process was forked off one that was connected to Ray, which does not survive a "
            "fork: connect only after forking, or start processes with the 'spawn' method"
        )
    # imported here: everything else of the client works without Ray
    try:
        from chimera.client.link import RayLink, join_ray
    except ModuleNotFoundError as fault:
        raise ModuleNotFoundError(
            f"{fault.name} is not installed: pip install 'chimera[swarm]' brings it; over HTTP "
            "chimera.Client(url) needs none of it",
            name=fault.name,
        ) from fault

    swarm = names.check(name or _environment().swarm)
    connection = join_ray(swarm, resolve(swarm, address))
    with _lock:
        shared = _shared.get(swarm)
        if shared is None or not shared.core.is_open or shared.connection != connection:
            link = RayLink(swarm)
            link.open(timeout_s)
            core = Core(swarm, _through_broker(swarm, link), _open_blobs)
            shared = _shared[swarm] = _Shared(core, connection)
        shared.users += 1
    return shared.core, _releaser(swarm, shared)


def _through_broker(swarm: str, link: LeaderLink) -> LeaderLink:
    """The link, around which tasks go through the swarm's broker, if it has one."""
    settings = link.settings
    if not settings.bus:
        return link
    from chimera.bus.connect import connect as connect_bus
    from chimera.client.broker import BrokerLink
    from chimera.contracts.codec import Codec
    from chimera.contracts.own import OwnSchemas
    from chimera.contracts.remote import RemoteRegistry
    from chimera.traffic.records import Writer
    from chimera.traffic.topics import topics

    registry = RemoteRegistry(settings.registry) if settings.registry else OwnSchemas()
    writer = Writer(Codec(registry))
    return BrokerLink(link, connect_bus(settings.bus), topics(swarm, settings.ring), writer)


def _releaser(swarm: str, shared: _Shared) -> Callable[[], None]:
    released = False

    def release() -> None:
        nonlocal released
        with _lock:
            if released:
                return
            released = True
            shared.users -= 1
            if shared.users:
                return
            if _shared.get(swarm) is shared:
                del _shared[swarm]
        shared.core.close()

    return release


def _open_blobs(url: str) -> Blobs:
    from chimera.store.blobs import Blobs as Store  # here: its libraries take a while to load

    return Store(url)


def _after_fork() -> None:
    global _lock, _orphaned
    _lock = threading.Lock()  # of the parent it may be held by a thread that is not here
    ray = sys.modules.get("ray")
    _orphaned = _orphaned or bool(_shared) or (ray is not None and ray.is_initialized())
    _shared.clear()


os.register_at_fork(after_in_child=_after_fork)
