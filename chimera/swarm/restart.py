"""When a dead child is made again: at once, then with growing waits; never given up.

Erlang's restart intensity, but for its verdict: a child that dies too often is not the end of its
parent, it is a fault that a person is shown, and tried again at the slowest pace.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How eagerly children of one kind are made again."""

    #: restarts within `window_s` that are normal; more are a fault
    intensity: int = 5
    #: how far back restarts count, seconds
    window_s: float = 60.0
    #: wait before the second restart within the window, seconds; the first has none
    backoff_s: float = 0.2
    #: how much longer each further wait is
    factor: float = 2.0
    #: the longest wait while within the intensity, seconds
    cap_s: float = 5.0
    #: the wait past the intensity, seconds
    exceeded_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Restart:
    """The decision: when to try again."""

    at: float  #: seconds, on the clock of `now`
    recent: tuple[float, ...]  #: the window to hand in at the next death
    exceeded: bool  #: it dies too often: show it to a person


def next_restart(recent: tuple[float, ...], now: float, policy: RestartPolicy) -> Restart:
    """Decide on a child that died (or could not be made) now, by its `recent` restarts."""
    within = tuple(at for at in recent if now - at < policy.window_s)
    earlier = len(within)
    if earlier >= policy.intensity:
        wait = policy.exceeded_s
    elif earlier == 0:
        wait = 0.0
    else:
        wait = min(policy.backoff_s * policy.factor ** (earlier - 1), policy.cap_s)
    return Restart(now + wait, (*within, now), exceeded=earlier >= policy.intensity)
