"""Lanes: parcels that wait to go the same way, the calls that carry them, and who waits for whom.

Pure state: the publisher sends, and says what time it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

from chimera.client.parcels import Frame, Parcel
from chimera.errors import NotReady, Overloaded

#: publish calls in flight, where the order of tasks does not matter
CALLS_MAX = 4
#: further calls while those in flight are being sent again: a dead leader holds up its shards only
TROUBLED_MAX = 12
#: seconds after which single tasks no longer wait for the call in flight
PATIENCE_S = 0.05
#: seconds that those who wait for a call in flight wait for those whom it answers: a frame costs
#: client and leader much the same for one task as for twenty
GATHER_S = 0.001
#: tasks of a crowd, which is waited for as long as the call took, but no longer than so many
#: seconds: that is what a frame too few costs it
CROWD = 8
GATHER_MAX_S = 0.01
#: seconds between looks at a lane of whose calls it is not known when they are waited for no more
PAUSE_MIN_S = 0.01
#: tasks that may wait for one shard, or for any
QUEUE_MAX = 50_000


@dataclass(slots=True, eq=False)
class Flight:
    """One publish call, from its first try to its last."""

    lane: Lane
    shard: int
    frames: list[Frame]
    began: float
    tries: int = 0

    @property
    def tasks(self) -> int:
        """How many it carries."""
        return sum(frame.count for frame in self.frames)


@dataclass(slots=True, eq=False)
class Lane:
    """Parcels that go the same way."""

    #: where its frames must go; None: to whoever is next
    shard: int | None
    calls_max: int
    #: seconds that the queue waits for a call in flight before it sends the next one
    patience_s: float
    queue: deque[Parcel] = field(default_factory=deque)
    tasks: int = 0  #: in the queue
    flights: list[Flight] = field(default_factory=list)
    next_look: float = inf  #: when it is looked at although nothing has happened
    _crowd: int = 0  #: tasks that the next frame is to hold
    _crowd_until: float = 0.0  #: when it goes with fewer

    def put(self, parcels: Iterable[Parcel], bulk: bool = False) -> None:
        """Queue parcels, up to a bound; a bulk has a window of its own."""
        for parcel in parcels:
            if self.tasks >= QUEUE_MAX and not bulk:
                parcel.promise.fail(
                    Overloaded(f"{self.tasks} tasks of this client wait already", retry_after=0.1)
                )
            else:
                self.queue.append(parcel)
                self.tasks += len(parcel.payloads)

    def put_back(self, parcels: list[Parcel]) -> None:
        """They were never sent: they are the first to go."""
        for parcel in reversed(parcels):
            parcel.placed = None
            self.queue.appendleft(parcel)
            self.tasks += len(parcel.payloads)

    def expire(self, now: float) -> None:
        """Tell those whose time is over."""
        if not any(parcel.until <= now for parcel in self.queue):
            return
        kept: deque[Parcel] = deque()
        for parcel in self.queue:
            if parcel.until > now:
                kept.append(parcel)
            else:
                self.tasks -= len(parcel.payloads)
                parcel.promise.fail(NotReady("not sent in time: its shard takes nothing just now"))
        self.queue = kept

    def may_start(self, now: float) -> bool:
        """Whether what waits may be sent."""
        if self.shard is not None:
            return not self.flights
        sound = [flight for flight in self.flights if not flight.tries]
        if len(sound) >= self.calls_max or len(self.flights) >= self.calls_max + TROUBLED_MAX:
            return False
        if self.gathers(now):
            return False
        return all(now >= flight.began + self.patience_s for flight in sound)

    def gathers(self, now: float) -> bool:
        """Whether those who wait do so for those who were answered."""
        return self.tasks < self._crowd and now < self._crowd_until

    def gather(self, answered: int, began: float, now: float) -> float:
        """Single tasks of a call were answered while others wait: have all share the next call.

        Returns seconds until it goes without those who have not come by then; 0: it does not wait.
        Where most wait already, nobody is waited for: a burst has nobody who comes back.
        """
        crowd = answered + self.tasks
        if crowd == 1 or answered < self.tasks:
            return 0.0
        took_s = now - began if crowd >= CROWD else 0.0
        wait_s = min(max(took_s, GATHER_S), GATHER_MAX_S)
        self._crowd, self._crowd_until = crowd, now + wait_s
        return wait_s

    def pause_s(self, now: float) -> float:
        """Seconds until a look at the lane may be of use although nothing has happened."""
        youngest = max((one.began for one in self.flights if not one.tries), default=-inf)
        left = youngest + self.patience_s - now
        return left if 0.0 < left < inf else max(self.patience_s, PAUSE_MIN_S)

    def wanted(self, now: float) -> int:
        """How many more tasks there must be for a look at the lane to be of use by now."""
        if self.may_start(now):
            return 1
        if self.gathers(now):
            return self._crowd - self.tasks
        return max(QUEUE_MAX - self.tasks, 1)  # the one that is too many is to be told
