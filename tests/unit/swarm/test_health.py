"""Silence and suspicion: 350 to 400 ms, the observer's own lag, dwell, the look at a process."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.swarm.health import Health, HealthPolicy, Scrutiny, ScrutinyPolicy

TICK = HealthPolicy().tick_s


def ticks(health, start, stop):
    """Tick regularly; returns (when, who) of each suspicion."""
    found = []
    count = round((stop - start) / TICK)
    for step in range(1, count + 1):
        now = start + step * TICK
        found += [(now, name) for name in health.tick(now)]
    return found


@pytest.fixture
def health():
    health = Health()
    health.tick(0.0)
    health.expect("a", 0.0)
    return health


def test_a_silent_child_is_suspected_once_after_350_to_400_ms(health):
    [(when, who)] = ticks(health, 0.0, 5.0)
    assert who == "a"
    assert 0.35 <= when <= 0.4
    assert not health.trusted("a", 5.0)


def test_a_child_that_speaks_every_100_ms_is_never_suspected(health):
    for step in range(50):
        health.pulse("a", step * 0.1)
        assert not ticks(health, step * 0.1, (step + 1) * 0.1)
    assert health.trusted("a", 5.0)


def test_the_observers_own_pause_is_no_silence_of_the_child(health):
    health.pulse("a", 0.1)
    ticks(health, 0.0, 0.1)
    assert health.tick(1.6) == [], "the observer did not run for 1.5 s"
    health.pulse("a", 1.61)
    assert not ticks(health, 1.6, 1.7)


def test_after_a_pause_of_the_observer_a_child_that_stays_silent_is_suspected_in_the_end(health):
    health.tick(1.5)
    [(when, _)] = ticks(health, 1.5, 5.0)
    assert when <= health.policy.suspect_s + health.policy.guard_max_s + TICK


def test_the_guard_forgets_and_is_bounded():
    health = Health()
    health.tick(0.0)
    health.tick(60.0)
    assert health.slack(0.0, 60.0) == health.policy.guard_max_s
    assert health.slack(60.0, 60.0) == health.policy.guard_max_s
    assert health.slack(63.0, 63.0) == 0.0


def test_a_lag_counts_for_each_hop_of_an_answer(health):
    health.tick(TICK + 0.1)
    assert health.slack(0.2, 0.2) == pytest.approx(0.4)


def test_small_jitter_of_the_observer_widens_nothing(health):
    health.tick(TICK * 1.9)
    assert health.slack(0.0, TICK * 1.9) == 0.0


def test_a_child_that_was_suspected_is_trusted_after_it_spoke_steadily(health):
    ticks(health, 0.0, 0.5)
    assert health.pulse("a", 0.5), "it was suspected until now"
    assert not health.trusted("a", 0.6)
    for step in range(1, 25):
        assert not health.pulse("a", 0.5 + step * 0.1)
    assert health.trusted("a", 2.5)


def test_a_flapping_child_starts_its_dwell_anew(health):
    ticks(health, 0.0, 0.5)
    health.pulse("a", 0.5)
    ticks(health, 0.5, 1.5)
    health.pulse("a", 1.5)
    assert not health.trusted("a", 3.4)
    assert health.trusted("a", 3.5)


def test_suspects_come_in_the_order_they_fell_silent(health):
    health.expect("b", 0.01)
    health.pulse("a", 0.02)
    assert [who for _, who in ticks(health, 0.0, 1.0)] == ["b", "a"]
    assert health.silence("b", 1.01) == 1.0


def test_one_that_is_forgotten_is_not_suspected(health):
    health.forget("a")
    assert not ticks(health, 0.0, 1.0)
    assert not health.trusted("a", 1.0)
    assert not health.pulse("a", 1.0), "it may speak all the same"


@given(st.lists(st.floats(0.001, 1.0), min_size=1, max_size=60))
def test_a_child_heard_at_every_look_is_never_suspected(waits):
    health = Health()
    health.expect("a", 0.0)
    now = 0.0
    for wait in waits:
        now += wait
        health.pulse("a", now)
        assert health.tick(now) == []


@pytest.mark.parametrize("state", [None, "T", "t", "Z", "X"])
def test_one_that_cannot_speak_is_condemned_at_the_first_look(state):
    assert Scrutiny(0.0).condemns(state, 0, 0.0)


def looks(state, ticks_at, policy=None):
    """When a process with that CPU time is condemned, looked at each 50 ms."""
    scrutiny = Scrutiny(0.0, policy or ScrutinyPolicy())
    for step in range(100):
        now = step * 0.05
        if scrutiny.condemns(state, ticks_at(now), now):
            return now
    return None


def test_one_that_works_has_two_seconds():
    assert looks("S", lambda now: int(now * 100)) == pytest.approx(2.0)


def test_one_that_waits_for_a_cpu_works():
    assert looks("R", lambda _: 7) == pytest.approx(2.0)


def test_one_that_stands_still_has_less():
    assert looks("S", lambda _: 7) == pytest.approx(0.3)


def test_without_patience_nobody_is_spared():
    assert looks("R", lambda now: int(now * 100), ScrutinyPolicy(patience_s=0.0)) == 0.0
