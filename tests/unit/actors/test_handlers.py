"""What becomes of tasks that run one by one: each gets its own outcome, whatever the others do."""

from __future__ import annotations

import json
import sys
import time

import pytest

from chimera.actors import handlers
from chimera.errors import HandlerLoadError
from chimera.frames import bundle, command, outcome
from chimera.frames.ids import format_id
from chimera.store.blobs import Blobs
from tests.unit.actors.kit import SESSION, Bench, item


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_results_come_in_order_with_where_they_belong(bench):
    answer = bench.run(item("echo", [1, {"a": [2]}, None], shard=3, epoch=7, position=40))
    assert [(slot, one.body) for slot, one in answer.outcomes.items()] == [
        ((3, 40), 1), ((3, 41), {"a": [2]}), ((3, 42), None),
    ]  # fmt: skip
    assert answer.states(3) == ["succeeded"] * 3
    header = outcome.header(answer.frames[0][1])
    assert (header.bad, header.attempt, header.epoch) == (0, 1, 7)
    assert header.duration_us > 0
    assert answer.summary.tasks == 3
    assert answer.summary.busy_us > 0


def test_a_context_tells_whose_attempt_this_is(bench):
    answer = bench.run(
        item("who", [0, 0], shard=2, epoch=5, position=8, attempt=3, tags=[[], ["x", "y"]]),
        item("who", [0], shard=2, epoch=5, position=90, keys=["k"]),
    )
    assert answer.bodies(2) == [
        [format_id(SESSION, 2, 1008), "who", "t", None, 3, 5, []],
        [format_id(SESSION, 2, 1009), "who", "t", None, 3, 5, ["x", "y"]],
        [format_id(SESSION, 2, 1090), "who", "t", "k", 1, 5, []],
    ]


# payloads


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b"{", "truncated"),
        (b"", "truncated"),
        (b'{"item": "\xff"}', "utf-8"),
        (b'{"item": "a"}', "missing required field `count`"),
        (b'{"item": "a", "count": "b"}', "$.count"),
        (b'{"item": 1, "count": 2}', "$.item"),
    ],
)
@pytest.mark.parametrize("columns", [{}, {"keys": ["a", "b", "c"]}])
def test_a_payload_that_does_not_fit_fails_alone_and_for_good(bench, payload, says, columns):
    good = {"item": "ab", "count": 2}
    answer = bench.run(item("order", [good, payload, good], **columns))
    assert answer.states() == ["succeeded", "attempt failed", "succeeded"]
    fault = answer.bodies()[1]
    assert fault["error"] == "chimera.InvalidPayload"
    assert says in fault["message"].lower().replace("$.C", "$.c")
    assert fault["retryable"] is False
    assert answer.bodies()[0] == "abab"


def test_a_large_payload_is_fetched_where_its_claim_check_leads(bench, tmp_path):
    store = Blobs(str(tmp_path / "objects"))
    large, lost = store.put(json.dumps("z" * 100_000).encode()), store.put(b'"gone"')
    store.delete(lost)
    answer = bench.run(item("echo", ["a", large, lost, b"{}"], claims=[1, 2, 3]))
    assert answer.states() == ["succeeded", "succeeded", *["attempt failed"] * 2]
    assert [one.claim for one in answer.outcomes.values()] == [False, True, False, False]
    assert store.get(json.dumps(answer.bodies()[1]).encode()) == b'"' + b"z" * 100_000 + b'"'
    errors = [(fault["error"], fault["retryable"]) for fault in answer.bodies()[2:]]
    assert errors == [("chimera.NotFound", False), ("chimera.InvalidRequest", False)]


# failures


@pytest.mark.parametrize(
    ("payload", "state", "failure"),
    [
        ("value", "attempt failed", {"error": "builtins.ValueError", "message": "bad value"}),
        ("exit", "attempt failed", {"error": "builtins.SystemExit", "message": "3"}),
        ("interrupt", "attempt failed", {"error": "builtins.KeyboardInterrupt"}),
        ("file", "attempt failed", {"error": "builtins.FileNotFoundError", "retryable": False}),
        ("after", "attempt failed", {"error": "chimera.RetryAfter", "retry_after": 2.5}),
        ("permanent", "attempt failed", {"error": "chimera.PermanentError", "retryable": False}),
        ("cancelled", "cancelled", {"error": "chimera.TaskCancelled", "message": "enough"}),
    ],
)
@pytest.mark.parametrize("columns", [{}, {"deadline": [0, 0]}])
def test_what_a_handler_raises_steers_the_outcome(bench, payload, state, failure, columns):
    answer = bench.run(item("fail", [payload, "fine"], **columns))
    assert answer.states() == [state, "succeeded"]
    found = answer.bodies()[0]
    assert {**found, **failure} == found
    assert found.get("retryable", True) is failure.get("retryable", state != "cancelled")


