"""A swarm as its users see it, on leaders in memory: submit, call, bulks, handles."""

from __future__ import annotations

import base64
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from chimera.api.task import task
from chimera.client import core as core_module
from chimera.client import submit as submit_module
from chimera.client import swarm as swarm_module
from chimera.client.swarm import Swarm
from chimera.errors import (
    ChimeraError,
    DeadlinePassed,
    InvalidPayload,
    InvalidRequest,
    NotFound,
    NotReady,
    OutcomeUnknown,
    Overloaded,
    PayloadTooLarge,
    TaskCancelled,
    TaskExpired,
    TaskFailed,
    UnknownTaskType,
    WaitTimeout,
)
from chimera.frames import command, ids, outcome
from chimera.swarm.facts import Settlement, Single
from tests.unit.client.fake import (
    DEADLINE_S,
    DIES_AFTER,
    DIES_BEFORE,
    HELD,
    LOST,
    core,
    eventually,
)


@task("echo")
def echo(payload):
    return payload


class TestOneTask:
    def test_its_result_comes_by_the_handle(self, swarm, leaders):
        handle = swarm.submit(echo, {"a": [1, None, "é"]})
        assert handle.result(DEADLINE_S) == {"a": [1, None, "é"]}
        assert handle.wait() == "succeeded"
        assert ids.parse_id(handle.id)
        assert handle.status(payload=True).payload == b'{"a":[1,null,"\xc3\xa9"]}'
        verbs = [call.verb for call in leaders.calls]
        assert verbs == ["types", "append", "outcomes", "get"]

    def test_call_is_one_message(self, swarm, leaders):
        swarm.types()
        leaders.calls.clear()
        assert swarm.call("echo", 5, DEADLINE_S) == 5
        assert [call.verb for call in leaders.calls] == ["call"]

    def test_a_failure_is_raised_with_its_story(self, swarm):
        for fails in (
            lambda: swarm.call("echo", "bad"),
            lambda: swarm.submit(echo, "bad").result(),
        ):
            with pytest.raises(TaskFailed, match="ValueError: bad is bad") as caught:
                fails()
            assert caught.value.details["type"] == "builtins.ValueError"
            assert caught.value.details["traceback"].startswith("Traceback")
            assert swarm.get(caught.value.details["id"]).state == "failed"

    def test_a_wait_ends_when_its_time_is_over_and_the_task_goes_on(self, swarm, leaders):
        leaders.handler = None
        handle = swarm.submit("slow", 1)
        with pytest.raises(WaitTimeout, match=handle.id):
            handle.result(0.01)
        key = ids.parse_id(handle.id)
        leaders.succeed(key.shard, 0, 1, "late")
        assert handle.result(DEADLINE_S) == "late"

    def test_call_waits_on_when_the_leader_no_longer_holds_it(self, swarm, leaders):
        leaders.handler = None
        answer = []
        thread = threading.Thread(target=lambda: answer.append(swarm.call("slow", 1, DEADLINE_S)))
        thread.start()
        eventually(lambda: leaders.polls)
        leaders.succeed(leaders.polls[0].shard, 0, 1, "done")
        thread.join(DEADLINE_S)
        assert answer == ["done"]

    @pytest.mark.parametrize("fault", [DIES_BEFORE, DIES_AFTER])
    def test_call_survives_the_leaders_death(self, swarm, leaders, fault):
        left = [fault]
        leaders.fault = lambda verb, shard: left.pop() if verb == "call" and left else None
        assert swarm.call("echo", 5, DEADLINE_S) == 5
        assert sum(len(leaders.payloads(shard)) for shard in range(4)) == 1

    def test_a_call_that_nobody_answers_any_more_is_unknown(self, swarm, leaders, monkeypatch):
        monkeypatch.setattr(swarm_module, "SUBMIT_TIMEOUT_S", 0.3)
        swarm.types()

        def dies(verb, shard):
            leaders.move(shard, None)
            return DIES_AFTER

        leaders.fault = dies
        with pytest.raises(OutcomeUnknown) as caught:
            swarm.call("echo", 5)
        assert len(caught.value.details["ids"]) == 1

    def test_call_with_a_key_takes_its_turn(self, swarm, leaders):
        assert swarm.call("echo", 5, DEADLINE_S, key="k") == 5
        assert [call.verb for call in leaders.calls] == ["types", "append", "outcomes"]

    @pytest.mark.parametrize(
        ("state", "error"),
        [(outcome.CANCELLED, TaskCancelled), (outcome.EXPIRED, TaskExpired)],
    )
    def test_other_ends_have_errors_of_their_own(self, swarm, leaders, state, error):
        leaders.handler = None
        handle = swarm.submit("slow")
        shard = ids.parse_id(handle.id).shard
        leaders.settle(shard, Settlement(singles=(Single(0, state, 1, b""),)))
        with pytest.raises(error) as caught:
            handle.result(DEADLINE_S)
        assert caught.value.details["id"] == handle.id
        assert handle.wait() == outcome.NAMES[state]

    def test_a_handle_is_found_again_by_id(self, swarm, leaders):
        leaders.handler = None
        handle = swarm.submit("slow", "x")
        found = swarm.handle(handle.id)
        assert swarm.get(handle.id).state == "queued"
        leaders.succeed(ids.parse_id(handle.id).shard, 0, 1, 9)
        assert found.result(DEADLINE_S) == 9
        assert swarm.handle(handle.id).result(DEADLINE_S) == 9  # from its record

    def test_how_far_it_is_can_be_asked(self, swarm, leaders):
        leaders.handler = None
        handle = swarm.submit("slow")
        assert handle.progress() is None
        leaders.progress = {(ids.parse_id(handle.id).shard, 0): [1, 2]}
        assert handle.progress() == swarm.progress(handle.id) == [1, 2]

    def test_unknown_ids_are_not_found(self, swarm):
        with pytest.raises(NotFound):
            swarm.get(ids.format_id(1, 0, 1))
        with pytest.raises(NotFound, match="none of this swarm"):
            swarm.handle(ids.format_id(1, 99, 1)).result(1.0)
        with pytest.raises(InvalidRequest, match="no task id"):
            swarm.get("0b1f")

    def test_cancel_and_replay(self, swarm, leaders):
        leaders.handler = None
        handle = swarm.submit("slow", 1)
        assert handle.cancel("not needed") == "cancelling"
        assert handle.status().cancel_requested
        failed = swarm.submit("slow", "bad", key="k")
        shard = ids.parse_id(failed.id).shard
        at = failed.status().position
        leaders.settle(shard, Settlement(singles=(Single(at, outcome.FAILED, 5, b""),)))
        again = failed.replay()
        assert again.id != failed.id
        assert swarm.replay(failed.id).id == again.id
        assert again.status().replay_of == failed.id

    def test_refs_are_made_by_the_results_actor(self, swarm):
        handle = swarm.submit("echo", 1)
        assert handle.ref == ("ref", handle.id, "default")


