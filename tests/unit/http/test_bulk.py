"""Many tasks over HTTP: what is sent, sent again, and told of each."""

from __future__ import annotations

import itertools
import json

import httpx2
import pytest

from chimera import errors
from tests.unit.http.kit import ID, accept, lines_of, no, problem, told


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


FULL = no(1, "overloaded", 429, retry_after=0.01)
GONE = no(1, "unknown_task_type", 404)
UNKNOWN = no(1, "outcome_unknown", 504)
STARTS = no(1, "not_ready", 503, retry_after=0.01)


@pytest.mark.parametrize(
    ("refusal", "error"), [(FULL, errors.Overloaded), (GONE, errors.UnknownTaskType)]
)
def test_what_was_accepted_beside_a_refused_line_is_told_and_nothing_else(client, refusal, error):
    made, sent = client(told(refusal, {"line": 3, "id": ID.format(2)}, {**refusal, "line": 2}))
    with pytest.raises(error) as caught:
        made.submit_many("echo", range(3), block=False)
    assert caught.value.details["accepted"] == 1
    assert caught.value.details["idempotency_keys"] == {}
    bulk = caught.value.bulk
    assert list(bulk.ids()) == [ID.format(2)]
    assert (len(bulk), bulk.counts().total, bulk.id(2)) == (1, 1, ID.format(2))
    for index in (0, 1, 3):
        with pytest.raises(IndexError):
            bulk.id(index)
    assert len(sent) == 1


@pytest.mark.parametrize(
    "answer",
    [told(STARTS), told(UNKNOWN), told(cut=True), told(), problem(503, "not_ready"),
     problem(504, "outcome_unknown"), httpx2.ReadError("cut"),
     httpx2.Response(200, text='{"done":false,"error":{"status":408,"detail":"too slow"}}')],
)  # fmt: skip
def test_what_may_pass_is_tried_again_whether_or_not_full_queues_are_waited_for(client, answer):
    if isinstance(answer, httpx2.Response):
        code, text = answer.status_code, answer.text
        again = lambda _: httpx2.Response(code, text=text)  # noqa: E731
    else:
        again = answer
    made, sent = client(again, again, accept)
    assert list(made.submit_many("echo", [7], block=False).ids()) == [ID.format(7)]
    assert len({one.content for one in sent}) == 1, "the same line, with the same key"


@pytest.mark.parametrize("block", [True, False])
def test_at_the_deadline_the_keys_are_told_of_lines_that_may_have_been_accepted(client, block):
    made, sent = client(
        *[lambda _: told({"line": 1, "id": ID.format(0)}, {**FULL, "line": 2}, cut=True)],
        *itertools.repeat(lambda _: told({**STARTS, "line": 1}, cut=True), 50),
    )
    with pytest.raises(errors.OutcomeUnknown) as caught:
        made.submit_many("echo", range(4), block=block, timeout_s=0.3)
    first = [one["idempotency_key"] for one in lines_of(sent[0])]
    assert caught.value.details["idempotency_keys"] == {at: first[at] for at in (2, 3)}
    assert caught.value.details["accepted"] == 1
    assert list(caught.value.bulk.ids()) == [ID.format(0)]


def test_of_lines_that_were_refused_for_now_to_the_end_nothing_was_accepted(client):
    made, _ = client(*itertools.repeat(lambda _: told(STARTS), 50))
    with pytest.raises(errors.NotReady) as caught:
        made.submit_many("echo", [1], timeout_s=0.2)
    assert caught.value.details["accepted"] == 0


def test_a_line_that_may_have_been_accepted_is_sent_until_it_is_known_whatever_refuses_others(
    client,
):
    made, sent = client(told(UNKNOWN, {**GONE, "line": 2}), told(FULL), accept)
    with pytest.raises(errors.UnknownTaskType) as caught:
        made.submit_many("echo", range(2), block=False)
    assert [len(lines_of(one)) for one in sent] == [2, 1, 1]
    assert list(caught.value.bulk.ids()) == [ID.format(0)]


def test_a_refusal_does_not_hide_that_a_former_try_may_have_been_accepted(client):
    made, _ = client(httpx2.ReadError("cut"), told(GONE))
    with pytest.raises(errors.OutcomeUnknown, match="1 task") as caught:
        made.submit_many("echo", [1])
    assert list(caught.value.details["idempotency_keys"]) == [0]


def test_full_queues_are_waited_for_as_long_as_they_say_so(client):
    made, sent = client(
        *itertools.repeat(lambda _: told(no(1, "overloaded", 429, retry_after=0.1)), 5), accept
    )
    assert len(made.submit_many("echo", [1], timeout_s=0.3)) == 1
    assert len(sent) == 6


def test_why_the_gateway_read_no_further_is_told(client):
    end = {"done": False, "error": {"code": "payload_too_large", "detail": "a line is over 9"}}
    made, _ = client(lambda _: httpx2.Response(200, text=json.dumps(end)))
    with pytest.raises(errors.PayloadTooLarge, match="a line is over 9"):
        made.submit_many("echo", [1])