@pytest.mark.parametrize("columns", [{}, {"deadline": [0]}])
def test_a_traceback_is_the_handlers_own(bench, columns):
    (found,) = bench.run(item("fail", ["value"], **columns)).bodies()
    assert found["traceback"].count('File "') == 1
    assert "sample_handlers.py" in found["traceback"]
    assert found["traceback"].endswith("ValueError: bad value\n")


def test_an_exception_that_cannot_be_told_is_told_as_such(bench):
    (found,) = bench.run(item("fail", ["odd"])).bodies()
    assert found["error"].endswith(".Odd")
    assert "RuntimeError" in found["message"]


def test_a_long_failure_is_cut(bench):
    (found,) = bench.run(item("fail", ["long"])).bodies()
    assert len(found["message"]) < 2100
    assert len(found["traceback"]) < 6100


@pytest.mark.parametrize("columns", [{}, {"deadline": [0]}])
@pytest.mark.parametrize(("payload", "says"), [("lock", "lock"), ("loop", "recursion")])
def test_a_result_that_is_no_json_fails_for_good(bench, payload, says, columns):
    (found,) = bench.run(item("result", [payload], **columns)).bodies()
    assert found["error"] == "chimera.InvalidResult"
    assert says in found["message"]
    assert found["retryable"] is False


@pytest.mark.parametrize("columns", [{}, {"deadline": [0]}])
def test_a_large_result_becomes_a_claim_check(bench, tmp_path, columns):
    answer = bench.run(item("result", ["big"], **columns))
    (found,) = answer.outcomes.values()
    assert (found.state, found.claim) == ("succeeded", True)
    body = Blobs(str(tmp_path / "objects")).get(json.dumps(found.body).encode())
    assert len(body) == 200_002


def test_a_large_result_that_cannot_be_stored_is_tried_again_later(tmp_path):
    (tmp_path / "objects").write_text("in the way")
    bench = Bench(tmp_path)
    (found,) = bench.run(item("result", ["big"])).outcomes.values()
    assert found.state == "attempt failed"
    assert found.body.get("retryable", True)


# frames


def damaged(one: bundle.Dispatch, at: int) -> bundle.Dispatch:
    frame = bytearray(one.frame)
    frame[at] ^= 0xFF
    return one._replace(frame=bytes(frame))


def test_a_corrupt_frame_ends_its_own_tasks_and_no_other(bench):
    bad = damaged(item("echo", ["aaaa", "b", "c"], position=10), -3)
    answer = bench.run(item("echo", [1]), bad, item("echo", [2], position=20))
    assert list(answer.outcomes) == [(0, 0), (0, 10), (0, 11), (0, 12), (0, 20)]
    assert answer.states() == ["succeeded", "failed", "failed", "failed", "succeeded"]
    assert {one["error"] for one in answer.bodies()[1:4]} == {"corrupt"}
    assert bench.run(item("echo", [3], position=30)).states() == ["succeeded"]


def test_a_corrupt_count_is_not_believed(bench):
    count_at = 3 + 1 + 2 + 1  # magic, version, flags, shard; the count's higher byte
    one = item("echo", [1, 2], position=10)
    for at in range(4, command.HEADER_BYTES):
        assert handlers.believable_count(damaged(one, at).frame) in (1, 2)
    answer = bench.run(damaged(one, count_at))
    assert set(answer.outcomes) <= {(0, 10), (0, 11)}
    assert set(answer.states()) == {"failed"}


def test_no_damage_is_survived_unnoticed(bench):
    one = item("echo", ["some", "text"], position=10)
    for at in range(len(one.frame)):
        answer = bench.run(damaged(one, at))
        assert set(answer.states()) == {"failed"}, at
        assert set(answer.outcomes) <= {(0, 10), (0, 11)}, at


def test_a_bundle_that_is_cut_short_loses_only_what_was_cut(bench):
    whole = bundle.pack_dispatches([item("echo", [1]), item("echo", [2], position=5)])
    bench.dispatches += 1
    summary, reply = bench.worker.run(bench.leader, bench.dispatches, (), whole[:-1])
    assert summary.tasks == 1
    assert len(list(bundle.replies(reply))) == 1


