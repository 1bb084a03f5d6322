"""The client over HTTP: what it sends, sends again, and makes of the answers."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from datetime import datetime, timezone

import httpx2
import pytest

import chimera
from chimera import errors
from chimera.http.verbs import Api
from chimera.http.wire import Answer, Call
from tests.unit.http.kit import ID, URL, problem, view


def test_a_submit_that_was_cut_off_is_sent_again_with_the_same_idempotency_key(client):
    made, sent = client(
        httpx2.ReadError("cut"), problem(503, "not_ready"), httpx2.Response(502),
        httpx2.Response(202, json=view(duplicate=True)), tenant="acme",
    )  # fmt: skip
    handle = made.submit("echo", {"a": 1}, tags=["t"], delay_s=5)
    assert handle.id == ID.format(0)
    assert not handle.duplicate  # the key was the client's own: the caller submitted once
    bodies = [json.loads(one.content) for one in sent]
    assert len({one["idempotency_key"] for one in bodies}) == 1
    assert bodies[0]["payload"] == {"a": 1}
    assert (bodies[0]["tags"], bodies[0]["delay_s"]) == (["t"], 5)
    assert {one.headers["chimera-tenant"] for one in sent} == {"acme"}


def test_the_callers_own_key_is_sent_and_a_duplicate_says_so(client):
    made, sent = client(httpx2.Response(200, json=view(duplicate=True)))
    assert made.submit("echo", 1, idempotency_key="mine").duplicate
    assert json.loads(sent[0].content)["idempotency_key"] == "mine"


def test_a_full_queue_is_told_at_once_unless_the_caller_blocks(client, monkeypatch):
    made, _ = client(problem(429, "overloaded", after=3))
    with pytest.raises(errors.Overloaded) as caught:
        made.submit("echo")
    assert caught.value.retry_after == 3
    naps: list[float] = []

    async def nap(seconds: float) -> None:
        naps.append(seconds)

    monkeypatch.setattr("chimera.http.send.time.sleep", naps.append)
    monkeypatch.setattr("chimera.http.send.asyncio.sleep", nap)
    made, _ = client(problem(429, "overloaded", after=3), httpx2.Response(202, json=view()))
    made.submit("echo", block=True)
    assert naps == [3]


def test_a_gateway_that_never_was_there_is_told_at_once_one_that_was_is_waited_for(client):
    made, sent = client(httpx2.ConnectError("refused"))
    with pytest.raises(errors.NotReady, match=f"no gateway answers at {URL}"):
        made.submit("echo")
    assert len(sent) == 1
    made, sent = client(
        httpx2.Response(202, json=view()), httpx2.ConnectError("refused"),
        httpx2.Response(202, json=view(1)),
    )  # fmt: skip
    made.submit("echo")
    assert made.submit("echo").id == ID.format(1)


#: answers that do not say whether the task was accepted
UNTOLD = [
    httpx2.ReadError("cut"), lambda _: httpx2.Response(502), lambda _: httpx2.Response(504),
    lambda _: httpx2.Response(500, text="the replica died"),
    lambda _: problem(504, "outcome_unknown"),
]  # fmt: skip


@pytest.mark.parametrize("answer", UNTOLD)
@pytest.mark.parametrize("given", [None, "mine"])
def test_of_a_submit_of_unknown_outcome_the_key_is_told_to_submit_it_again_by(
    client, answer, given
):
    made, sent = client(*itertools.repeat(answer, 50))
    with pytest.raises(errors.OutcomeUnknown) as caught:
        made.submit("echo", idempotency_key=given, timeout_s=0.2)
    key = caught.value.details["idempotency_key"]
    assert {json.loads(one.content)["idempotency_key"] for one in sent} == {key}
    assert given in (None, key)


def test_of_a_submit_of_unknown_outcome_the_ids_are_told_that_the_gateway_named(client):
    made, _ = client(
        problem(504, "outcome_unknown", ids=[ID.format(1)]), *[problem(503, "not_ready")] * 50
    )
    with pytest.raises(errors.OutcomeUnknown) as caught:
        made.submit("echo", timeout_s=0.2)
    assert caught.value.details["ids"] == [ID.format(1)]


class Dripping(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """An answer that comes byte by byte, and ends after some seconds if somebody waits for it."""

    def __init__(self) -> None:
        self.ended = False

    def __iter__(self):
        until = time.monotonic() + 5
        while time.monotonic() < until:
            time.sleep(0.01)
            yield b" "
        self.ended = True
        yield json.dumps(view()).encode()

    async def __aiter__(self):
        for piece in self:
            yield piece
            await asyncio.sleep(0)


@pytest.mark.parametrize("verb", ["submit", "submit_many"])
def test_the_time_of_a_submit_is_for_the_whole_answer(client, verb):
    drips: list[Dripping] = []

    def drip(request):
        drips.append(Dripping())
        return httpx2.Response(202, stream=drips[-1])

    made, _ = client(by=drip)
    with pytest.raises(errors.OutcomeUnknown):
        getattr(made, verb)("echo", [1], timeout_s=0.3)
    assert not any(one.ended for one in drips)


@pytest.mark.parametrize(
    "refused",
    [lambda _: problem(422, "deadline_passed"), lambda _: problem(404, "unknown_task_type"),
     lambda _: problem(429, "overloaded"), httpx2.ConnectError("refused")],
)  # fmt: skip
def test_a_refusal_does_not_hide_that_a_former_try_may_have_been_accepted(client, refused):
    made, _ = client(httpx2.ReadError("cut"), *itertools.repeat(refused, 50))
    with pytest.raises(errors.OutcomeUnknown):
        made.submit("echo", timeout_s=0.2)


def test_a_refusal_of_the_task_itself_holds_for_former_tries_too(client):
    made, _ = client(httpx2.ReadError("cut"), problem(422, "idempotency_conflict"))
    with pytest.raises(errors.IdempotencyConflict):
        made.submit("echo", idempotency_key="mine")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda _: problem(404, "unknown_task_type"), errors.UnknownTaskType),
        (
            lambda _: problem(422, "invalid_payload", errors=[{"pointer": "/payload"}]),
            errors.InvalidPayload,
        ),
        (lambda _: problem(413, "payload_too_large"), errors.PayloadTooLarge),
        (lambda _: problem(422, "idempotency_conflict"), errors.IdempotencyConflict),
        (lambda _: problem(405, "method_not_allowed"), errors.InvalidRequest),
        (lambda _: httpx2.Response(404, text="<html>"), errors.ChimeraError),
        (lambda _: httpx2.Response(200, text="hello"), errors.ChimeraError),
    ],
)
def test_a_problem_is_the_error_of_its_code(client, answer, error):
    made, _ = client(answer)
    with pytest.raises(error) as caught:
        made.submit("echo")
    assert type(caught.value) is error


def test_results_and_failures_are_those_of_the_handler(client):
    failure = {"error": "builtins.ValueError", "message": "bad", "traceback": "tb"}
    made, sent = client(
        httpx2.Response(200, json=view(state="running")),
        httpx2.Response(200, json=view(state="succeeded", result={"n": 1})),
        httpx2.Response(200, json=view(state="failed", failure=failure, attempts=2)),
        httpx2.Response(200, json=view(state="succeeded", result_url="/v1/tasks/x/result")),
        httpx2.Response(200, content=b"[1]"),
    )
    handle = made.handle(ID.format(0))
    assert handle.result(30) == {"n": 1}
    assert float(sent[0].url.params["wait"]) > 0
    with pytest.raises(errors.TaskFailed, match="ValueError: bad") as caught:
        handle.result()
    assert caught.value.details["traceback"] == "tb"
    assert caught.value.details["id"] == handle.id
    assert handle.result() == [1]


def test_a_gateway_where_too_many_wait_already_is_asked_again_when_it_says():
    steps = Api(URL, "default").ended(ID.format(0), 30)
    assert isinstance(next(steps), Call)
    told = Answer(200, {"retry-after": "1"}, json.dumps(view()).encode())
    assert steps.send(told) == 1.0
    assert isinstance(next(steps), Call)


def test_waiting_ends_in_time(client):
    made, _ = client(httpx2.Response(200, json=view(state="running")))
    with pytest.raises(errors.WaitTimeout):
        made.handle(ID.format(0)).result(0)


@pytest.mark.parametrize(
    "wrong",
    [lambda made: made.get("nope"), lambda made: made.submit("echo", object()),
     lambda made: made.submit("echo", deadline=1.0), lambda made: made.submit("echo", tags="t"),
     lambda made: made.submit("echo", nonsense=1), lambda made: made.submit(None),
     lambda made: chimera.Client("ftp://x"), lambda made: chimera.Client(URL, tenant="No!"),
     lambda made: made.submit_many("echo", [1], idempotency_key="one")],
)  # fmt: skip
def test_what_is_wrong_is_refused_before_it_is_sent(client, wrong):
    made, sent = client()
    with pytest.raises(errors.InvalidRequest):
        wrong(made)
    assert not sent


@pytest.mark.parametrize("answer", UNTOLD)
def test_a_dead_letter_that_is_gone_after_an_answer_was_lost_was_given_up(client, answer):
    made, sent = client(answer, problem(404, "not_found"))
    made.discard(ID.format(0))
    assert [one.method for one in sent] == ["DELETE", "DELETE"]


def test_a_list_is_filtered_where_the_tasks_are(client):
    pages = [httpx2.Response(200, json={"tasks": [view(1)], "cursor": "next"}),
             httpx2.Response(200, json={"tasks": []})]  # fmt: skip
    made, sent = client(*pages)
    moment = datetime(2027, 1, 15, 8, 0, 0, 123_000, timezone.utc)
    listed = made.list(type="echo", state="queued", tag="t", since=moment, until=1.8e9)
    assert [one.task_id for one in listed] == [ID.format(1)]
    first, second = (dict(one.url.params) for one in sent)
    assert first == {"type": "echo", "state": "queued", "tag": "t", "limit": "100",
                     "since": "1800000000.123", "until": "1800000000.0"}  # fmt: skip
    assert second == {**first, "cursor": "next"}


def test_dead_letters_are_asked_for_by_their_name(client):
    letter = view(1, state="failed", dead_letter=True)
    made, sent = client(httpx2.Response(200, json={"tasks": [letter]}))
    (found,) = made.list(tag="t", since=5, dead_letters=True)
    assert found.dead_letter
    assert (sent[0].url.path, dict(sent[0].url.params)) == (
        "/v1/dead-letters", {"tag": "t", "since": "5.0", "limit": "100"},
    )  # fmt: skip
    with pytest.raises(errors.InvalidRequest, match="a dead letter has failed"):
        made.page(state="queued", dead_letters=True)
    assert len(sent) == 1


def test_what_runs_is_let_be_where_the_caller_says_so(client):
    made, sent = client(httpx2.Response(202, json=view(state="cancelling")),
                        httpx2.Response(200, json=view(state="running")))  # fmt: skip
    assert made.cancel(ID.format(0), "no need") == "cancelling"
    assert made.handle(ID.format(0)).cancel(only_waiting=True) == "running"
    asked = [(one.method, dict(one.url.params)) for one in sent]
    assert asked == [("DELETE", {"reason": "no need"}), ("DELETE", {"only_waiting": "true"})]


@pytest.mark.parametrize("tries", [1, 2])
def test_a_dead_letter_that_never_was_is_told(client, tries):
    made, _ = client(*[problem(503, "not_ready")] * (tries - 1), problem(404, "not_found"))
    with pytest.raises(errors.NotFound):
        made.discard(ID.format(0))


def test_how_far_a_task_is_can_be_asked(client):
    told = view(state="running", progress={"done": 0.5})
    made, _ = client(by=lambda _: httpx2.Response(200, json=told))
    assert made.handle(ID.format(0)).progress() == made.progress(ID.format(0)) == {"done": 0.5}


@pytest.mark.parametrize("verb", ["get", "submit", "events"])
def test_a_client_that_is_closed_says_so(client, verb):
    made, sent = client()
    made.close()
    with pytest.raises(errors.ChimeraError, match="the client is closed"):
        {"get": lambda: made.get(ID.format(0)), "submit": lambda: made.submit("echo"),
         "events": lambda: next(made.events())}[verb]()  # fmt: skip
    assert not sent


def test_a_list_of_tasks_in_no_state_is_refused_here(client):
    made, sent = client()
    with pytest.raises(errors.InvalidRequest, match="'foo' is no state: one of queued, "):
        list(made.list(state="foo"))
    assert not sent
