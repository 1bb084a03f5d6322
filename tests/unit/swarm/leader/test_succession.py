"""Leaders die one after the other: every task ends once, finished work is not run again, keys keep
their order."""

from __future__ import annotations

import pytest

from chimera.swarm.policy import TaskPolicy
from tests.unit.swarm.leader.succession import Succession
from tests.unit.swarm.leader.test_leader_world import finish


def live(world: Succession, *, failovers: int = 4, most: int = 60) -> None:
    """Tasks come, leaders go."""
    for turn in range(40):
        if turn < 20:
            world.submit(world.random.randrange(1, most))
        if world.random.random() < failovers / 40:
            world.failover()
        for _ in range(world.random.randrange(8)):
            world.turn()
    world.failover()
    finish(world)


@pytest.mark.parametrize("seed", range(40))
def test_nothing_is_run_twice(seed: int) -> None:
    world = Succession(seed)
    live(world, most=300)
    assert all(times == 1 for times in world.runs.values())


@pytest.mark.parametrize("seed", range(40))
def test_keys_keep_their_order_and_nothing_is_run_twice(seed: int) -> None:
    world = Succession(seed, keys=5)
    live(world)
    assert all(times == 1 for times in world.runs.values())


@pytest.mark.parametrize("seed", range(60))
def test_keys_keep_their_order_through_retries(seed: int) -> None:
    world = Succession(seed, keys=4, fail=0.05, policy=TaskPolicy(type="t", max_attempts=50))
    live(world)
    assert set(world.ended.values()) == {1}


@pytest.mark.parametrize("seed", range(40))
def test_delays_crashes_silence_and_a_full_disk_without_keys(seed: int) -> None:
    world = Succession(
        seed, mute=0.2, fail=0.05, crash=0.002, delay=0.1, refuse=0.1,
        policy=TaskPolicy(type="t", max_attempts=50),
    )  # fmt: skip
    world.is_strict = False  # nobody waits for a silent worker where there is no key (P15)
    live(world)


@pytest.mark.parametrize("seed", range(60))
def test_keys_with_crashes_silence_and_a_full_disk(seed: int) -> None:
    world = Succession(
        seed, mute=0.2, keys=5, fail=0.05, crash=0.002, refuse=0.1,
        policy=TaskPolicy(type="t", max_attempts=50),
    )  # fmt: skip
    live(world)


@pytest.mark.parametrize("seed", range(40))
def test_keys_with_delays(seed: int) -> None:
    world = Succession(
        seed, mute=0.1, keys=5, fail=0.05, delay=0.1,
        policy=TaskPolicy(type="t", max_attempts=50),
    )  # fmt: skip
    live(world)
