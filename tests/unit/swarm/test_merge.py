"""Joining tallies: whatever way reports take, the outcome is the same."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.swarm import merge
from chimera.swarm.merge import INCARNATIONS_MAX, Tally, join
from chimera.swarm.reports import Reading
from chimera.swarm.sketch import Sketch


def reading(leader: int, incarnation: int, number: int) -> Reading:
    """What that incarnation says the `number`th time: always the same, and it only grows."""
    sketch = Sketch()
    for i in range(number):
        sketch.add(0.001 * (1 + leader + i), 10)
    counted = {"succeeded": 10 * number * (leader + 1), "failed": number // 2}
    return Reading(f"leader/eu/{leader}", incarnation, number, counted, {"run": sketch.to_bytes()})


READINGS = st.builds(
    reading, st.integers(0, 2), st.integers(1, INCARNATIONS_MAX + 4), st.integers(1, 6)
)
TALLIES = st.lists(READINGS, max_size=12).map(join)


@given(TALLIES, TALLIES)
def test_order_does_not_matter(one: Tally, other: Tally) -> None:
    assert join(one, other) == join(other, one)


@given(TALLIES, TALLIES, TALLIES)
def test_grouping_does_not_matter(one: Tally, two: Tally, three: Tally) -> None:
    assert join(join(one, two), three) == join(one, join(two, three)) == join(one, two, three)


@given(TALLIES, TALLIES)
def test_repetition_does_not_matter(one: Tally, other: Tally) -> None:
    assert join(one, one) == one
    assert join(join(one, other), other, one) == join(one, other)


@given(st.lists(READINGS, min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_repeated_late_and_reordered_reports_leave_the_totals_alone(
    said: list[Reading], dice: random.Random
) -> None:
    heard: Tally = ()
    on_the_way = said * 3
    dice.shuffle(on_the_way)
    for one in on_the_way:
        before = merge.totals(heard)
        heard = join(heard, (one,))
        if len({r.incarnation for r in said}) < INCARNATIONS_MAX:
            after = merge.totals(heard)
            assert all(after[name] >= count for name, count in before.items()), "a counter fell"
    assert heard == join(said)


def test_totals_add_incarnations_and_not_reports() -> None:
    heard = join([reading(0, 1, 3), reading(0, 2, 1), reading(1, 1, 2)], [reading(0, 1, 2)])
    assert merge.totals(heard) == {"succeeded": 30 + 10 + 40, "failed": 1 + 0 + 1}


def test_only_the_newest_incarnations_are_kept() -> None:
    heard = join([reading(0, n, 1) for n in range(1, 100)], [reading(1, 1, 1)])
    kept = Counter(one.leader for one in heard)
    assert kept == {"leader/eu/0": INCARNATIONS_MAX, "leader/eu/1": 1}
    assert {one.incarnation for one in heard if one.leader.endswith("0")} == set(
        range(100 - INCARNATIONS_MAX, 100)
    )


def test_quantiles_are_those_of_all_leaders_together() -> None:
    slow, quick = Sketch(), Sketch()
    quick.add(0.010, 900)
    slow.add(1.0, 100)
    tally = (
        Reading("leader/eu/0", 1, 1, {}, {"run": quick.to_bytes()}),
        Reading("leader/us/0", 1, 1, {}, {"run": slow.to_bytes()}),
        Reading("leader/us/1", 1, 1, {}, {}),
    )
    found = merge.latency(tally, "run", (0.5, 0.95))
    assert found == pytest.approx((0.010, 1.0), rel=0.02)
    assert merge.latency(tally, "wait", (0.5,)) is None
    assert merge.latency((), "run", (0.5,)) is None


@given(TALLIES, READINGS)
def test_one_reading_more_is_the_same_join(heard: Tally, said: Reading) -> None:
    assert merge.renewed(heard, said) == join(heard, (said,))
