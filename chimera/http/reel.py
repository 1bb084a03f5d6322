"""The outcomes of many tasks over HTTP, one request each: whom to ask next, and for how long.

No I/O: threads and coroutines both do the requests, and hand in what they heard.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from chimera.errors import ChimeraError, InvalidRequest, NotFound, TaskError, WaitTimeout
from chimera.http.bulk import Bulk
from chimera.http.verbs import FOREVER, WAIT_S, Api, Steps

#: tasks of a bulk that are asked for at once
WINDOW = 16
#: of these, so many look at tasks whose turn it is not; the others wait for those whose turn it is
SCOUTS = 4
#: seconds in which the scouts look at all that are open, if they are few
ROUND_S = 5.0
#: seconds that a scout stays with a task at least: the gateway must not be kept busy by waiting
LOOK_S = 0.25

#: what a task can end with; any other error is about the asking
_ENDS = (TaskError, InvalidRequest, NotFound)


class Told(NamedTuple):
    """What was heard of a task."""

    state: str
    value: Any = None
    fault: ChimeraError | None = None  #: what it ended with instead
    ended: bool = True


class Reel:
    """One pass over the outcomes of a bulk. Not safe for threads."""

    def __init__(self, api: Api, tasks: Bulk, timeout_s: float | None) -> None:
        self._api = api
        self._tasks = tasks
        self._until = time.monotonic() + (FOREVER if timeout_s is None else timeout_s)
        self._asked = 0  #: requests under way
        self._left = len(tasks)  #: tasks that were not told

    @property
    def over(self) -> bool:
        """Whether all was told."""
        return not self._left

    def asks(self) -> Iterator[tuple[int, Steps[Told]]]:
        """Whom to ask now, and how."""
        while self._asked < WINDOW and (found := self._next()) is not None:
            self._asked += 1
            yield found[0], self._ask(*found)

    def _ask(self, index: int, wait_s: float) -> Steps[Told]:
        try:
            view = yield from self._api.look(self._tasks.id(index), wait_s, self._until)
            if not view.ended:
                return Told(view.state, ended=False)
            return Told(view.state, (yield from self._api.value(view)))
        except _ENDS as fault:
            return Told("", fault=fault)

    def heard(self, index: int, told: Told) -> list[tuple[int, Told]]:
        """An answer; what can be told now. Raises WaitTimeout if the time is over."""
        self._asked -= 1
        if told.ended:
            self._tasks.heard(index, told.fault)
            found = self._ended(index, told)
            self._left -= len(found)
            return found
        if time.monotonic() >= self._until:
            still = self._tasks.counts().open
            raise WaitTimeout(f"{still} of {len(self._tasks)} tasks are not done yet", open=still)
        self._open(index, told)
        return []

    def _next(self) -> tuple[int, float] | None:
        """Whom to ask next, and for how long at most; None: nobody just now."""
        raise NotImplementedError

    def _ended(self, index: int, told: Told) -> list[tuple[int, Told]]:
        raise NotImplementedError

    def _open(self, index: int, told: Told) -> None:
        raise NotImplementedError


class InOrder(Reel):
    """In submit order: all wait for the first ones that were not told."""

    def __init__(self, api: Api, tasks: Bulk, timeout_s: float | None) -> None:
        super().__init__(api, tasks, timeout_s)
        self._rest = iter(range(len(tasks)))
        self._again: list[int] = []
        self._first = 0
        self._early: dict[int, Told] = {}  #: that ended before those in front of them

    def _next(self) -> tuple[int, float] | None:
        if self._again:
            return self._again.pop(), WAIT_S
        if self._asked + len(self._early) >= WINDOW:
            return None
        index = next(self._rest, None)
        return None if index is None else (index, WAIT_S)

    def _ended(self, index: int, told: Told) -> list[tuple[int, Told]]:
        self._early[index] = told
        found = []
        while self._first in self._early:
            found.append((self._first, self._early.pop(self._first)))
            self._first += 1
        return found

    def _open(self, index: int, told: Told) -> None:
        self._again.append(index)


_OPEN, _PUT_OFF, _ASKED, _ENDED = range(4)


class AsCompleted(Reel):
    """As they end. Mostly that is in submit order: most requests wait for the first ones.

    The others, the scouts, look at the rest in turn: a task that ends before those in front of it
    is found, the sooner the fewer are open.
    """

    def __init__(self, api: Api, tasks: Bulk, timeout_s: float | None) -> None:
        super().__init__(api, tasks, timeout_s)
        self._states = bytearray(len(tasks))  #: a byte a task
        self._scouting: set[int] = set()
        self._place = 0  #: where the scouts are
        self._found = False  #: what a scout saw last had ended: where it is there may be more

    def _next(self) -> tuple[int, float] | None:
        rest = self._left - self._asked - 1
        if rest < 0:
            return None
        index = -1
        if self._asked - len(self._scouting) < WINDOW - SCOUTS:
            index = self._states.find(_OPEN)
        wait_s = WAIT_S
        if index < 0:
            index = self._around()
            self._place = index + 1
            self._scouting.add(index)
            if rest:
                wait_s = min(max(ROUND_S * SCOUTS / rest, LOOK_S), WAIT_S)
                wait_s = 0.0 if self._found else wait_s
        self._states[index] = _ASKED
        return index, wait_s

    def _around(self) -> int:
        """The next that is not asked for, from where the scouts are."""
        for start in (self._place, 0):
            found = [self._states.find(state, start) for state in (_OPEN, _PUT_OFF)]
            if any(index >= 0 for index in found):
                return min(index for index in found if index >= 0)
        raise IndexError("all are asked for")

    def _ended(self, index: int, told: Told) -> list[tuple[int, Told]]:
        self._heard(index, _ENDED)
        return [(index, told)]

    def _open(self, index: int, told: Told) -> None:
        # it has its turn when it is due, which only those who wait for all of them would see
        self._heard(index, _PUT_OFF if told.state == "scheduled" else _OPEN)

    def _heard(self, index: int, state: int) -> None:
        self._states[index] = state
        if index in self._scouting:
            self._scouting.discard(index)
            self._found = state == _ENDED


def value_of(told: Told, keep: bool) -> Any:
    """A result; or what its task ended with instead, raised unless that is kept as a value."""
    if told.fault is not None and not keep:
        raise told.fault
    return told.value if told.fault is None else told.fault
