"""A doorbell: what many hand in before somebody comes to the door is taken in one go.

Waking a thread or an event loop costs more than most of what it is woken for.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Doorbell(Generic[T]):
    """Hands things over to one other thread, which alone sets the quorum. Safe for threads."""

    __slots__ = ("_inside", "_ring", "_rung", "_take", "quorum")

    def __init__(
        self, ring: Callable[[Callable[[], None]], None], take: Callable[[list[T]], None]
    ) -> None:
        """`ring` has something done over there; what is done is to `take` all that waits."""
        self._ring = ring
        self._take = take
        self._inside: deque[T] = deque()
        self._rung = False
        #: how many must wait before it rings; who raises it comes by unasked, and looks once more
        #: after lowering it
        self.quorum = 1

    def __len__(self) -> int:
        return len(self._inside)

    def hand_in(self, thing: T) -> None:
        """Leave it at the door. Raises what ringing raises; then it is not there any more."""
        self._inside.append(thing)
        if self._rung or len(self._inside) < self.quorum:
            return
        self._rung = True
        try:
            self._ring(self._answer)
        except BaseException:
            self._rung = False
            with contextlib.suppress(ValueError):  # taken away by another
                self._inside.remove(thing)
            raise

    def left(self) -> list[T]:
        """Take in what is at the door."""
        found = []
        with contextlib.suppress(IndexError):  # not by its length: others may be at it, too
            while True:
                found.append(self._inside.popleft())
        return found

    def _answer(self) -> None:
        self._rung = False  # first: who comes now rings again
        self._take(self.left())
