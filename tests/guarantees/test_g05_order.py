"""G5: tasks that share a key run one at a time in submit order (a crash may repeat the chain from
its first unrecorded task); other keys are never held up by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.guarantees import chronicle
from tests.guarantees.kit import Lines, Note, World, notes, until

pytestmark = pytest.mark.cluster

KEYS = 12
EACH = 40


def _submit(world: World) -> Any:
    """Chains of tasks, some of which fail at first."""
    return world.client.submit_many(
        "flaky",
        [
            {
                "log": str(world.dir / f"key-{n % KEYS}"), "n": n // KEYS,
                "fails": int(n % 9 == 4), "ms": 2,
            }
            for n in range(KEYS * EACH)
        ],
        key=_keys(),
    )  # fmt: skip


def _keys() -> list[str]:
    return [f"key-{n % KEYS}" for n in range(KEYS * EACH)]


def _logs(world: World) -> list[Path]:
    return [world.dir / f"key-{number}" for number in range(KEYS)]


def _some_of_each(world: World) -> bool:
    return all(Lines(log)() > EACH // 3 for log in _logs(world))


def _check_order(found: list[Note]) -> None:
    """Nothing began before all that was submitted before it had ended."""
    ended: set[int] = set()
    for one in found:
        assert ended >= set(range(int(one.n))), f"{one} came before its turn"
        if one.event == "ended":
            ended.add(int(one.n))
    assert ended == set(range(EACH))


def test_order_holds_through_retries_and_a_leaders_death(make_swarm):
    world = make_swarm()
    bulk = _submit(world)
    until(lambda: _some_of_each(world))
    world.kill(world.region().leaders[0].process)

    assert list(bulk.results(timeout_s=100)) == [n // KEYS for n in range(KEYS * EACH)]
    for log in _logs(world):
        found = notes(log)
        _check_order(found)
        # one at a time, and nothing finished was run again
        assert [one.n for one in found if one.event == "ended"] == [str(n) for n in range(EACH)]
    world.check_one_outcome_each(KEYS * EACH)
    assert chronicle.violations(world.kept(), [bulk], _logs(world), _keys()) == []


def test_order_holds_through_a_workers_death(swarm):
    bulk = _submit(swarm)
    until(lambda: _some_of_each(swarm))
    swarm.kill(next(iter(swarm.workers().values())).process)

    assert list(bulk.results(timeout_s=100)) == [n // KEYS for n in range(KEYS * EACH)]
    for log in _logs(swarm):
        _check_order(notes(log))


def test_other_keys_go_past_one_that_waits(swarm):
    log = swarm.dir / "log"
    leader = swarm.region().leaders[0].leader
    stuck, *others = swarm.keys_of(leader, 9)
    slow = swarm.client.submit(
        "flaky", {"log": str(log), "n": "slow", "fails": 1, "after_s": 3600}, key=stuck
    )
    until(Lines(log))
    behind = swarm.client.submit_many("echo", range(50), key=stuck)
    past = swarm.client.submit_many("echo", range(400), key=[others[n % 8] for n in range(400)])

    assert list(past.results(timeout_s=60)) == list(range(400))
    assert {record.state for record in swarm.client.list(type="echo")} == {"succeeded", "queued"}
    assert slow.status().state == "scheduled"
    assert slow.cancel() == "cancelled"  # its key is free now
    assert list(behind.results(timeout_s=60)) == list(range(50))
