"""Retries: who is tried again, and when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.frames.outcome import Failure
from chimera.swarm.policy import TaskPolicy
from chimera.swarm.retry import GiveUp, Retry, backoff_s, decide, unit

POLICY = TaskPolicy(type="t", max_attempts=3, no_retry=("ValueError", "pkg.Odd"))


@pytest.mark.parametrize(
    ("failure", "attempt", "expected"),
    [
        (Failure("builtins.OSError"), 1, Retry),
        (Failure("builtins.OSError"), 2, Retry),
        (Failure("builtins.OSError"), 3, GiveUp),
        (Failure("builtins.ValueError"), 1, GiveUp),
        (Failure("pkg.Odd"), 1, GiveUp),
        (Failure("other.Odd"), 1, Retry),
        (Failure("builtins.OSError", retryable=False), 1, GiveUp),
    ],
)
def test_which_failures_are_tried_again(
    failure: Failure, attempt: int, expected: type[Retry | GiveUp]
) -> None:
    assert isinstance(decide(POLICY, attempt, failure, 0.5), expected)


def test_the_handlers_own_wish_for_a_wait_wins() -> None:
    failure = Failure("chimera.RetryAfter", retry_after=7.5)
    assert decide(POLICY, 1, failure, 0.99) == Retry(7.5)


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff_is_full_jitter_under_the_cap(attempt: int, jitter: float) -> None:
    wait = backoff_s(POLICY, attempt, jitter)
    ceiling = min(POLICY.backoff_cap_s, POLICY.backoff_initial_s * 2.0 ** min(attempt - 1, 64))
    assert 0 <= wait <= ceiling
    assert wait == pytest.approx(jitter * ceiling)


def test_jitter_follows_from_its_parts_and_spreads() -> None:
    drawn = [unit(3, position, 1) for position in range(1000)]
    assert drawn == [unit(3, position, 1) for position in range(1000)]
    assert all(0 <= value < 1 for value in drawn)
    assert 0.45 < sum(drawn) / len(drawn) < 0.55
    assert len(set(drawn)) == 1000
