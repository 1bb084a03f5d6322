"""Whether a failed attempt is followed by another, and when."""

from __future__ import annotations

from dataclasses import dataclass

from chimera.frames.outcome import Failure
from chimera.swarm.policy import TaskPolicy


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after this many seconds."""

    after_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The task ends failed, and is a dead letter."""

    reason: str


def unit(*parts: int) -> float:
    """A number in [0, 1) that looks random and follows from its parts alone (splitmix64).

    Machines draw their jitter from it: the same schedule of events always gives the same effects.
    """
    state = 0
    for part in parts:
        state = (state ^ part) + 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        state = (state ^ state >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return (state >> 11) / (1 << 53)


def backoff_s(policy: TaskPolicy, attempt: int, jitter: float) -> float:
    """Seconds to wait after failed attempt number `attempt`: full jitter.

    Drawn from [0, min(cap, initial * factor ** (attempt - 1))): "Exponential Backoff And Jitter",
    AWS Architecture Blog, 2015, "full jitter".
    """
    ceiling = policy.backoff_initial_s * policy.backoff_factor ** min(attempt - 1, 64)
    return jitter * min(policy.backoff_cap_s, ceiling)


def _named(error: str, names: tuple[str, ...]) -> bool:
    return error in names or error.rpartition(".")[2] in names


def decide(policy: TaskPolicy, attempt: int, failure: Failure, jitter: float) -> Retry | GiveUp:
    """What follows on failed attempt number `attempt` (from 1)."""
    if not failure.retryable:
        return GiveUp("not retryable")
    if _named(failure.error, policy.no_retry):
        return GiveUp(f"{failure.error} is in no_retry")
    if attempt >= policy.max_attempts:
        return GiveUp(f"{attempt} of {policy.max_attempts} attempts failed")
    if failure.retry_after is not None:
        return Retry(max(0.0, failure.retry_after))
    return Retry(backoff_s(policy, attempt, jitter))
