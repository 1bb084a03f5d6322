"""Many small worlds: whatever happens, every task ends once and keys keep their order."""

from __future__ import annotations

import pytest

from chimera.frames import outcome
from chimera.swarm.policy import TaskPolicy
from tests.unit.swarm.leader.world import World


def finish(world: World) -> None:
    world.until_settled()
    assert not world.overlap, world.overlap[:3]
    state = world.machine.state
    shard = state.shards[0]
    assert shard.open == 0
    assert not shard.keys.busy
    assert not shard.keys.waiting
    assert not shard.keys.aside
    for key, order in world.order.items():
        # a crash repeats the chain from its first unrecorded task (P15): the last run counts
        last = {position: turn for turn, position in enumerate(order)}
        last = {position: turn for position, turn in last.items() if position not in world.delayed}
        assert sorted(last) == sorted(last, key=last.__getitem__), f"{key} ran out of order"


@pytest.mark.parametrize("seed", range(15))
def test_every_task_ends_once(seed: int) -> None:
    world = World(seed)
    for _ in range(20):
        world.submit(world.random.randrange(1, 300))
        world.turn()
    finish(world)
    assert all(times == 1 for times in world.runs.values())


@pytest.mark.parametrize("seed", range(15))
def test_failing_tasks_are_tried_again_and_then_dead_letters(seed: int) -> None:
    world = World(seed, fail=0.2, policy=TaskPolicy(type="t", max_attempts=3))
    for _ in range(10):
        world.submit(world.random.randrange(1, 100))
        world.turn()
    finish(world)
    for position, state in world.outcomes.items():
        assert world.runs[position] <= 3
        assert state == outcome.SUCCEEDED or world.runs[position] == 3


@pytest.mark.parametrize("seed", range(25))
def test_keys_keep_their_order_through_retries_and_crashes(seed: int) -> None:
    world = World(seed, fail=0.05, crash=0.003, keys=5)
    for _ in range(10):
        world.submit(world.random.randrange(1, 60))
        world.turn()
    finish(world)


@pytest.mark.parametrize("seed", range(25))
def test_delayed_tasks_join_their_keys_order(seed: int) -> None:
    world = World(
        seed, fail=0.05, delay=0.1, keys=5, policy=TaskPolicy(type="t", max_attempts=50)
    )  # fmt: skip
    for _ in range(12):
        world.submit(world.random.randrange(1, 60))
        world.turn()
    finish(world)


@pytest.mark.parametrize("seed", range(20))
def test_keys_keep_their_order_across_classes_and_types(seed: int) -> None:
    other = TaskPolicy(type="u")
    world = World(seed, fail=0.05, keys=4, policies=(other,))
    for _ in range(12):
        kind = world.random.choice("tu")
        world.submit(world.random.randrange(1, 40), kind, world.random.randrange(3))
        if world.random.random() < 0.4:
            world.turn()
    finish(world)


@pytest.mark.parametrize("seed", range(20))
def test_delays_hangs_crashes_and_a_full_disk_together(seed: int) -> None:
    world = World(
        seed, fail=0.05, crash=0.002, hang=0.002, delay=0.1, refuse=0.1,
        policy=TaskPolicy(type="t", attempt_timeout_s=0.5, max_attempts=10),
    )  # fmt: skip
    for _ in range(10):
        world.submit(world.random.randrange(1, 80))
        world.turn()
    finish(world)


@pytest.mark.parametrize("seed", range(20))
def test_keyed_tasks_with_all_of_that(seed: int) -> None:
    world = World(
        seed, fail=0.05, crash=0.002, hang=0.002, refuse=0.1, keys=6,
        policy=TaskPolicy(type="t", attempt_timeout_s=0.5, max_attempts=10),
    )  # fmt: skip
    for _ in range(10):
        world.submit(world.random.randrange(1, 50), tenant=world.random.choice(["a", "b"]))
        world.turn()
    finish(world)