class TestChecks:
    def test_unknown_types_are_refused_after_asking_once_more(self, swarm, leaders):
        with pytest.raises(UnknownTaskType, match="'nope'; known types: echo, slow"):
            swarm.submit("nope")
        leaders.known_types = ("echo", "nope")
        swarm.core._types_at -= 2.0
        assert swarm.submit("nope", 1).result(DEADLINE_S) == 1

    def test_an_unknown_type_does_not_ask_each_time(self, swarm, leaders):
        for _ in range(5):
            with pytest.raises(UnknownTaskType):
                swarm.submit("nope")
        assert len(leaders.calls) == 1

    def test_a_submit_waits_no_longer_for_the_types_than_it_may(self, swarm, leaders, monkeypatch):
        monkeypatch.setattr(core_module, "TYPES_WAIT_S", 1e6)
        leaders.fault = lambda verb, shard: LOST if verb == "types" else None
        with pytest.raises(NotReady, match="no leader says what task types there are"):
            swarm.submit("echo", 1, timeout_s=0.1)

    def test_what_is_no_json_is_named(self, swarm, leaders):
        with pytest.raises(InvalidPayload, match=r"payload is no JSON at \$\.a\[1\]: object"):
            swarm.submit("echo", {"a": [1, object()]})
        with pytest.raises(InvalidPayload, match=r"payload 2 is no JSON at \$: complex"):
            swarm.submit_many("echo", [1, 2, 3j])
        assert not leaders.appends()

    def test_large_payloads_become_claim_checks(self, swarm, leaders):
        big = "x" * 70_000
        assert swarm.submit("slow", big).status().state == "succeeded"
        frame = leaders.disks[leaders.appends()[0].shard].frames[0].arrival.frame
        assert command.columns(frame).claims == [0]
        assert len(frame) < 1000

    def test_payloads_past_the_limit_are_refused(self, swarm):
        with pytest.raises(PayloadTooLarge, match="1048577 bytes, 1048576 are allowed"):
            swarm.submit("echo", "x" * (1024 * 1024 - 1))
        with pytest.raises(PayloadTooLarge, match="payload 1 "):
            swarm.submit_many("echo", ["a", "x" * 1024 * 1024])

    def test_a_passed_deadline_is_refused(self, swarm):
        with pytest.raises(DeadlinePassed):
            swarm.submit("echo", 1, deadline=time.time() - 1)

    def test_what_is_no_task_is_refused(self, swarm):
        with pytest.raises(InvalidRequest, match="neither"):
            swarm.submit(print, 1)

    def test_a_full_queue_is_told_at_once_or_waited_for(self, leaders):
        leaders.queue_bound, leaders.handler = 0, None
        made = core(leaders)
        with Swarm(made, "default", made.close) as swarm:
            with pytest.raises(Overloaded):
                swarm.submit("slow", 1)
            with pytest.raises(Overloaded):
                swarm.call("slow", 1)
            with pytest.raises(Overloaded):
                swarm.submit("slow", 1, block=True, timeout_s=0.3)