def test_outcome_frames_stay_within_what_is_carried_inline(bench):
    answer = bench.run(item("echo", ["x" * 90] * 900), item("fail", ["value"] * 900, position=5000))
    sizes = [len(frame) for _, frame in answer.frames]
    assert len(sizes) > 2
    assert max(sizes) <= command.BYTES_MAX
    assert len(answer.outcomes) == 1800
    serials = [serial for serial, _ in answer.frames]
    assert len(set(serials)) == len(serials)


@pytest.mark.parametrize("slots", [1, 2, 20])
def test_replies_fill_the_slots_there_are(bench, slots):
    answer = bench.run(*[item("fail", ["value"] * 900, position=at) for at in (0, 5000)],
                       slots=slots)  # fmt: skip
    assert len(answer.outcomes) == 1800


def test_a_type_that_is_not_known_here_may_be_known_elsewhere(bench):
    answer = bench.run(item("nobody's", [1, 2]), item("echo", [3], position=9))
    assert answer.states() == ["attempt failed"] * 2 + ["succeeded"]
    assert answer.bodies()[0] == {
        "error": "chimera.UnknownTaskType", "message": "no handler for task type \"nobody's\"",
    }  # fmt: skip


def test_a_frame_that_was_made_wrong_ends_its_own_tasks(bench):
    """Its checksum is right: whoever made it wrote no head that can be read."""
    good = item("echo", [1, 2])
    of = command.header(good.frame)
    frame = command.pack(of.session, 0, 0, b"\xc1" * 20, [b"1", b"2"])
    answer = bench.run(good._replace(frame=frame), item("echo", [3], position=9))
    assert answer.states() == ["failed", "failed", "succeeded"]
    assert answer.bodies()[0]["error"] == "corrupt"


def test_a_task_that_is_looked_at_first_can_be_cancelled_too(bench):
    bench.worker.cancel(0, 1)
    answer = bench.run(item("echo", [1, 2], deadline=[0, 0]))
    assert answer.states() == ["succeeded", "cancelled"]


def test_options_that_do_not_fit_fail_their_frame(bench):
    answer = bench.run(
        item("echo", [1], options={"attempt_timeout_s": "soon"}),
        item("echo", [2], position=9, options={"of_a_newer_client": 1}),
    )
    assert answer.states() == ["attempt failed", "succeeded"]
    assert "attempt_timeout_s" in answer.bodies()[0]["message"]
    assert answer.bodies()[0]["retryable"] is False


# deadlines


def test_a_task_whose_deadline_passed_is_not_run(bench):
    now = int(time.time() * 1000)
    answer = bench.run(item("echo", [1, 2, 3], deadline=[0, now - 1, now + 60_000]))
    assert answer.states() == ["succeeded", "expired", "succeeded"]
    assert answer.bodies()[1]["error"] == "chimera.TaskExpired"


# keys


def test_what_follows_a_failure_in_its_key_is_left_open(bench):
    answer = bench.run(
        item("fail", ["a", "value", "b", "c", "d"], keys=["k", "k", "k", "other", None]),
        item("fail", ["e"], position=10, keys=["k"]),
        item("fail", ["f"], position=20, keys=["k"], tenant="else"),
        item("fail", ["g"], shard=1, keys=["k"]),
    )
    assert answer.states() == [
        "succeeded", "attempt failed", "open", "succeeded", "succeeded", "open", "succeeded",
    ]  # fmt: skip
    assert answer.states(1) == ["succeeded"]
    again = bench.run(item("fail", ["b"], position=2, keys=["k"]))
    assert again.states() == ["succeeded"], "the next dispatch is the leader's decision"


def test_a_frame_that_cannot_be_run_blocks_its_keys(bench):
    answer = bench.run(item("nobody's", [1], keys=["k"]), item("echo", [2], position=5, keys=["k"]))
    assert answer.states() == ["attempt failed", "open"]


def test_an_expired_or_cancelled_task_does_not_block_its_key(bench):
    answer = bench.run(
        item("fail", ["a", "cancelled", "c"], keys=["k"] * 3, deadline=[1, 0, 0]),
    )
    assert answer.states() == ["expired", "cancelled", "succeeded"]


# loading


def test_a_constructor_that_fails_is_told(tmp_path):
    (tmp_path / "broken_handlers.py").write_text(
        "import chimera\n@chimera.task\nclass Broken:\n"
        "    def __init__(self): raise OSError('no licence')\n    def run(self, p): ...\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        bench = Bench(tmp_path, handlers=("broken_handlers",))
    finally:
        sys.path.remove(str(tmp_path))
    with pytest.raises(HandlerLoadError, match=r"broken_handlers.*Broken: OSError: no licence"):
        bench.worker.hello()
    answer = bench.run(item("echo", [1, 2]))
    assert answer.summary.returned == ((0, 0, 2),)
    assert not answer.frames
