"""An asynchronous client whose verbs are waited for, so that one test is of both clients."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from chimera.http.aio import AsyncBulk, AsyncClient, AsyncHandle


class Blocking:
    """An AsyncClient, AsyncHandle or AsyncBulk, used as its namesake that blocks."""

    def __init__(self, inner: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._inner, self._loop = inner, loop

    def __getattr__(self, name: str) -> Any:
        return self._waited(getattr(self._inner, name))

    def __getitem__(self, index: int) -> Any:
        return self._waited(self._inner[index])

    def __len__(self) -> int:
        return len(self._inner)

    def _waited(self, found: Any) -> Any:
        if inspect.iscoroutine(found):
            return self._waited(self._loop.run_until_complete(found))
        if inspect.isasyncgen(found):
            return self._each(found)
        if isinstance(found, (AsyncClient, AsyncHandle, AsyncBulk)):
            return Blocking(found, self._loop)
        if inspect.ismethod(found):
            return lambda *given, **named: self._waited(found(*given, **named))
        return found

    def _each(self, found: AsyncGenerator[Any, None]) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self._loop.run_until_complete(anext(found))
                except StopAsyncIteration:
                    return
        finally:
            self._loop.run_until_complete(found.aclose())
