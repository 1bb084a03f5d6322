"""Producer sessions: 64 random bits and a counter a shard, from which task ids are made."""

from __future__ import annotations

import os
import secrets
import threading
from typing import NamedTuple
from weakref import WeakSet

from chimera.frames import ids


class Block(NamedTuple):
    """Consecutive ids that are handed out once."""

    session: int
    first: int


class Session:
    """Hands out ids; a forked child draws other bits and begins anew, so that none is used twice.

    Safe for threads.
    """

    def __init__(self) -> None:
        self._begin()
        _sessions.add(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()  # of the parent it may be held by a thread that is not here
        self._bits = secrets.randbits(ids.SESSION_BITS)
        self._next: dict[int, int] = {}

    @property
    def bits(self) -> int:
        """The session's 64 random bits."""
        return self._bits

    def take(self, shard: int, count: int) -> Block:
        """The next `count` ids of a shard."""
        with self._lock:
            first = self._next.get(shard, 0)
            if first + count > 1 << ids.COUNTER_BITS:
                self._bits = secrets.randbits(ids.SESSION_BITS)
                self._next.clear()
                first = 0
            self._next[shard] = first + count
            return Block(self._bits, first)


#: all sessions of this process, to be begun anew in a forked child
_sessions: WeakSet[Session] = WeakSet()


def _after_fork() -> None:
    for session in _sessions:
        session._begin()


os.register_at_fork(after_in_child=_after_fork)
