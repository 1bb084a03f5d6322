"""Runs tasks side by side: coroutines in one event loop, other handlers in threads.

A lane takes one chain after the other: a chain is a single task, or all tasks of one key in their
order. A type has as many lanes as its policy's `concurrency`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from chimera.actors.attempts import NOTHING, Attempts, timed_out
from chimera.actors.batch import Batch
from chimera.actors.board import UNKNOWN, BoardWriter
from chimera.api.context import Context
from chimera.api.signals import Cancelled

#: threads for what coroutines wait for that is no coroutine: `ctx.once`, large payloads
_ASIDE_THREADS = 32
#: threads of one type's handler, at most, whatever `concurrency` says
THREADS_MAX = 256

T = TypeVar("T")


class Task(NamedTuple):
    """One task of a batch."""

    batch: Batch
    index: int  # type: ignore[assignment]  #: in the batch (hides tuple.index)
    payload: bytes


Chains = deque[list[Task]]


class Lanes:
    """The threads and the event loop of one worker; made when they are first needed."""

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, batches: Sequence[Batch]) -> None:
        """Run all tasks of the batches; returns when each has ended or was taken back."""
        shown = Shown(batches[0].shared.board)
        lanes: list[Future[None]] = []
        for kind, chains in chains_by_type(batches).items():
            policy = next(batch.policy for batch in batches if batch.type == kind)
            most = len(chains) if policy.is_async else min(len(chains), THREADS_MAX)
            for _ in range(max(1, min(policy.concurrency, most))):
                if policy.is_async:
                    lane = self._lane_of_coroutines(chains, shown)
                    lanes.append(asyncio.run_coroutine_threadsafe(lane, self._event_loop()))
                else:
                    lanes.append(self._pool(kind).submit(self._lane_of_calls, chains, shown))
        for done in lanes:
            done.result()

    # threads

    def _pool(self, kind: str) -> ThreadPoolExecutor:
        pool = self._pools.get(kind)
        if pool is None:  # it makes no more threads than there were ever lanes
            pool = self._pools[kind] = ThreadPoolExecutor(THREADS_MAX, f"handler-{kind}")
        return pool

    def _lane_of_calls(self, chains: Chains, shown: Shown) -> None:
        while chain := _next(chains):
            for task in chain:
                if task.batch.claim(task.index):
                    with shown.in_hand(task):
                        self._call(task)

    def _call(self, task: Task) -> None:
        batch, index, payload = task
        handler = batch.handler
        assert handler is not None
        value = self._attempts.prepare(batch, index, payload)
        if value is NOTHING:
            return
        try:
            if handler.takes_ctx:
                result = handler.call(Context(batch, index), value)
            else:
                result = handler.call(value)
        except BaseException as fault:
            self._attempts.fail(batch, index, fault)
        else:
            self._attempts.succeed(batch, index, result)

    # coroutines

    def in_loop(self, make: Callable[[], T]) -> T:
        """Make something where coroutines run: it may need a running event loop."""

        async def made() -> T:
            return make()

        return asyncio.run_coroutine_threadsafe(made(), self._event_loop()).result()

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._loop.set_default_executor(ThreadPoolExecutor(_ASIDE_THREADS, "aside"))
            threading.Thread(
                target=self._loop.run_forever, name="handlers-loop", daemon=True
            ).start()
        return self._loop

    async def _lane_of_coroutines(self, chains: Chains, shown: Shown) -> None:
        while chain := _next(chains):
            for task in chain:
                if task.batch.claim(task.index):
                    with shown.in_hand(task):
                        await self._await(task)

    async def _await(self, task: Task) -> None:
        batch, index, payload = task
        attempts = self._attempts
        if index in batch.claimed:
            value = await batch.in_thread(attempts.prepare, batch, index, payload)
        else:
            value = attempts.prepare(batch, index, payload)
        if value is NOTHING:
            return
        result, fault = await _within(batch, index, value)
        if fault is not None:
            if isinstance(fault, TimedOut):
                attempts.refuse(batch, index, timed_out(batch.policy.attempt_timeout_s))
            else:
                attempts.fail(batch, index, fault)
        else:
            attempts.succeed(batch, index, result)


class TimedOut(Exception):
    """The attempt ran for longer than its policy allows."""


async def _within(batch: Batch, index: int, value: Any) -> tuple[Any, BaseException | None]:
    """Await the handler; it is cancelled at the attempt's timeout, or when the task is.

    One that goes on in spite of that stays in hand: its leader ends this process then.
    """
    loop = asyncio.get_running_loop()
    running = loop.create_task(_guarded(batch, index, value))
    batch.on_cancel[index] = lambda: loop.call_soon_threadsafe(running.cancel)
    if index in batch.cancelled:  # it came before we could be told
        running.cancel()
    done, _ = await asyncio.wait({running}, timeout=batch.policy.attempt_timeout_s)
    late = not done
    if late:
        running.cancel()
        await asyncio.wait({running})
    del batch.on_cancel[index]
    result: Any = None
    fault: BaseException | None = asyncio.CancelledError()
    if not running.cancelled():  # else it never came to its first line
        result, fault = running.result()
    if isinstance(fault, asyncio.CancelledError):
        if late:
            return None, TimedOut()
        if index in batch.cancelled:
            return None, Cancelled("cancelled while it ran")
    return result, fault


async def _guarded(batch: Batch, index: int, value: Any) -> tuple[Any, BaseException | None]:
    """Nothing that a handler raises may reach the event loop: SystemExit would end it."""
    handler = batch.handler
    assert handler is not None
    try:
        if handler.takes_ctx:
            return await handler.call(Context(batch, index), value), None
        return await handler.call(value), None
    except BaseException as fault:
        return None, fault


class Shown:
    """What the board shows while several tasks may be in hand: the one that is alone, or none."""

    def __init__(self, board: BoardWriter) -> None:
        self._board = board
        self._lock = threading.Lock()
        self._ordinals: set[int] = set()

    @contextmanager
    def in_hand(self, task: Task) -> Iterator[None]:
        """From the task's begin to its end; also takes its time."""
        ordinal = task.batch.base + task.index
        began = time.monotonic_ns()
        with self._lock:
            self._ordinals.add(ordinal)
            self._show()
        try:
            yield
        finally:
            task.batch.spent(task.index, max(1, (time.monotonic_ns() - began) // 1000))
            with self._lock:
                self._ordinals.discard(ordinal)
                self._show()

    def _show(self) -> None:
        alone = len(self._ordinals) == 1
        self._board.at(next(iter(self._ordinals)) if alone else UNKNOWN)


def chains_by_type(batches: Sequence[Batch]) -> dict[str, Chains]:
    """The tasks of each type: one by one, but those of a key together in their order."""
    found: dict[str, Chains] = {}
    by_key: dict[tuple[int, str, str], list[Task]] = {}
    for batch in batches:
        chains = found.setdefault(batch.type, deque())
        for index, payload in enumerate(batch.spread()):
            task = Task(batch, index, payload)
            slot = batch.slot(index)
            if slot is None:
                chains.append([task])
                continue
            chain = by_key.get(slot)
            if chain is None:
                chain = by_key[slot] = []
                chains.append(chain)
            chain.append(task)
    return found


def _next(chains: Chains) -> list[Task] | None:
    try:
        return chains.popleft()
    except IndexError:
        return None
