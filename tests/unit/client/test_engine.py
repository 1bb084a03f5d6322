"""The client's thread: work in order, timers, answers and the end of it."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest

from chimera.client.engine import ThreadEngine
from chimera.client.ports import Promise, Silent
from chimera.errors import ChimeraError

DEADLINE_S = 10.0


@pytest.fixture
def engine():
    made = ThreadEngine("test")
    yield made
    made.close()


def collected(engine: ThreadEngine, begin) -> Future:
    """Run `begin(keep)` on the engine; what it keeps."""
    future: Future = Future()
    engine.do(lambda: begin(future.set_result))
    return future


def test_work_is_done_in_order_on_one_thread(engine):
    done: list[tuple[int, int]] = []
    for value in range(100):
        engine.do(lambda value=value: done.append((value, threading.get_ident())))
    collected(engine, lambda keep: keep(None)).result(DEADLINE_S)
    assert [value for value, _ in done] == list(range(100))
    assert len({thread for _, thread in done}) == 1
    assert done[0][1] != threading.get_ident()


def test_timers_run_when_they_are_due(engine):
    order: list[str] = []

    def begin(keep) -> None:
        engine.later(0.03, lambda: keep(order))
        engine.later(0.02, lambda: order.append("second"))
        engine.later(0.0, lambda: order.append("first"))

    assert collected(engine, begin).result(DEADLINE_S) == ["first", "second"]


def test_an_answer_is_told_once(engine):
    promise: Promise[int] = Promise()
    told: list[object] = []

    def begin(keep) -> None:
        engine.watch(promise, 0.05, lambda value, fault: told.append((value, fault)))
        promise.keep(7)
        engine.later(0.1, lambda: keep(told))

    assert collected(engine, begin).result(DEADLINE_S) == [(7, None)]


def test_an_error_is_told_as_it_is(engine):
    promise: Promise[int] = Promise()
    promise.fail(ChimeraError("no"))
    told = collected(
        engine, lambda keep: engine.watch(promise, 1.0, lambda value, fault: keep(fault))
    )
    assert str(told.result(DEADLINE_S)) == "no"


def test_without_an_answer_it_is_silence(engine):
    promise: Promise[int] = Promise()
    told = collected(
        engine, lambda keep: engine.watch(promise, 0.01, lambda value, fault: keep(fault))
    )
    assert isinstance(told.result(DEADLINE_S), Silent)


def test_a_closed_engine_takes_no_work_and_says_so(engine):
    ends: list[str] = []
    engine.on_end.append(lambda fault: ends.append(str(fault)))
    collected(engine, lambda keep: keep(None)).result(DEADLINE_S)
    engine.close()
    engine.close()
    assert not engine.is_open
    assert ends == ["the client is closed: connect again"]
    with pytest.raises(ChimeraError, match="closed"):
        engine.do(lambda: None)


def test_an_engine_that_breaks_tells_those_who_wait(engine, caplog):
    ended = threading.Event()
    engine.on_end.append(lambda fault: ended.set())
    engine.do(lambda: 1 / 0)
    assert ended.wait(DEADLINE_S)
    with pytest.raises(ChimeraError, match="ZeroDivisionError"):
        engine.do(lambda: None)
    assert "has stopped" in caplog.text


def test_an_engine_that_never_began_can_be_closed():
    ThreadEngine("idle").close()
