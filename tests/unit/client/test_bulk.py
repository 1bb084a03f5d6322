"""Many tasks: their results in order or as they come, and what is said when something is wrong."""

from __future__ import annotations

import itertools

import pytest

from chimera.client.swarm import Swarm
from chimera.errors import (
    IdempotencyConflict,
    InvalidPayload,
    InvalidRequest,
    OutcomeUnknown,
    TaskFailed,
    WaitTimeout,
)
from chimera.frames import command, ids, outcome
from chimera.swarm.facts import Settlement
from chimera.swarm.limits import home_shard
from chimera.swarm.policy import TaskPolicy
from tests.unit.client.fake import DEADLINE_S, DIES_BEFORE, FakeLeaders, core, eventually


class TestIdempotency:
    def test_a_duplicate_is_the_first_task(self, swarm):
        first = swarm.submit("echo", 5, idempotency_key="i")
        second = swarm.submit("echo", 5, idempotency_key="i")
        assert (second.id, second.duplicate, first.duplicate) == (first.id, True, False)
        assert second.result(DEADLINE_S) == 5
        assert swarm.call("echo", 5, DEADLINE_S, idempotency_key="i") == 5

    def test_the_same_key_with_another_payload_is_refused(self, swarm):
        swarm.submit("echo", 5, idempotency_key="i")
        with pytest.raises(IdempotencyConflict):
            swarm.submit("echo", 6, idempotency_key="i")

    def test_in_a_bulk_each_task_is_judged_alone(self, swarm):
        swarm.submit("echo", 0, idempotency_key="k0")
        bulk = swarm.submit_many("echo", [0, 1, 1, 2], idempotency_key=["k0", "k1", "k1", "k0"])
        values = list(bulk.results(DEADLINE_S, return_exceptions=True))
        assert values[:3] == [0, 1, 1]
        assert isinstance(values[3], IdempotencyConflict)
        assert bulk[2].id == bulk[1].id
        with pytest.raises(IdempotencyConflict):
            bulk[3].result()
        counts = bulk.wait(DEADLINE_S)
        assert (counts.succeeded, counts.duplicates, counts.refused, counts.open) == (1, 2, 1, 0)
        done = dict(bulk.as_completed(DEADLINE_S, return_exceptions=True))
        assert [done[i] for i in range(3)] == [0, 1, 1]


