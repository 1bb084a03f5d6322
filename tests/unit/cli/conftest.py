"""A swarm in memory behind the command line."""

from __future__ import annotations

import httpx2
import pytest

from chimera.cli import joining
from chimera.client.swarm import Swarm
from chimera.http import Client
from tests.unit.client.conftest import picky
from tests.unit.client.fake import FakeLeaders, core


@pytest.fixture(autouse=True)
def _own_environment(tmp_path, monkeypatch):
    for name in ("CHIMERA_ADDRESS", "CHIMERA_SWARM", "CHIMERA_TENANT", "CHIMERA_URL",
                 "RAY_ADDRESS"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CHIMERA_CONFIG", str(tmp_path / "config.json"))
    monkeypatch.setenv("CHIMERA_DATA_DIR", str(tmp_path / "home"))


@pytest.fixture
def leaders(monkeypatch):
    """Leaders that the commands connect to."""
    made = FakeLeaders()
    made.handler = picky

    def connect(swarm, tenant, address, timeout_s):
        shared = core(made)
        return Swarm(shared, tenant, shared.close)

    monkeypatch.setattr(joining, "connect", connect)
    return made


@pytest.fixture
def gateway(monkeypatch):
    """Makes a gateway at any URL that answers by a function of the request; what it was sent."""

    def make(answer, swarm: str = "local") -> list[httpx2.Request]:
        sent: list[httpx2.Request] = []
        tree = {"name": swarm, "ready": True, "waiting_for": [], "stopping": False,
                "generation": 1, "term": 1, "process": {"pid": 1, "node": "n"}, "faults": [],
                "regions": [], "slos": []}  # fmt: skip

        def respond(request: httpx2.Request) -> httpx2.Response:
            if request.url.path == "/admin/v1/swarm":
                return httpx2.Response(200, json=tree)
            sent.append(request)
            return answer(request)

        def client(url, *, tenant):
            return Client(url, tenant=tenant, transport=httpx2.MockTransport(respond))

        monkeypatch.setattr(joining, "Client", client)
        return sent

    return make
