"""The client inside the Ray cluster: submit tasks, hear their outcomes, survive failovers."""

from __future__ import annotations

from chimera.client.aio import AsyncBulk, AsyncHandle, AsyncSwarm
from chimera.client.bulk import Counts
from chimera.client.connection import connect, connect_async
from chimera.client.handle import Bulk, Handle
from chimera.client.swarm import Swarm

__all__ = [
    "AsyncBulk",
    "AsyncHandle",
    "AsyncSwarm",
    "Bulk",
    "Counts",
    "Handle",
    "Swarm",
    "connect",
    "connect_async",
]