class TestBulk:
    @pytest.mark.parametrize("keyed", [False, True])
    def test_results_come_in_submit_order(self, swarm, keyed):
        key = (lambda payload: str(payload["i"] % 50)) if keyed else None
        bulk = swarm.submit_many("echo", ({"i": i} for i in range(5000)), key=key)
        assert len(bulk) == 5000
        assert [value["i"] for value in bulk.results(DEADLINE_S)] == list(range(5000))
        assert bulk[4321].result() == {"i": 4321}
        assert bulk[-1].result() == {"i": 4999}
        assert len(set(bulk.ids())) == 5000
        assert bulk.counts().succeeded == 5000

    def test_tasks_of_a_type_with_narrow_limits_go_to_its_shard(self, swarm, leaders):
        narrow = TaskPolicy(type="echo", max_running=1)
        leaders.known_types, leaders.policies = ("slow",), (narrow,)
        bulk = swarm.submit_many("echo", [{"i": i} for i in range(2500)])
        keyed = swarm.submit_many("echo", [{}] * 100, key=list(map(str, range(100))))
        named = swarm.submit_many("echo", [{}] * 100, idempotency_key=list(map(str, range(100))))
        one = swarm.submit("echo", {})
        assert swarm.call("echo", {}) == {}
        assert list(bulk.results(DEADLINE_S)) == [{"i": i} for i in range(2500)]
        found = [*bulk.ids(), *keyed.ids(), *named.ids(), one.id]
        assert {ids.parse_id(each).shard for each in found} == {home_shard(narrow, 4)}

    def test_more_shards_than_the_window_holds(self):
        """Each segment has a task whose turn comes before the first segment's end."""
        leaders = FakeLeaders(ring=100)
        leaders.handler = lambda payload: payload
        made = core(leaders)
        with Swarm(made, "default", made.close) as swarm:
            bulk = swarm.submit_many("echo", range(2000), key=str)
            assert list(bulk.results(DEADLINE_S)) == list(range(2000))

    def test_keyed_tasks_are_accepted_in_submit_order_a_key(self, swarm, leaders):
        payloads = [{"i": i, "k": str(i % 37)} for i in range(3000)]
        swarm.submit_many("echo", payloads, key=lambda payload: payload["k"])
        for shard in range(4):
            last: dict[str, int] = {}
            for payload in leaders.payloads(shard):
                assert last.get(payload["k"], -1) < payload["i"]
                last[payload["k"]] = payload["i"]

    def test_failures_end_the_stream_or_stand_in_it(self, swarm):
        bulk = swarm.submit_many("echo", range(20))
        taken: list[int] = []
        with pytest.raises(TaskFailed, match="3 is bad"):
            taken.extend(bulk.results(DEADLINE_S))
        assert taken == [0, 1, 2]
        values = list(bulk.results(DEADLINE_S, return_exceptions=True))
        assert [v if isinstance(v, int) else "!" for v in values] == [
            "!" if i % 7 == 3 else i for i in range(20)
        ]
        assert bulk.counts().failed == 3
        for told in (enumerate(values), bulk.as_completed(DEADLINE_S, return_exceptions=True)):
            failed = {at: one for at, one in told if isinstance(one, TaskFailed)}
            assert {at: one.details["id"] for at, one in failed.items()} == {
                at: bulk[at].id for at in (3, 10, 17)
            }

    def test_as_completed_takes_no_order(self, swarm, leaders):
        leaders.handler = None
        bulk = swarm.submit_many("slow", range(3), key="k")
        shard = ids.parse_id(bulk[0].id).shard
        stream = bulk.as_completed(DEADLINE_S)
        leaders.succeed(shard, 2, 3, "c")
        eventually(lambda: leaders.disks[shard].outcomes)
        leaders.succeed(shard, 0, 2, "ab")
        assert dict(stream) == {0: "ab", 1: "ab", 2: "c"}

    def test_results_hold_a_window_only(self, swarm, leaders):
        leaders.handler = None
        bulk = swarm.submit_many("slow", range(100_000), key="k")
        shard = ids.parse_id(bulk[0].id).shard
        stream = bulk.results(DEADLINE_S)
        leaders.succeed(shard, 0, 1000, 1)
        assert next(stream) == 1
        eventually(lambda: leaders.polls)
        assert max(end for call in leaders.calls if call.verb == "outcomes"
                   for _, end in call.args[1]) <= 66_000  # fmt: skip
        stream.close()

    def test_a_wait_that_ends_says_how_many_are_open(self, swarm, leaders):
        leaders.handler = None
        bulk = swarm.submit_many("slow", range(10))
        with pytest.raises(WaitTimeout, match="10 of 10"):
            bulk.wait(0.01)
        with pytest.raises(WaitTimeout):
            list(bulk.results(0.01))

    def test_an_empty_bulk(self, swarm):
        bulk = swarm.submit_many("echo", [])
        assert (len(bulk), list(bulk.results()), bulk.wait().total) == (0, [], 0)
        with pytest.raises(IndexError):
            bulk[0]

    def test_large_results_and_payloads_in_a_bulk(self, swarm, leaders):
        leaders.handler = None
        payloads = ["a", "x" * 70_000, "b", "y" * 70_000]
        bulk = swarm.submit_many("slow", payloads, key="k")
        shard = ids.parse_id(bulk[0].id).shard
        claims = [command.columns(one.arrival.frame).claims for one in leaders.disks[shard].frames]
        assert claims == [[1, 3]]
        claim = swarm.core.blobs.put(b'"large"')
        frame = outcome.pack(
            shard, 1, 0, b"\1" * 4, [b"1", claim, b"3", b"4"], columns=outcome.Columns(claims=[1])
        )
        leaders.settle(shard, Settlement(frames=(frame,)))
        assert list(bulk.results(DEADLINE_S)) == [1, "large", 3, 4]

    def test_frames_stay_within_their_limits(self, swarm, leaders):
        long = "x" * 900
        swarm.submit_many("echo", ((long, i) for i in range(1000)), key=lambda p: str(p[1]))
        swarm.submit_many("echo", ((long, i) for i in range(1000)), tags=["a", "b"])
        swarm.submit_many("echo", ["y" * 60_000] * 10)
        for call in leaders.appends():
            assert len(call.args) <= 9
            for data in call.args[1:]:
                assert len(data) <= command.BYTES_MAX
                assert command.verify(data).count <= command.COUNT_MAX

    def test_what_goes_wrong_tells_what_was_accepted(self, swarm, leaders):
        payloads = itertools.chain(range(20_000), [object()])
        with pytest.raises(InvalidPayload, match="payload 20000") as caught:
            swarm.submit_many("echo", payloads)
        accepted = sum(len(leaders.payloads(shard)) for shard in range(4))
        assert caught.value.details["accepted"] == accepted
        assert caught.value.bulk.total == accepted

    def test_unknown_ones_are_named(self, leaders):
        leaders.fault = lambda verb, shard: DIES_BEFORE if verb == "append" else None
        made = core(leaders)
        with Swarm(made, "default", made.close) as swarm:
            with pytest.raises(OutcomeUnknown) as caught:
                swarm.submit_many("echo", range(30), timeout_s=0.2)
            assert caught.value.details["accepted"] == 0
            assert len(caught.value.details["ids"]) == 30

    def test_keys_must_fit_the_payloads(self, swarm):
        with pytest.raises(InvalidRequest, match="fewer"):
            swarm.submit_many("echo", range(3), key=["a", "b"])
        with pytest.raises(InvalidRequest, match="4 texts as key for 3 payloads"):
            swarm.submit_many("echo", range(3), key=["a", "b", "c", "d"])
        with pytest.raises(InvalidRequest, match="would make them one"):
            swarm.submit_many("echo", range(3), idempotency_key="same")
        with pytest.raises(InvalidRequest, match="key is a text"):
            swarm.submit_many("echo", range(3), key=lambda payload: payload)
