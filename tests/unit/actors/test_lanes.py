"""Tasks that run side by side: as many as allowed, keys in order, each ended once."""

from __future__ import annotations

import threading
import time

import pytest

from chimera.store.blobs import Blobs
from tests.unit.actors import sample_handlers
from tests.unit.actors.kit import Bench, item
from tests.unit.actors.sample_handlers import DEADLINE_S


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def wait_for(condition):
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.005)


@pytest.mark.parametrize(("type", "width"), [("pooled", 4), ("patient", 8)])
def test_as_many_run_at_once_as_the_policy_allows(bench, type, width):
    running = bench.start(item(type, list(range(20))))
    wait_for(lambda: len(running.gate.inside) == width)
    answer = running.finish()
    assert running.gate.most == width
    assert answer.states() == ["succeeded"] * 20
    assert answer.summary.tasks == 20


def test_a_frames_options_may_narrow_it(bench):
    running = bench.start(item("patient", list(range(6)), options={"concurrency": 2}))
    wait_for(lambda: len(running.gate.inside) == 2)
    running.finish()
    assert running.gate.most == 2


def test_small_frames_of_several_types_run_side_by_side(bench):
    running = bench.start(
        *[item("patient", [f"a{at}"], position=at) for at in range(3)],
        *[item("pooled", [f"b{at}"], position=10 + at) for at in range(3)],
    )
    wait_for(lambda: len(running.gate.inside) == 6)
    assert running.finish().states() == ["succeeded"] * 6


@pytest.mark.parametrize("type", ["pooled", "patient"])
def test_tasks_of_a_key_run_one_at_a_time_in_order(bench, type):
    keys = [f"k{index % 3}" for index in range(12)]
    running = bench.start(
        item(type, list(range(6)), keys=keys[:6]),
        item(type, list(range(6, 12)), position=6, keys=keys[6:]),
    )
    wait_for(lambda: len(running.gate.inside) == 3)
    answer = running.finish()
    assert running.gate.most == 3
    assert answer.states() == ["succeeded"] * 12
    for key in range(3):
        assert [one for one in running.gate.order if one % 3 == key] == list(range(key, 12, 3))


def test_a_key_that_is_in_two_types_keeps_its_order(bench):
    running = bench.start(
        item("pooled", ["first"], keys=["k"]), item("patient", ["second"], position=5, keys=["k"])
    )
    assert running.gate.order == ["first"]
    running.finish()
    assert running.gate.order == ["first", "second"]


def test_what_follows_a_failure_in_its_key_is_left_open(bench):
    sample_handlers.new_gate().opened.set()
    answer = bench.run(item("pooled", ["bad", "b", "c"], keys=["k", "k", "other"]))
    assert answer.states() == ["attempt failed", "open", "succeeded"]


def test_types_that_run_one_by_one_go_between(bench):
    sample_handlers.new_gate().opened.set()
    answer = bench.run(
        item("pooled", [1]), item("echo", [2], position=1), item("patient", [3], position=2)
    )
    assert answer.bodies() == [[1, False], 2, 3]


@pytest.mark.parametrize("type", ["echo.pooled", "echo.async"])
def test_what_is_true_of_tasks_one_by_one_is_true_side_by_side(bench, tmp_path, type):
    claim = Blobs(str(tmp_path / "objects")).put(b'"large"')
    bench.worker.cancel(0, 4)
    answer = bench.run(item(type, [1, b"{", claim, 4, 5], claims=[2], deadline=[0, 0, 0, 1, 0]))
    assert answer.states() == ["succeeded", "attempt failed", "succeeded", "expired", "cancelled"]
    assert answer.bodies()[2] == "large"


# coroutines


def test_an_attempt_that_takes_too_long_is_cancelled(bench):
    sample_handlers.new_gate()
    answer = bench.run(item("waiting", ["for ever", "b"]))
    assert answer.states() == ["attempt failed", "succeeded"]
    fault = answer.bodies()[0]
    assert fault["error"] == "chimera.AttemptTimeout"
    assert "0.3 s" in fault["message"]
    assert fault.get("retryable", True)
    assert not sample_handlers.GATE.inside, "its clean-up ran"


def test_a_coroutine_that_ends_well_in_spite_of_it_ended_well(bench):
    sample_handlers.new_gate()
    assert bench.run(item("waiting", ["stubborn"])).bodies() == ["done all the same"]


@pytest.mark.parametrize(
    ("payload", "error"),
    [("exit", "builtins.SystemExit"), ("leave", "asyncio.exceptions.CancelledError")],
)
def test_the_event_loop_survives_what_a_coroutine_raises(bench, payload, error):
    sample_handlers.new_gate()
    answer = bench.run(item("waiting", [payload]))
    assert answer.states() == ["attempt failed"]
    assert answer.bodies()[0]["error"] == error
    assert bench.run(item("waiting", ["next"], position=3)).states() == ["succeeded"]


def test_a_cancelled_coroutine_is_cancelled(bench):
    running = bench.start(item("patient", ["a", "b"]))
    wait_for(lambda: len(running.gate.inside) == 2)
    bench.worker.cancel(0, 1)
    answer = running.finish()
    assert answer.states() == ["succeeded", "cancelled"]
    assert answer.bodies()[1]["message"] == "cancelled while it ran"


def test_a_coroutine_awaits_its_memo(bench):
    answer = bench.run(item("memo.async", [7], position=3))
    assert answer.bodies() == [[[7, 1], [7, 1]]]
    assert bench.owner.memos == {(0, 3, "a"): b"[7,1]"}


# answering while they run


def test_a_thread_sees_that_its_task_is_cancelled(bench):
    running = bench.start(item("pooled", ["a", "b"]))
    wait_for(lambda: len(running.gate.inside) == 2)
    bench.worker.cancel(0, 1)
    assert running.finish().bodies() == [["a", False], ["b", True]]


@pytest.mark.parametrize(("type", "width"), [("pooled", 4), ("patient", 8)])
def test_unbegun_tasks_are_taken_back_and_those_in_hand_end(bench, type, width):
    running = bench.start(item(type, list(range(20)), position=100))
    wait_for(lambda: len(running.gate.inside) == width)
    collected = bench.collect()
    assert collected.replies == ()
    in_hand = sorted(position for _, position in collected.running)
    assert in_hand == list(range(100, 100 + width))
    assert collected.returned == ((0, 100 + width, 20 - width),)
    answer = running.finish()
    assert answer.states() == ["succeeded"] * width
    assert answer.summary.tasks == width


def test_the_board_names_a_task_only_while_it_is_alone(bench):
    running = bench.start(item("pooled", ["a"]))
    wait_for(lambda: bench.board().ordinal == 0)
    assert bench.board().dispatch == 1
    running.finish()
    running = bench.start(item("pooled", ["a", "b"]))
    wait_for(lambda: len(running.gate.inside) == 2)
    assert bench.board()[:2] == (2, None)
    running.finish()


def test_time_in_the_handler_is_counted_for_each(bench):
    from chimera.frames import outcome

    running = bench.start(item("pooled", ["a", "b"]))
    wait_for(lambda: len(running.gate.inside) == 2)
    began = time.monotonic()
    wait_for(lambda: time.monotonic() - began > 0.05)
    ((_, frame),) = running.finish().frames
    assert outcome.header(frame).duration_us > 2 * 50_000
