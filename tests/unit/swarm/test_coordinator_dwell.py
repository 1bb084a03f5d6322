"""A leader that falls silent again and again is given nothing until it has spoken steadily."""

from __future__ import annotations

import pytest

from chimera.swarm.coordinator.effects import Release, Take
from chimera.swarm.coordinator.state import LeaderState
from tests.unit.swarm.region_world import World, plan

A, B, C = "leader/local/0", "leader/local/1", "leader/local/2"


def flap(world: World, name: str) -> None:
    """It falls silent until it is suspected, and speaks again: its process works all the while."""
    leader, life = world.leaders[name], world.machine
    child = life.state.leaders[name]
    leader.watcher = -1
    world.until(lambda: child.state is LeaderState.SUSPECT)
    leader.watcher = child.serial
    world._pulse(leader, child.serial, life)
    assert child.state is LeaderState.UP


def acts(world: World, kind: type) -> list:
    return [act for act in world.acts if isinstance(act, kind)]


@pytest.fixture
def back() -> World:
    """Of two leaders one died, and has just been made again: the other has every shard."""
    world = World(plan())
    world.until(world.even)
    world.kill(A)
    world.until(world.all_served)
    world.until(lambda: world.machine.state.leaders[A].state is LeaderState.UP)
    del world.acts[:]
    return world


def test_no_shard_is_moved_to_a_leader_that_flaps(back: World) -> None:
    assert back.patience.settled_s < 1.5 < back.patience.health.dwell_s
    for _ in range(5):
        flap(back, A)
        back.run(1.5)  # unchanged for long enough, but not trusted yet
    assert not acts(back, Release)
    waited = 1.5 + back.until(lambda: acts(back, Release))
    assert waited == pytest.approx(back.patience.health.dwell_s, abs=0.05)
    back.until(back.even)
    assert not back.ended


def test_a_leader_that_never_flapped_waits_for_the_region_to_settle_only(back: World) -> None:
    took = back.until(lambda: acts(back, Release))
    assert took == pytest.approx(back.patience.settled_s, abs=0.05)


def test_shards_of_a_dead_leader_go_to_those_that_are_steady() -> None:
    world = World(plan(leaders=3, shards=9))
    world.until(world.even)
    flap(world, B)
    del world.acts[:]
    world.kill(A)
    world.until(world.all_served)
    assert {order.leader for order in acts(world, Take)} == {C}


def test_where_no_leader_is_steady_one_that_flaps_has_to_do(back: World) -> None:
    flap(back, A)
    del back.acts[:]
    back.kill(B)
    assert back.until(back.all_served) < back.patience.health.dwell_s
    assert {order.leader for order in acts(back, Take)} == {A}
