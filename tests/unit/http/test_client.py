"""The client over HTTP: what it sends, sends again, and makes of the answers."""

from __future__ import annotations

import asyncio
import itertools
import json
import uuid
from datetime import datetime, timezone

import httpx2
import pytest

import chimera
from chimera import errors
from tests.unit.http.blocking import Blocking

ID = "4a57e9c5-2fe0-8fd5-b400-{:012x}"
URL = "http://gateway"


def view(number: int = 0, **members) -> dict:
    return {"id": ID.format(number), "type": "echo", "tenant": "default", "state": "queued",
            "url": "", **members}  # fmt: skip


def problem(status: int, code: str, **members) -> httpx2.Response:
    headers = {"Retry-After": str(members.pop("after", 0))}
    body = {"code": code, "detail": f"it is {code}", "status": status, **members}
    return httpx2.Response(status, json=body, headers=headers)


@pytest.fixture(params=["blocks", "is asynchronous"])
def client(request):
    """Makes a client whose gateway gives these answers in turn; and what was sent to it."""
    loop = asyncio.new_event_loop()

    def make(*answers, tenant: str = "default"):
        sent: list[httpx2.Request] = []
        left = iter(answers)

        def answer(request: httpx2.Request) -> httpx2.Response:
            request.read()
            sent.append(request)
            one = next(left)
            if isinstance(one, Exception):
                raise one
            return one(request) if callable(one) else one

        transport = httpx2.MockTransport(answer)
        if request.param == "blocks":
            return chimera.Client(URL, tenant=tenant, transport=transport), sent
        made = chimera.AsyncClient(URL, tenant=tenant, transport=transport)
        return Blocking(made, loop), sent

    yield make
    loop.close()


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


def test_at_the_deadline_a_submit_that_may_have_arrived_is_of_unknown_outcome(client):
    made, _ = client(*itertools.repeat(httpx2.ReadError("cut"), 50))
    with pytest.raises(errors.OutcomeUnknown):
        made.submit("echo", timeout_s=0.2)


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
    assert handle.result() == [1]


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


def lines_of(request: httpx2.Request) -> list[dict]:
    return [json.loads(one) for one in request.content.splitlines()]


def accept(request: httpx2.Request) -> httpx2.Response:
    """Accept each line, out of order; ids tell the payloads."""
    told = [{"line": at, "id": ID.format(one["payload"])}
            for at, one in enumerate(lines_of(request), 1)]  # fmt: skip
    text = "".join(json.dumps(one) + "\n" for one in [*reversed(told), {"done": True}])
    return httpx2.Response(200, text=text)


def test_a_bulk_goes_in_bounded_requests_and_keeps_its_order(client):
    made, sent = client(accept, accept, accept)
    bulk = made.submit_many("echo", iter(range(4500)), key=lambda n: f"k{n % 3}")
    assert [len(lines_of(one)) for one in sent] == [2000, 2000, 500]
    assert list(bulk.ids()) == [ID.format(n) for n in range(4500)]
    assert len({one["idempotency_key"] for request in sent for one in lines_of(request)}) == 4500
    assert bulk[4499].id == ID.format(4499)
    with pytest.raises(IndexError):
        bulk[4500]


def test_lines_without_an_answer_and_those_refused_for_now_are_sent_again(client):
    def first(request):
        full = {"line": 2, "error": {"code": "overloaded", "status": 429, "retry_after": 0}}
        wrong = {"line": 3, "error": {"code": "invalid_payload", "detail": "no", "status": 422}}
        told = [{"line": 1, "id": ID.format(0)}, full, wrong]
        return httpx2.Response(200, text="\n".join(map(json.dumps, told)) + '\n{"line": 4, "i')

    made, sent = client(first, httpx2.ReadError("cut"), accept)
    bulk = made.submit_many("echo", range(4))
    assert [one["payload"] for one in lines_of(sent[-1])] == [1, 3]
    assert [one["idempotency_key"] for one in lines_of(sent[-1])] == [
        lines_of(sent[0])[at]["idempotency_key"] for at in (1, 3)
    ]
    assert bulk.counts().refused == 1
    assert [bulk[at].id for at in (0, 1, 3)] == [ID.format(at) for at in (0, 1, 3)]
    with pytest.raises(errors.InvalidPayload):
        bulk[2]


def test_an_error_of_a_bulk_says_what_was_accepted(client):
    def refused(request):
        text = json.dumps({"line": 1, "error": {"code": "unknown_task_type", "status": 404}})
        return httpx2.Response(200, text=text)

    made, _ = client(accept, refused)
    with pytest.raises(errors.UnknownTaskType) as caught:
        made.submit_many("echo", range(2001))
    assert caught.value.details["accepted"] == 2000
    assert len(list(caught.value.bulk.ids())) == 2000


def test_events_go_on_where_they_were_cut_off(client):
    def events(number):
        data = json.dumps(view(number, state="succeeded"))
        return f"retry: 1\n\nid: m{number}\nevent: task.succeeded\ndata: {data}\n\n"

    made, sent = client(
        httpx2.Response(200, text=events(1)), httpx2.ReadError("cut"),
        httpx2.Response(200, text=events(2)),
    )  # fmt: skip
    found = list(itertools.islice(made.events(type="echo"), 2))
    assert [one.task_id for one in found] == [ID.format(1), ID.format(2)]
    assert sent[2].headers["last-event-id"] == "m1"
    assert uuid.UUID(found[0].task_id)
