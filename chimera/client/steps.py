"""One logic, two colours: steps that wait are generators; threads and coroutines both drive them.

A generator yields `(pending, timeout_s)` and gets the answer, or its error thrown in. So no verb
is written twice for `Swarm` and `AsyncSwarm`.
"""

from __future__ import annotations

import asyncio
import contextlib
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
    future = pending.future()
    if not future.done():
        # by hand: `wrap_future` and `wait` cost as much as the rest of a submit
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        def answered(_: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
                loop.call_soon_threadsafe(wake)

        future.add_done_callback(answered)
        timer = loop.call_later(timeout_s, wake)
        try:
            await woken
        finally:
            timer.cancel()
        if not future.done():
            raise Silent(f"no answer in {timeout_s:g} s")
    return pending.get(READ_S)
