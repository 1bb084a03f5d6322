"""Handlers that workers on a real Ray run in tests."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sqlite3
import threading
import time
from pathlib import Path

import chimera

DEADLINE_S = 60.0


def await_file(path: str) -> None:
    end = time.monotonic() + DEADLINE_S
    while not Path(path).exists():
        assert time.monotonic() < end
        threading.Event().wait(0.01)


@chimera.task("echo")
def echo(payload):
    return payload


@chimera.task("meet")
def meet(payload):
    """Tell that it is here by one file, and go on when there is another."""
    here, gone = payload
    Path(here).touch()
    await_file(gone)
    return "met"


@chimera.task("hang")
def hang(payload):
    Path(payload).touch()
    time.sleep(DEADLINE_S)


@chimera.task("exit")
def leave(payload):
    os._exit(payload)


@chimera.task("spin")
def spin(payload):
    here, gone = payload
    Path(here).touch()
    while not os.path.exists(gone):
        sum(range(1000))
    return "spun"


@chimera.task("hold.gil")
def hold_gil(payload):
    """Keeps the interpreter's lock, as some C libraries do."""
    here, seconds = payload
    Path(here).touch()
    ctypes.PyDLL(None).sleep(seconds)
    return "let go"


@chimera.task("tell")
def tell(ctx, payload):
    ctx.progress({"done": payload})


@chimera.task("once")
def once(ctx, payload):
    here, gone = payload
    Path(here).touch()
    await_file(gone)
    return ctx.once("step", lambda: "made here")


@chimera.task("db")
class Database:
    """What it opens can be used only where it was opened."""

    def __init__(self):
        self.connection = sqlite3.connect(":memory:")

    def run(self, payload):
        return self.connection.execute("select ?", (payload,)).fetchone()[0]


@chimera.task("loop")
class Loop:
    """Needs a running event loop to be made, as many clients do."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()

    async def run(self, payload):
        return self.loop is asyncio.get_running_loop()


@chimera.task("count")
class Count:
    def __init__(self):
        self.counts = {}

    def run(self, ctx, payload):
        self.counts[ctx.key] += payload
        return self.counts[ctx.key]

    def snapshot(self, key):
        return self.counts[key]

    def restore(self, key, state):
        self.counts[key] = state or 0
