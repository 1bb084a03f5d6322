"""From silence to suspicion, without suspecting the healthy: a lag guard, a dwell time, a look.

A child speaks about every 100 ms. One that has not for `suspect_s` is suspected. The observer's
own lag is no child's silence: what the observer lost widens the timeout of all. A child that was
suspected is trusted again only after it has spoken steadily for `dwell_s`. A suspect whose process
can be seen is looked at (P3) before anything is taken from it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """When silence counts. All in seconds."""

    #: silence after which a child is suspected; a tick later at most, so 350 to 400 ms
    suspect_s: float = 0.36
    #: how often the observer means to look
    tick_s: float = 0.025
    #: ticks that are late by less than this say nothing about the observer
    jitter_s: float = 0.025
    #: how long the observer's lag widens the timeout
    guard_s: float = 2.0
    #: a child's word needs about that many threads to be run, here and there, each as late as ours
    hops: float = 4.0
    #: the guard widens no further than this: a machine that always lags must still fail over
    guard_max_s: float = 2.0
    #: how long a child that was suspected must speak before it is trusted again
    dwell_s: float = 2.0


@dataclass(slots=True)
class _Child:
    heard: float
    suspected: bool = False
    #: since when it has spoken without being suspected; None: it was never suspected
    steady_since: float | None = None


@dataclass(slots=True)
class Health:
    """Who of the watched is silent. `tick` must be called about every `tick_s`."""

    policy: HealthPolicy = field(default_factory=HealthPolicy)
    _children: dict[str, _Child] = field(default_factory=dict)
    _ticked: float | None = None
    #: (when, by how much) ticks came late, oldest first
    _lags: deque[tuple[float, float]] = field(default_factory=deque)

    def expect(self, child: str, now: float) -> None:
        """Watch a child from now on, as one that has just spoken."""
        self._children[child] = _Child(heard=now)

    def forget(self, child: str) -> None:
        """Watch it no longer."""
        self._children.pop(child, None)

    def pulse(self, child: str, now: float) -> bool:
        """It spoke. Returns whether it was suspected until now."""
        known = self._children.setdefault(child, _Child(heard=now))
        known.heard = now
        if not known.suspected:
            return False
        known.suspected = False
        known.steady_since = now
        return True

    def tick(self, now: float) -> list[str]:
        """The children that are suspected from now on, in the order they fell silent."""
        late = 0.0 if self._ticked is None else now - self._ticked - self.policy.tick_s
        self._ticked = now
        if late > self.policy.jitter_s:
            # what was said while the observer did not run may still be on its way to it
            self._lags.append((now, late))
        silent = [
            (known.heard, name)
            for name, known in self._children.items()
            if not known.suspected
            and now - known.heard >= self.policy.suspect_s + self.slack(known.heard, now)
        ]
        for _, name in silent:
            self._children[name].suspected = True
        return [name for _, name in sorted(silent)]

    def slack(self, since: float, now: float) -> float:
        """By how much the observer's own lag widens the timeout of one heard `since`, seconds.

        All that the observer lost since then, and at least its worst recent lag for each hop of
        an answer: what has just happened to it is likely to happen to others, and again.
        """
        lost = self.lost(since, now)
        worst = max((late for _, late in self._lags), default=0.0)
        return min(max(lost, worst * self.policy.hops), self.policy.guard_max_s)

    def lost(self, since: float, now: float) -> float:
        """For how long the observer itself did not run since then, in seconds."""
        while self._lags and now - self._lags[0][0] > self.policy.guard_s:
            self._lags.popleft()
        return sum(late for at, late in self._lags if at > since)

    def silence(self, child: str, now: float) -> float:
        """Seconds since it spoke."""
        return now - self._children[child].heard

    def trusted(self, child: str, now: float) -> bool:
        """Whether it speaks, and has done so steadily if it was suspected before."""
        known = self._children.get(child)
        if known is None or known.suspected:
            return False
        since = known.steady_since
        return since is None or now - since >= self.policy.dwell_s


@dataclass(frozen=True, slots=True)
class ScrutinyPolicy:
    """How long a silent process that still works is spared (P3). In seconds."""

    #: a process that works may take this long to speak again
    patience_s: float = 2.0
    #: one whose CPU time stands still for this long does not work
    still_s: float = 0.3


#: states of /proc/PID/stat in which nothing will be said: stopped, traced, zombie, dead
_SPEECHLESS = "TtZX"


@dataclass(slots=True)
class Scrutiny:
    """Repeated looks at one silent process: it is condemned, or it may still be busy."""

    began: float
    policy: ScrutinyPolicy = field(default_factory=ScrutinyPolicy)
    _moved: float = 0.0
    _ticks: int = -1

    def condemns(self, state: str | None, cpu_ticks: int, now: float) -> bool:
        """Judge by a look: `state` as in /proc/PID/stat, None if there is no such process."""
        if state is None or state in _SPEECHLESS:
            return True
        # one that waits for a CPU is not hung: the machine is busy
        if cpu_ticks != self._ticks or state == "R":
            self._ticks, self._moved = cpu_ticks, now
        return now - self.began >= self.policy.patience_s or now - self._moved >= (
            self.policy.still_s
        )
