"""What a context tells and asks."""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone

import pytest
import structlog

from chimera.api.context import VALUE_BYTES_MAX, Context


class Source:
    """A worker's side, in memory."""

    type, tenant, attempt, epoch = "t", "tenant", 2, 7

    def __init__(self):
        self.memos: dict = {}
        self.beats = 0
        self.told: list = []
        self.cancelled = False
        self.due = 0

    def task_id(self, index):
        return f"id-{index}"

    def key(self, index):
        return "k"

    def tags(self, index):
        return ["x"]

    def deadline(self, index):
        return self.due

    def is_cancelled(self, index):
        return self.cancelled

    def heartbeat(self):
        self.beats += 1

    def progress(self, index, value):
        self.told.append((index, value))

    def memo(self, index, step):
        return self.memos.get(step)

    def memoise(self, index, step, value):
        return self.memos.setdefault(step, value)

    async def in_thread(self, work, *args):
        return work(*args)


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def ctx(source):
    return Context(source, 4)


def test_it_tells_about_the_attempt(ctx, source):
    assert (ctx.task_id, ctx.type, ctx.tenant, ctx.key) == ("id-4", "t", "tenant", "k")
    assert (ctx.attempt, ctx.epoch, ctx.tags) == (2, 7, ("x",))
    assert ctx.deadline is None
    source.due = 1_000_500
    assert ctx.deadline == datetime(1970, 1, 1, 0, 16, 40, 500_000, tzinfo=timezone.utc)
    assert not ctx.is_cancelled
    source.cancelled = True
    assert ctx.is_cancelled
    assert repr(ctx) == "<Context of t id-4, attempt 2>"


def test_its_log_lines_say_whose_they_are(ctx):
    with structlog.testing.capture_logs() as lines:
        ctx.log.info("hello", more=1)
    assert lines == [
        {"event": "hello", "more": 1, "log_level": "info", "task_id": "id-4", "task_type": "t",
         "attempt": 2}
    ]  # fmt: skip


def test_progress_is_plain_json_and_a_heartbeat(ctx, source):
    ctx.progress((1, {"a": 2}))
    ctx.heartbeat()
    assert source.told == [(4, [1, {"a": 2}])]
    assert source.beats == 2
    with pytest.raises(TypeError):
        ctx.progress(object())
    with pytest.raises(ValueError, match="over"):
        ctx.progress("x" * VALUE_BYTES_MAX)


def test_once_gives_what_was_stored_first(ctx, source):
    assert ctx.once("a", lambda: (1, 2)) == [1, 2], "as it will be after a retry"
    assert ctx.once("a", lambda: pytest.fail("made again")) == [1, 2]
    source.memo = lambda index, step: None
    assert ctx.once("a", lambda: 3) == [1, 2], "another attempt was first"


def test_once_of_a_coroutine_is_awaited(ctx, source):
    async def make():
        return (1, 2)

    async def both():
        return [await ctx.once("a", make), await ctx.once("a", make), ctx.once("b", lambda: 1)]

    assert asyncio.run(both()) == [[1, 2], [1, 2], 1]


def test_once_keeps_nothing_that_cannot_be_kept(ctx, source):
    with pytest.raises(TypeError):
        ctx.once("a", object)
    with pytest.raises(ValueError, match=r"once\('a'\)"):
        ctx.once("a", lambda: "x" * VALUE_BYTES_MAX)
    assert source.memos == {}


def test_once_passes_on_what_fn_raises(ctx, source):
    def fail():
        raise KeyError("k")

    with pytest.raises(KeyError):
        ctx.once("a", fail)
    assert source.memos == {}
