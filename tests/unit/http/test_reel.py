"""The results of many tasks over HTTP: told as soon as may be, and left at any time."""

from __future__ import annotations

import gc
import json
import threading
import time

import httpx2
import pytest

from chimera import errors
from chimera.http.bulk import Bulk
from chimera.http.reel import AsCompleted, Told
from chimera.http.verbs import Api
from tests.unit.http.kit import ID, URL, accept, problem, view

#: seconds after which a task that a test leaves running ends all the same, so that it must fail
PATIENCE_S = 10.0


class Gateway:
    """Takes tasks; those of them that `ended` names have ended, each with its own number."""

    def __init__(self, ended) -> None:
        self.ended = ended
        self.asked: list[int] = []
        self.patient = True  #: nobody had to wait for the end of a task that runs on
        self._until = time.monotonic() + PATIENCE_S

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST":
            return accept(request)
        number = int(request.url.path[-12:], 16)
        self.asked.append(number)
        if time.monotonic() > self._until:
            self.patient = False
        elif not self.ended(number):
            time.sleep(0.005)  # as long as the gateway waits
            return httpx2.Response(200, json=view(number, state="running"))
        if number == 0:
            failure = {"error": "ValueError", "message": "bad"}
            return httpx2.Response(200, json=view(number, state="failed", failure=failure))
        return httpx2.Response(200, json=view(number, state="succeeded", result=number))


@pytest.fixture
def bulk(client):
    """Submits tasks of which some have ended."""

    def make(count: int, ended) -> tuple:
        gateway = Gateway(ended)
        made, _ = client(by=gateway)
        return made.submit_many("echo", range(count)), gateway

    return make


def test_results_come_in_order_however_many_there_are(bulk):
    made, gateway = bulk(50, lambda number: gateway.asked.count(number) > 1 or number % 3)
    assert list(made.results(return_exceptions=True))[1:] == list(range(1, 50))
    assert made.counts().succeeded == 49


@pytest.mark.parametrize("verb", ["results", "as_completed"])
def test_a_failure_is_told_while_others_still_run(bulk, verb):
    made, gateway = bulk(5, lambda number: number == 0)
    with pytest.raises(errors.TaskFailed) as caught:
        list(getattr(made, verb)())
    assert caught.value.details["id"] == made[0].id
    assert gateway.patient


@pytest.mark.parametrize("verb", ["results", "as_completed"])
def test_who_has_enough_need_not_wait_for_the_rest(bulk, verb):
    made, gateway = bulk(40, lambda number: number == 0)
    told = getattr(made, verb)(return_exceptions=True)
    next(told)
    told.close()
    assert gateway.patient
    deadline = time.monotonic() + PATIENCE_S / 2
    while any(one.name == "chimera-http" for one in threading.enumerate()):
        assert time.monotonic() < deadline, "it goes on asking"
        time.sleep(0.01)


def test_what_has_ended_is_told_whatever_was_submitted_before_it(bulk):
    made, gateway = bulk(200, lambda number: number >= 100)
    told = made.as_completed()
    assert {next(told) for _ in range(100)} == {(number, number) for number in range(100, 200)}
    told.close()
    assert gateway.patient


def test_what_ends_out_of_turn_is_found(bulk):
    made, gateway = bulk(60, lambda number: number == 57 and gateway.asked.count(57) > 2)
    told = made.as_completed()
    assert next(told) == (57, 57)
    told.close()
    assert gateway.patient


def test_a_gateway_that_makes_no_sense_ends_no_task(client):
    def senseless(request):
        return accept(request) if request.method == "POST" else httpx2.Response(200, text="hello")

    made, _ = client(by=senseless)
    with pytest.raises(errors.ChimeraError, match="no gateway of Chimera"):
        list(made.submit_many("echo", [1]).results(return_exceptions=True))


def test_no_fault_is_left_for_the_log_when_many_come_at_once(client, caplog):
    def broken(request):
        return accept(request) if request.method == "POST" else problem(500, "internal")

    made, _ = client(by=broken)
    bulk = made.submit_many("echo", range(5))
    with pytest.raises(errors.ChimeraError):
        list(bulk.results())
    gc.collect()
    assert "never retrieved" not in caplog.text


@pytest.mark.parametrize("verb", ["results", "as_completed"])
def test_waiting_ends_in_time(bulk, verb):
    made, gateway = bulk(30, lambda number: number == 1)
    with pytest.raises(errors.WaitTimeout, match="tasks are not done yet"):
        list(getattr(made, verb)(timeout_s=0.1))
    assert gateway.patient


def test_a_task_that_is_not_due_is_not_waited_for_in_front_of_those_that_are():
    tasks = Bulk()
    for number in range(100):
        tasks.add(number, ID.format(number + 1), False)
    reel = AsCompleted(Api(URL, "default"), tasks, None)
    first = [index for index, _ in reel.asks()]
    for index in first:
        reel.heard(index, Told("scheduled", ended=False))
    assert not set(first) & {index for index, _ in reel.asks()}


def test_a_claimed_result_is_fetched(client):
    def large(request):
        if request.method == "POST":
            return accept(request)
        if request.url.path.endswith("/result"):
            return httpx2.Response(200, content=json.dumps(["large"]))
        url = f"{request.url.path}/result"
        return httpx2.Response(200, json=view(0, state="succeeded", result_url=url))

    made, _ = client(by=large)
    assert list(made.submit_many("echo", [0]).as_completed()) == [(0, ["large"])]
