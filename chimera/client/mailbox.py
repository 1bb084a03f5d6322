"""A mailbox between the engine and one caller, who may be a thread or a coroutine."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

from chimera.client.ports import Promise

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Values in the order in which they were put; one taker at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: deque[T] = deque()
        self._asked: Promise[T] | None = None

    def put(self, value: T) -> None:
        with self._lock:
            asked, self._asked = self._asked, None
            if asked is None:
                self._values.append(value)
        if asked is not None:
            asked.keep(value)

    def take(self) -> Promise[T]:
        """The next value; asked again after a time-out, the same promise."""
        with self._lock:
            if self._asked is not None:
                return self._asked
            promise: Promise[T] = Promise()
            if self._values:
                promise.keep(self._values.popleft())
            else:
                self._asked = promise
            return promise
