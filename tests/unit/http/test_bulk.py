"""Many tasks over HTTP: what is sent, sent again, and told of each."""

from __future__ import annotations

import json

import httpx2
import pytest

from chimera import errors
from tests.unit.http.kit import ID, accept, lines_of


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
