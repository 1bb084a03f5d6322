"""Unit tests use neither Ray nor the network: what is pure stays testable without either."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import ray

from chimera.config import environment


@pytest.fixture(autouse=True)
def _no_ray_and_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_ray(*_: object, **__: object) -> None:
        pytest.fail("a unit test must not start Ray: it belongs into tests/swarm")

    connect = socket.socket.connect

    def no_network(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX:
            pytest.fail(f"a unit test must not use the network: {address}")
        connect(self, address)  # type: ignore[arg-type] # as it came

    monkeypatch.setattr(ray, "init", no_ray)
    monkeypatch.setattr(socket.socket, "connect", no_network)


@pytest.fixture(autouse=True)
def _own_variables() -> Iterator[None]:
    """CHIMERA_* are read once a process; here once a test."""
    environment.cache_clear()
    yield
    environment.cache_clear()
