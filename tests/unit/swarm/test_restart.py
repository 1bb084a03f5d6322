"""Restarts: at once, then with growing waits, slow when it happens too often, never given up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.swarm.restart import RestartPolicy, next_restart

POLICY = RestartPolicy()


@pytest.mark.parametrize(
    ("recent", "wait", "exceeded"),
    [
        ((), 0.0, False),
        ((99.0,), 0.2, False),
        ((98.0, 99.0), 0.4, False),
        ((97.0, 98.0, 99.0), 0.8, False),
        ((96.0, 97.0, 98.0, 99.0), 1.6, False),
        ((95.0, 96.0, 97.0, 98.0, 99.0), 10.0, True),
        ((1.0, 2.0, 3.0), 0.0, False),  # out of the window
        ((40.0, 41.0), 0.2, False),  # one of them just out of it
    ],
)
def test_waits(recent, wait, exceeded):
    decision = next_restart(recent, 100.0, POLICY)
    assert decision.at == pytest.approx(100.0 + wait)
    assert decision.exceeded is exceeded
    assert decision.recent[-1] == 100.0


def test_no_wait_within_the_intensity_is_longer_than_the_cap():
    policy = RestartPolicy(intensity=50)
    recent = tuple(float(at) for at in range(60, 100))
    assert next_restart(recent, 100.0, policy).at == 100.0 + policy.cap_s


@given(st.lists(st.floats(0.0, 30.0), max_size=200))
def test_the_window_is_bounded_and_a_restart_is_never_in_the_past(gaps):
    now, recent = 0.0, ()
    for gap in gaps:
        now += gap
        decision = next_restart(recent, now, POLICY)
        assert now <= decision.at <= now + POLICY.exceeded_s
        assert all(now - at < POLICY.window_s for at in decision.recent)
        recent, now = decision.recent, max(now, decision.at)
