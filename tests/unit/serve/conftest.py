"""A gateway on a swarm in memory."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from chimera.client import AsyncSwarm
from chimera.client.core import Core
from chimera.serve.app import build
from chimera.serve.gateway import Gateway
from tests.unit.client.fake import FakeLeaders


@pytest.fixture
def gateway(monkeypatch):
    """A gateway; `leaders` are those of its swarm."""
    leaders = FakeLeaders(ring=1, leaders=1)
    core = Core("direct", leaders, lambda url: None)
    found = Gateway("direct")

    async def opened():
        found._client = AsyncSwarm(core, "default", lambda: None)

    monkeypatch.setattr(found, "open", opened)
    found.leaders = leaders
    yield found
    core.close()


@pytest.fixture
def http(gateway):
    with TestClient(build(gateway), raise_server_exceptions=False) as client:
        yield client
