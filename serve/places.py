"""Requests that take long or much: a replica has so many of a kind at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from chimera.errors import Overloaded

#: after which one that was refused may be tried again, seconds
RETRY_S = 5.0


class Places:
    """Places for requests of one kind."""

    def __init__(self, most: int, what: str) -> None:
        self._most = most
        self._what = what
        self._taken = 0

    @property
    def free(self) -> bool:
        """Whether there is one."""
        return self._taken < self._most

    def check(self) -> None:
        """Raise Overloaded if all are taken."""
        if not self.free:
            raise Overloaded(
                f"this replica has {self._most} {self._what} at once already", retry_after=RETRY_S
            )

    @contextmanager
    def one(self) -> Iterator[None]:
        """Have a place for as long as it takes. Raises Overloaded if all are taken."""
        self.check()
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


class Placed(StreamingResponse):
    """A stream that has a place from its first byte to its last; 429 if there is none."""

    def __init__(self, places: Places, content: AsyncIterator[bytes], **more: Any) -> None:
        super().__init__(content, **more)
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._places.one():
            await super().__call__(scope, receive, send)
