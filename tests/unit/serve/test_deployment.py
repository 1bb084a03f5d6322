"""What a replica reads of the Serve around it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import ray

from chimera.serve import deployment


@pytest.fixture
def beside(monkeypatch):
    """Serve's own objects of a replica."""
    replica = SimpleNamespace(_shutting_down=False)
    actors = {"id": SimpleNamespace(_replica_impl=replica)}
    monkeypatch.setattr(ray._private.worker.global_worker, "actors", actors)
    return replica


def test_a_replica_knows_when_serve_takes_it_away(beside):
    assert not deployment._drains()
    beside._shutting_down = True
    assert deployment._drains()


def test_a_serve_that_does_not_tell_takes_nothing_away(beside):
    del beside._shutting_down
    assert not deployment._drains()
    ray._private.worker.global_worker.actors.clear()
    assert not deployment._drains()
