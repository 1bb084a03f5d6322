"""Swarms for tests of guarantees: one that is shared by those who do it no lasting harm, and new
ones for those who do."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.guarantees.kit import World, open_gate

#: two of each leader: they come back to it after its death one by one, a second or two each
SHARDS = 4


def _name() -> str:
    return f"g{uuid.uuid4().hex[:8]}"


class _Shared:
    """The swarm that is up between tests; another one if it is not sound any more."""

    def __init__(self, make_directory: Callable[[], Path]) -> None:
        self._make_directory = make_directory
        self._world: World | None = None

    def get(self) -> World:
        """A swarm that is as its spec declares."""
        if self._world is not None:
            try:
                self._world.settle(30.0)
            except AssertionError:
                self.end()
        if self._world is None:
            self._world = World(_name(), self._make_directory(), shards=SHARDS)
            self._world.up()
        return self._world

    def end(self) -> None:
        world, self._world = self._world, None
        if world is not None:
            world.down()


@pytest.fixture(scope="package")
def _shared(ray_cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Shared]:
    shared = _Shared(lambda: tmp_path_factory.mktemp("swarm"))
    yield shared
    shared.end()


@pytest.fixture
def swarm(_shared: _Shared, tmp_path: Path) -> Iterator[World]:
    """A swarm of two leaders with a worker each, seen by a tenant of the test's own."""
    world = _shared.get().for_tenant(f"t-{uuid.uuid4().hex[:8]}", tmp_path)
    yield world
    open_gate(tmp_path / "gate")  # a test that failed must not keep the workers from the next one
    world.client.close()


@pytest.fixture
def make_swarm(ray_cluster: Any, tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Makes swarms of the test's own, with these settings; they end with it."""
    made: list[World] = []

    def make(**settings: Any) -> World:
        name = settings.pop("name", None) or _name()
        world = World(name, tmp_path, **{"shards": SHARDS, **settings})
        made.append(world)
        world.up()
        return world

    yield make
    for world in made:
        world.down()
