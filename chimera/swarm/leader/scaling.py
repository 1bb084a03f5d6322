"""How many workers a leader should have, by what waits and how long its types take.

As a horizontal autoscaler does it: a wish is made from the load at every look, and a pool follows
wishes only where they hold for a while. It grows to the least that was wished within the last
moment, so that a blip starts nothing, and shrinks to the most within a long window, so that it does
not flap.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

#: a wish for more must hold for so long
GROW_AFTER_S = 0.5
#: between two growths: what was just started must get a chance to help
COOL_DOWN_S = 1.0
#: seconds over which the number of busy workers is averaged
BUSY_MEAN_S = 5.0
#: share of its time that a worker should be busy, at most
UTILISATION = 0.7
#: between two looks
LOOK_S = 0.25


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the spec allows, and how quick the pool is."""

    least: int
    most: int
    grow_wait_s: float = 1.0
    shrink_after_s: float = 30.0


@dataclass(slots=True)
class Scaler:
    """The wishes of the last while."""

    wishes: deque[tuple[float, int]] = field(default_factory=deque)  #: (when, how many)
    busy: float = 0.0  #: workers, on average
    looked_at: float | None = None
    grown_at: float = float("-inf")

    def is_due(self, now: float) -> bool:
        """Whether it is time to look again."""
        return self.looked_at is None or now - self.looked_at >= LOOK_S

    def target(self, target: int, waiting_s: float, busy: int, bounds: Bounds, now: float) -> int:
        """How many workers there should be, with `target` of them wanted so far.

        `waiting_s` is the expected work of all tasks that wait, `busy` how many workers have work.
        """
        self._look(waiting_s, busy, bounds, now)
        lately = [wish for at, wish in self.wishes if now - at <= GROW_AFTER_S]
        held = self.wishes[0][0] <= now - GROW_AFTER_S
        target = min(max(target, bounds.least), bounds.most)
        if held and min(lately) > target and now - self.grown_at >= COOL_DOWN_S:
            self.grown_at = now
            return min(*lately, 2 * max(target, 1))
        watched = self.wishes[0][0] <= now - bounds.shrink_after_s
        if watched:
            return min(target, max(wish for _, wish in self.wishes))
        return target

    def _look(self, waiting_s: float, busy: int, bounds: Bounds, now: float) -> None:
        passed = LOOK_S if self.looked_at is None else now - self.looked_at
        self.looked_at = now
        self.busy += (1.0 - math.exp(-passed / BUSY_MEAN_S)) * (busy - self.busy)
        # a hair below: two workers that are always busy, by floats, are no more than two
        wish = max(waiting_s / bounds.grow_wait_s, self.busy / UTILISATION) - 1e-6
        self.wishes.append((now, min(max(math.ceil(wish), bounds.least), bounds.most)))
        # one older than the window stays: it tells that the window was watched from its start
        while len(self.wishes) > 1 and self.wishes[1][0] <= now - bounds.shrink_after_s:
            self.wishes.popleft()
