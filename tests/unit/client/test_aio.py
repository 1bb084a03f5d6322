"""The awaited verbs: the same as the blocking ones, on an event loop that goes on meanwhile."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from chimera.client.aio import AsyncSwarm
from chimera.client.ports import Promise
from chimera.client.steps import arun
from chimera.errors import TaskFailed, UnknownTaskType, WaitTimeout
from chimera.frames import ids, outcome
from chimera.swarm.facts import Settlement, Single
from tests.unit.client.fake import DEADLINE_S, HELD, FakeLeaders, core, eventually


def with_swarm(work, handler=lambda payload: payload):
    """Run a coroutine function on a fresh swarm; what it returns."""
    leaders = FakeLeaders()
    leaders.handler = handler

    async def run():
        made = core(leaders)
        async with AsyncSwarm(made, "default", made.close) as swarm:
            return await asyncio.wait_for(work(swarm, leaders), DEADLINE_S)

    return asyncio.run(run())


def test_submit_and_result():
    async def work(swarm, leaders):
        handle = await swarm.submit("echo", {"a": 1})
        status = await handle.status()
        return await handle.result(), await handle.wait(), status.state

    assert with_swarm(work) == ({"a": 1}, "succeeded", "succeeded")


def test_call():
    async def work(swarm, leaders):
        return [await swarm.call("echo", i, DEADLINE_S) for i in range(3)]

    assert with_swarm(work) == [0, 1, 2]


def test_errors_are_raised_where_they_are_awaited():
    def bad(payload):
        raise ValueError("no")

    async def work(swarm, leaders):
        with pytest.raises(TaskFailed):
            await swarm.call("echo", 1, DEADLINE_S)
        with pytest.raises(UnknownTaskType):
            await swarm.submit("nope")
        leaders.handler = None
        handle = await swarm.submit("slow")
        with pytest.raises(WaitTimeout):
            await handle.result(0.01)
        assert await handle.progress() is None
        assert (await handle.cancel("why")) == "cancelling"

    with_swarm(work, bad)


def test_bulks():
    async def work(swarm, leaders):
        bulk = await swarm.submit_many("echo", range(3000), key=lambda i: str(i % 9))
        in_order = [value async for value in bulk.results(DEADLINE_S)]
        done = {index: value async for index, value in bulk.as_completed(DEADLINE_S)}
        counts = await bulk.wait(DEADLINE_S)
        return len(bulk), in_order, done, counts.succeeded, await bulk[7].result()

    total, in_order, done, succeeded, one = with_swarm(work)
    assert (total, succeeded, one) == (3000, 3000, 7)
    assert in_order == list(range(3000))
    assert done == {i: i for i in range(3000)}


def test_many_coroutines_share_frames_and_the_loop_goes_on():
    async def work(swarm, leaders):
        await swarm.types()
        left = [HELD]
        leaders.fault = lambda verb, shard: left.pop() if verb == "append" and left else None
        tasks = [asyncio.create_task(swarm.call("echo", i, key=str(i))) for i in range(50)]
        tasks += [asyncio.create_task(swarm.submit("echo", i)) for i in range(50)]
        await asyncio.to_thread(eventually, leaders.appends)
        leaders.release()
        await asyncio.gather(*tasks)
        return sum(len(call.frames) for call in leaders.appends())

    assert with_swarm(work) < 60


def test_a_cancelled_wait_leaves_the_others_alone():
    async def work(swarm, leaders):
        first = await swarm.submit("slow", 1, key="k")
        again = swarm.handle(first.id)
        waiting = asyncio.create_task(first.result())
        other = asyncio.create_task(again.result())
        await asyncio.to_thread(eventually, lambda: leaders.polls)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        leaders.succeed(ids.parse_id(first.id).shard, 0, 1, "x")
        return await other

    assert with_swarm(work, None) == "x"


def test_listing_replay_and_large_payloads():
    async def work(swarm, leaders):
        handle = await swarm.submit("slow", "x" * 70_000, key="k", tags=["t"])
        shard = ids.parse_id(handle.id).shard
        leaders.settle(shard, Settlement(singles=(Single(0, outcome.FAILED, 5, b""),)))
        again = await swarm.replay(handle.id)
        assert (await handle.replay()).id == again.id
        assert (await swarm.get(again.id)).replay_of == handle.id
        assert await swarm.cancel(again.id) == "cancelling"
        return [record.task_id async for record in swarm.list(state="failed")], handle.id

    listed, failed = with_swarm(work, None)
    assert listed == [failed]


def test_reprs_and_duplicates():
    async def work(swarm, leaders):
        first = await swarm.submit("echo", 1, idempotency_key="i")
        second = await swarm.submit("echo", 1, idempotency_key="i")
        bulk = await swarm.submit_many("echo", [1, 2])
        assert second.id == first.id
        return repr(swarm), second.duplicate, repr(first), repr(bulk)

    swarm, duplicate, handle, bulk = with_swarm(work)
    assert swarm == "<AsyncSwarm 'test', tenant 'default'>"
    assert duplicate
    assert handle.startswith("<AsyncHandle of task ")
    assert bulk == "<AsyncBulk of 2 tasks>"


def test_coroutines_that_are_answered_together_wake_their_loop_once(monkeypatch):
    async def work(swarm, leaders):
        loop = asyncio.get_running_loop()
        promises = [Promise() for _ in range(50)]
        waiting = [asyncio.create_task(arun(_one(promise))) for promise in promises]
        await asyncio.sleep(0)
        rings = []
        ring = loop.call_soon_threadsafe
        monkeypatch.setattr(loop, "call_soon_threadsafe", lambda f: (rings.append(f), ring(f)))
        for number, promise in enumerate(promises):
            promise.keep(number)
        assert await asyncio.gather(*waiting) == list(range(50))
        return len(rings)

    def _one(promise):
        return (yield promise, DEADLINE_S)

    assert with_swarm(work) == 1


def test_a_loop_that_has_ended_is_let_go_though_an_answer_comes_later():
    loops = []

    async def give_up(promise):
        def steps():
            return (yield promise, DEADLINE_S)

        loops.append(weakref.ref(asyncio.get_running_loop()))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(arun(steps()), 0.01)

    for _ in range(3):
        promise = Promise()
        asyncio.run(give_up(promise))
        promise.keep(1)
    gc.collect()
    assert not any(loop() for loop in loops)
