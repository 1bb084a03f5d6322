"""State of keys: what a handler left with the last good outcome is what the next task finds."""

from __future__ import annotations

import pytest

from chimera.frames import command, outcome
from tests.unit.actors.kit import Bench, item


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def sums(bench, payloads, keys, **more):
    return bench.run(item("sum", payloads, keys=keys, **more))


def snapshots(answer, shard=0):
    return [one.snapshot for slot, one in sorted(answer.outcomes.items()) if slot[0] == shard]


def test_the_state_goes_with_the_outcome_of_a_keys_last_task(bench):
    answer = sums(bench, [1, 2, 3], ["a", "b", "a"])
    assert [body[0] for body in answer.bodies()] == [1, 2, 4]
    assert snapshots(answer) == [None, 2, 4]


def test_a_dispatch_asks_for_each_key_once_and_starts_from_what_is_stored(bench):
    bench.owner.states["t", "sum", "a"] = b"100"
    answer = bench.run(
        item("sum", [1, 1], keys=["a", "b"]), item("sum", [1, 1], position=5, keys=["a", "c"])
    )
    assert [body[0] for body in answer.bodies()] == [101, 1, 102, 1]
    assert bench.worker._runner._handlers["sum", "t"].keeper.restored == ["a", "b", "c"]
    assert bench.owner.asked == [("snapshots", 0, "t", "sum", "a", "b"),
                                 ("snapshots", 0, "t", "sum", "c")]  # fmt: skip


def test_another_worker_may_have_changed_it_meanwhile(bench):
    sums(bench, [1], ["a"])
    bench.owner.states["t", "sum", "a"] = b"50"
    assert sums(bench, [1], ["a"]).bodies()[0][0] == 51


@pytest.mark.parametrize("payload", [-1, -2])
def test_a_failed_attempt_leaves_no_trace(bench, payload):
    answer = sums(bench, [5, payload], ["a", "a"])
    assert snapshots(answer) == [5, None]
    handler = bench.worker._runner._handlers["sum", "t"]
    assert handler.keeper.sums == {"a": 5}


def test_a_task_without_key_has_no_state(bench):
    answer = sums(bench, [5, 1], [None, "a"])
    assert [body[0] for body in answer.bodies()] == [5, 1]
    assert snapshots(answer) == [None, 1]


def test_tenants_share_no_state(bench):
    answer = bench.run(
        item("sum", [1], keys=["a"]), item("sum", [10], position=5, keys=["a"], tenant="u")
    )
    assert answer.bodies() == [[1, 1], [10, 1]]


@pytest.mark.parametrize(
    ("payload", "error"), [(666, "builtins.ValueError"), (777, "chimera.PermanentError")]
)
def test_a_state_that_cannot_be_kept_fails_the_attempt(bench, payload, error):
    answer = sums(bench, [payload, 1], ["a", "b"])
    assert answer.states() == ["attempt failed", "succeeded"]
    assert answer.bodies()[0]["error"] == error
    assert snapshots(answer) == [None, 1]


def test_a_state_that_cannot_be_restored_fails_the_attempt(bench):
    bench.owner.states["t", "sum", "a"] = b"-5"
    answer = sums(bench, [1, 1, 1], ["a", "b", "a"])
    assert answer.states() == ["attempt failed", "succeeded", "open"]
    assert answer.bodies()[0]["message"] == "no such state"


def test_without_an_owner_nothing_is_run(bench):
    bench.owner.silent = True
    answer = bench.run(item("sum", [1, 2], keys=["a", "b"]), item("echo", [3], position=9))
    assert answer.states() == ["open", "open", "succeeded"]


def test_each_outcome_frame_has_the_last_state_of_its_keys(bench):
    """Frames are recorded one by one: a state must not be in a later one than its task."""
    keys = [f"k{index}" for index in range(12)]
    for key in keys:
        bench.owner.states["t", "sum", key] = b'"' + b"y" * 20_000 + b'"'
    answer = bench.run(item("sum", [""] * 24, keys=keys[:2] * 12))
    assert len(answer.frames) == 1, "a state that follows replaces the one before"
    assert [bool(one) for one in snapshots(answer)] == [False] * 22 + [True] * 2

    order = keys * 2
    answer = bench.run(item("sum", [""] * 24, position=100, keys=order))
    assert len(answer.frames) > 2
    assert max(len(frame) for _, frame in answer.frames) <= command.BYTES_MAX
    for _, frame in answer.frames:
        of = outcome.header(frame)
        kept = outcome.columns(frame, of).snapshots
        first = of.position - 100
        last = {order[first + index]: index for index in range(of.count)}
        assert kept is not None
        assert sorted(kept) == sorted(last.values())
