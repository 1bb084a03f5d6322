"""Handlers that the tests of workers run; a test meets those that wait at their gate."""

from __future__ import annotations

import asyncio
import ctypes
import sys
import threading
from dataclasses import dataclass, field
from typing import Any

import chimera
from chimera.api.context import Context

#: nothing in a test may take longer, seconds
DEADLINE_S = 20.0


@dataclass
class Gate:
    """A handler waits here until the test lets it through."""

    entered: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)
    inside: set[Any] = field(default_factory=set)
    most: int = 0  #: handlers inside at once
    order: list[Any] = field(default_factory=list)

    def enter(self, who: Any) -> None:
        self.order.append(who)
        self.inside.add(who)
        self.most = max(self.most, len(self.inside))
        self.entered.set()

    def leave(self, who: Any) -> None:
        self.inside.discard(who)

    def pass_through(self, who: Any) -> None:
        self.enter(who)
        assert self.opened.wait(DEADLINE_S)
        self.leave(who)


GATE = Gate()


def new_gate() -> Gate:
    global GATE
    GATE = Gate()
    return GATE


@dataclass
class Order:
    item: str
    count: int


class Odd(BaseException):
    """An exception that says nothing."""

    def __str__(self) -> str:
        raise RuntimeError("no")


LOOP: list[Any] = []
LOOP.append(LOOP)

FAULTS = {
    "value": ValueError("bad value"),
    "exit": SystemExit(3),
    "interrupt": KeyboardInterrupt(),
    "odd": Odd(),
    "file": FileNotFoundError("no file"),
    "after": chimera.RetryAfter(2.5, "busy"),
    "permanent": chimera.PermanentError("never"),
    "cancelled": chimera.Cancelled("enough"),
    "long": ValueError("x" * 10_000),
}


@chimera.task("echo")
def echo(payload):
    return payload


@chimera.task("who")
def who(ctx: Context, payload):
    return [ctx.task_id, ctx.type, ctx.tenant, ctx.key, ctx.attempt, ctx.epoch, list(ctx.tags)]


@chimera.task("order")
def order(wanted: Order):
    return wanted.item * wanted.count


@chimera.task("fail", no_retry=(OSError,))
def fail(payload):
    if payload in FAULTS:
        raise FAULTS[payload]
    return payload


@chimera.task("result")
def result(payload):
    return {"set": {1}, "big": "y" * 200_000, "lock": threading.Lock(), "loop": LOOP}[payload]


@chimera.task("gated")
def gated(ctx, payload):
    GATE.pass_through(payload)
    return [payload, ctx.is_cancelled]


@chimera.task("pooled", concurrency=4)
def pooled(ctx, payload):
    GATE.pass_through(payload)
    if payload == "bad":
        raise ValueError("bad")
    return [payload, ctx.is_cancelled]


@chimera.task("waiting", attempt_timeout_s=0.3, concurrency=8)
async def waiting(ctx, payload):
    GATE.enter(payload)
    try:
        if payload == "for ever":
            await asyncio.Event().wait()
        if payload == "exit":
            sys.exit(1)
        if payload == "leave":
            raise asyncio.CancelledError
        if payload == "stubborn":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return "done all the same"
        await asyncio.sleep(0)
        return payload
    finally:
        GATE.leave(payload)


@chimera.task("patient", concurrency=8)
async def patient(ctx, payload):
    GATE.enter(payload)
    assert await asyncio.to_thread(GATE.opened.wait, DEADLINE_S)
    GATE.leave(payload)
    return payload


@chimera.task("echo.pooled", concurrency=2)
def echo_pooled(payload):
    return payload


@chimera.task("echo.async")
async def echo_async(payload):
    return payload


@chimera.task("memo")
def memo(ctx, payload):
    made = []

    def make():
        made.append(1)
        return (payload, 1)

    first = ctx.once("a", make)
    return [first, ctx.once("a", make), len(made)]


@chimera.task("memo.async")
async def memo_async(ctx, payload):
    async def make():
        return (payload, 1)

    return [await ctx.once("a", make), await ctx.once("a", make)]


@chimera.task("tell")
def tell(ctx, payload):
    ctx.heartbeat()
    ctx.progress({"done": payload})


@chimera.task("sum")
class Sum:
    """Adds up what its key is sent; -1 breaks the state and fails."""

    def __init__(self):
        self.sums: dict[str, int] = {}
        self.restored: list[str] = []

    def run(self, ctx, payload):
        self.sums[ctx.key] = self.sums.get(ctx.key, 0) + payload
        if payload == -1:
            self.sums[ctx.key] = 10**6
            raise ValueError("broken")
        if payload == -2:
            raise chimera.Cancelled
        total = self.sums[ctx.key]
        return [len(total) if isinstance(total, str) else total, len(self.sums)]

    def snapshot(self, key):
        if self.sums[key] == 666:
            raise ValueError("no snapshot")
        return "x" * 70_000 if self.sums[key] == 777 else self.sums[key]

    def restore(self, key, state):
        if state == -5:
            raise ValueError("no such state")
        self.sums[key] = 0 if state is None else state
        self.restored.append(key)


@chimera.task("hold.gil")
def hold_gil(seconds):
    """Keeps the interpreter's lock, as some C libraries do."""
    return ctypes.PyDLL(None).usleep(int(seconds * 1e6))
