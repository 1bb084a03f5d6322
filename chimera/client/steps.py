"""One logic, two colours: steps that wait are generators; threads and coroutines both drive them.

A generator yields `(pending, timeout_s)` and gets the answer, or its error thrown in. So no verb
is written twice for `Swarm` and `AsyncSwarm`.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Callable, Generator
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from chimera.client.doorbell import Doorbell
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
        wake, sleeper = _waker(loop), weakref.ref(woken)  # what is rung for must not keep its loop
        future.add_done_callback(lambda _: wake(sleeper))
        timer = loop.call_later(timeout_s, _wake, [sleeper])
        try:
            await woken
        finally:
            timer.cancel()
        if not future.done():
            raise Silent(f"no answer in {timeout_s:g} s")
    return pending.get(READ_S)


#: what a coroutine waits for, as long as it does
_Sleeper = weakref.ref[asyncio.Future[None]]


def _wake(sleepers: list[_Sleeper]) -> None:
    for sleeper in sleepers:
        woken = sleeper()
        if woken is not None and not woken.done():
            woken.set_result(None)


def _waker(loop: asyncio.AbstractEventLoop) -> Callable[[_Sleeper], None]:
    """What wakes a coroutine of this loop from another thread."""
    found = _wakers.get(loop)
    if found is None:
        living = weakref.ref(loop)

        def ring(work: Callable[[], None]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
                if (loop := living()) is not None:
                    loop.call_soon_threadsafe(work)

        found = _wakers.setdefault(loop, Doorbell(ring, _wake).hand_in)
    return found


#: of each event loop
_wakers: WeakKeyDictionary[asyncio.AbstractEventLoop, Callable[[_Sleeper], None]]
_wakers = WeakKeyDictionary()
