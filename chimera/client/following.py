"""What ends in a swarm, shard by shard, as one stream."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from chimera.client.core import Core
from chimera.client.steps import Steps
from chimera.errors import Unavailable
from chimera.store.protocol import TaskRecord

#: between two looks at the journals, seconds
LOOK_S = 0.25
#: recorded rows that are read at once, a shard; one may be a frame of a thousand tasks
ROWS = 8


class Follower:
    """Reads what was recorded since it began: each task once, unless its shard moves."""

    def __init__(self, core: Core, tenant: str, type: str | None, for_s: float | None) -> None:
        self._core = core
        self._tenant = tenant
        self._type = type
        self._until = None if for_s is None else time.monotonic() + for_s
        self._marks: dict[int, int] = {}
        self._found: deque[TaskRecord] = deque()

    def begin(self) -> Steps[None]:
        """Note where each shard is: what ends from now on is told."""
        for shard in range(self._core.link.settings.ring):
            self._marks[shard], _ = yield from self._look(shard, -1)

    def next(self) -> Steps[TaskRecord | None]:
        """The next task that ended; None when the time is over."""
        while not self._found:
            moved = False
            for shard, mark in tuple(self._marks.items()):
                try:
                    last, found = yield from self._look(shard, mark)
                except Unavailable:
                    continue  # it is being taken over
                moved = moved or last != mark
                self._marks[shard] = last
                self._found += [one for _, one in found if self._type in (None, one.type)]
            if self._found:
                break
            if self._until is not None and time.monotonic() >= self._until:
                return None
            if not moved:
                yield self._core.nap(LOOK_S), LOOK_S + 1
        return self._found.popleft()

    def _look(self, shard: int, mark: int) -> Steps[Any]:
        return (yield from self._core.ask(shard, "happened", shard, self._tenant, mark, ROWS))
