"""The client over HTTP: the verbs of `chimera.connect`, without Ray."""

from __future__ import annotations

from chimera.http.aio import AsyncBulk, AsyncClient, AsyncHandle
from chimera.http.sync import Bulk, Client, Handle

__all__ = ["AsyncBulk", "AsyncClient", "AsyncHandle", "Bulk", "Client", "Handle"]