def test_a_list_of_tasks_in_no_state_is_refused(swarm):
    with pytest.raises(InvalidRequest, match="'foo' is no state: one of queued, "):
        list(swarm.list(state="foo"))
    assert list(swarm.list(state="expired")) == []


def test_listing_goes_through_all_shards_page_by_page(swarm):
    done = swarm.submit_many("echo", range(57), key=str, tags=["t"])
    swarm.submit_many("echo", range(9), key=str)
    listed = [record.task_id for record in swarm.list(tag="t")]
    assert sorted(listed) == sorted(done.ids())
    first = swarm.page(tag="t", limit=50)
    second = swarm.page(tag="t", limit=50, cursor=first.cursor)
    assert (len(first.tasks), len(second.tasks), second.cursor) == (50, 7, None)
    with pytest.raises(InvalidRequest, match="cursor"):
        swarm.page(cursor="!!")
    with pytest.raises(InvalidRequest, match="limit"):
        swarm.page(limit=0)


@pytest.mark.parametrize("mark", [-1, 1 << 63, (1 << 64) - 1])
def test_a_cursor_with_a_position_that_no_journal_has_is_refused(swarm, leaders, mark):
    forged = base64.urlsafe_b64encode(msgspec.msgpack.encode({0: mark})).decode().rstrip("=")
    with pytest.raises(InvalidRequest, match="cursor"):
        swarm.page(cursor=forged)
    assert not leaders.calls


def test_tenants_do_not_see_each_other(swarm):
    other = Swarm(swarm.core, "other", lambda: None)
    handle = swarm.submit("echo", 1)
    with pytest.raises(NotFound):
        other.get(handle.id)
    assert not list(other.list())


def test_tasks_that_come_while_the_engine_is_busy_share_a_frame(swarm, leaders):
    swarm.types()
    gate = threading.Event()
    swarm.core.engine.do(lambda: gate.wait(DEADLINE_S))
    with ThreadPoolExecutor(8) as pool:
        submitting = [pool.submit(swarm.submit, "echo", n) for n in range(8)]
        eventually(lambda: len(swarm.core.publisher._door) == 8)
        gate.set()
        handles = [one.result(DEADLINE_S) for one in submitting]
    (call,) = leaders.appends()
    assert [frame.count for frame in call.frames] == [8]
    assert len({one.id for one in handles}) == 8


def test_a_closed_client_says_so(leaders):
    made = core(leaders)
    swarm = Swarm(made, "default", made.close)
    handle = swarm.submit("echo", 1)
    swarm.close()
    with pytest.raises(ChimeraError, match="closed"):
        swarm.submit("echo", 2)
    with pytest.raises(ChimeraError, match="closed"):
        handle.result()


def test_threads_share_frames(swarm, leaders):
    swarm.types()
    left = [HELD]
    leaders.fault = lambda verb, shard: left.pop() if verb == "append" and left else None
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda i=i: results.append(swarm.submit("echo", i * 7).result(20)))
        for i in range(40)
    ]
    for thread in threads:
        thread.start()
    eventually(lambda: leaders.appends())
    leaders.release()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert sorted(results) == [i * 7 for i in range(40)]
    assert sum(len(call.frames) for call in leaders.appends()) < 40


def test_the_hold_of_a_call_is_shorter_than_its_deadline():
    assert submit_module.CALL_HOLD_S < submit_module.SUBMIT_TIMEOUT_S
