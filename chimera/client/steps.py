"""One logic, two colours: steps that wait are generators; threads and coroutines both drive them.

A generator yields `(pending, timeout_s)` and gets the answer, or its error thrown in. So no verb
is written twice for `Swarm` and `AsyncSwarm`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any, TypeVar

from chimera.client.ports import Pending, Silent

T = TypeVar("T")
Steps = Generator[tuple[Pending[Any], float], Any, T]

#: seconds that reading an answer may take once it is there
READ_S = 1.0
#: seconds that stand for "as long as it takes", where a caller gave no time-out
FOREVER = 1e8


def run(steps: Steps[T]) -> T:
    """Do the steps in this thread."""
    try:
        pending, timeout_s = next(steps)
        while True:
            try:
                answer = pending.get(timeout_s)
            except BaseException as fault:
                pending, timeout_s = steps.throw(fault)
            else:
                pending, timeout_s = steps.send(answer)
    except StopIteration as end:
        value: T = end.value
        return value


async def arun(steps: Steps[T]) -> T:
    """Do the steps in this coroutine; the event loop goes on meanwhile."""
    try:
        pending, timeout_s = next(steps)
        while True:
            try:
                answer = await _answer(pending, timeout_s)
            except BaseException as fault:
                pending, timeout_s = steps.throw(fault)
            else:
                pending, timeout_s = steps.send(answer)
    except StopIteration as end:
        value: T = end.value
        return value


async def _answer(pending: Pending[Any], timeout_s: float) -> Any:
    future = asyncio.wrap_future(pending.future())
    future.add_done_callback(_looked_at)
    done, _ = await asyncio.wait([future], timeout=timeout_s)
    if not done:
        raise Silent(f"no answer in {timeout_s:g} s")
    return pending.get(READ_S)


def _looked_at(done: asyncio.Future[Any]) -> None:
    """An answer that comes after we stopped waiting is nobody's error."""
    if not done.cancelled():
        done.exception()
