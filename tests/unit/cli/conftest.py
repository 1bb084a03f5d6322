"""A swarm in memory behind the command line."""

from __future__ import annotations

import pytest

from chimera.cli import joining
from chimera.client.swarm import Swarm
from tests.unit.client.conftest import picky
from tests.unit.client.fake import FakeLeaders, core


@pytest.fixture(autouse=True)
def _own_environment(tmp_path, monkeypatch):
    for name in ("CHIMERA_ADDRESS", "CHIMERA_SWARM", "CHIMERA_TENANT", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
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
