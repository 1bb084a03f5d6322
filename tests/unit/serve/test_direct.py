"""The plain submit's own way: it is taken by what is plain, and answers as the long way does."""

from __future__ import annotations

import json

import pytest

from chimera.serve import direct

#: not in the form that the direct layer knows, and of no effect
LONG_WAY = "?wait=0.0000"
NAMES = ("id", "url", "trace_id")
PLAIN = {"type": "echo", "payload": {"n": [1, "ü", None]}}


@pytest.fixture
def taken(monkeypatch):
    """What was answered without the framework."""
    found = []
    plain = direct._task

    def noted(body):
        task = plain(body)
        found.append(task)
        return task

    monkeypatch.setattr(direct, "_task", noted)
    return found


def told(answer):
    """All of an answer that two alike requests have in common."""
    body = {name: value for name, value in answer.json().items() if name not in NAMES}
    headers = {name for name in answer.headers if name not in ("location", "content-length")}
    return answer.status_code, body, headers


BODIES = {
    "plain": PLAIN,
    "no payload": {"type": "echo"},
    "all options": {
        **PLAIN, "key": "k", "tags": ["a", "b"], "priority": "batch", "max_attempts": 3,
        "attempt_timeout_s": 1.5, "delay_s": 60, "deadline": "2099-01-01T00:00:00Z",
    },
    "later": {**PLAIN, "not_before": "2099-01-01T00:00:00+02:00"},
    "delayed twice": {**PLAIN, "delay_s": 0, "not_before": "2099-01-01T00:00:00"},
    "unknown type": {"type": "nope"},
    "deadline passed": {**PLAIN, "deadline": "2001-01-01T00:00:00Z"},
    "wrong option": {**PLAIN, "max_attempts": "3"},
    "further member": {**PLAIN, "colour": "red"},
    "no type": {"payload": 1},
    "no object": [PLAIN],
    "no JSON": b'{"type": "echo"',
    "no number": b'{"type": "echo", "payload": [NaN]}',
    "too large a number": b'{"type": "echo", "payload": [1e999]}',
    "a large number in the long way": b'{"type": "echo", "payload": 1' + b"0" * 400 + b".0}",
    "a large integer": b'{"type": "echo", "payload": 1' + b"0" * 400 + b"}",
    "large numbers": {"type": "echo", "payload": [1.5e300, -1e-300, "1e999"]},
    "deep": b'{"type": "echo", "payload": [1e5, ' + b"[" * 5000 + b"]" * 5000 + b"]}",
    "a word": {"type": "echo", "payload": "NaN and Infinity"},
    "half a character": b'{"type": "echo", "payload": "\\ud800"}',
    "other encoding": json.dumps(PLAIN).encode("utf-16"),
    "marked as UTF-8": b"\xef\xbb\xbf" + json.dumps(PLAIN).encode(),
    "empty": b"",
}  # fmt: skip
HEADERS = {
    "key": {"Idempotency-Key": '"a \\" b"'},
    "bare key": {"Idempotency-Key": "k-1"},
    "empty key": {"Idempotency-Key": ""},
    "long key": {"Idempotency-Key": "k" * 1025},
    "tenant": {"Chimera-Tenant": "other"},
    "wrong tenant": {"Chimera-Tenant": "-"},
    "preference": {"Prefer": "respond-async, wait=0"},
    "trace": {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"},
    "charset": {"Content-Type": "application/json; charset=utf-8"},
    "other JSON": {"Content-Type": "application/vnd.x+json"},
    "no JSON": {"Content-Type": "text/plain"},
    "two keys": [("Idempotency-Key", "a"), ("Idempotency-Key", "b")],
}


def post(http, body, headers=(), query=""):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = [("Content-Type", "application/json")]
    more = list(headers.items() if isinstance(headers, dict) else headers)
    if any(name == "Content-Type" for name, _ in more):
        given = []
    return http.post("/v1/tasks" + query, content=data, headers=given + more)


ACCEPTED = {
    "plain",
    "a word",
    "large numbers",
    "a large integer",
    "no payload",
    "all options",
    "later",
    "marked as UTF-8",
}


@pytest.mark.parametrize("name", BODIES)
def test_any_body_is_answered_alike_on_both_ways(http, name):
    first = told(post(http, BODIES[name]))
    assert first == told(post(http, BODIES[name], query=LONG_WAY))
    assert (first[0] == 202) == (name in ACCEPTED), first


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS.keys())
def test_any_header_is_answered_alike_on_both_ways(http, headers):
    first = post(http, PLAIN, headers)
    again = post(http, PLAIN, headers, LONG_WAY)
    if first.status_code == 202 and "Idempotency-Key" in dict(headers):
        assert again.json()["id"] == first.json()["id"]
        assert again.json()["duplicate"]
    else:
        assert told(first) == told(again)


def test_what_is_plain_is_spared_the_framework(http, taken):
    post(http, PLAIN)
    post(http, PLAIN, {"Idempotency-Key": "one", "Chimera-Tenant": "t"})
    post(http, {"type": "nope"}, query="?wait=5")
    assert [one.type for one in taken] == ["echo", "echo", "nope"]
    post(http, PLAIN, query=LONG_WAY)
    post(http, PLAIN, {"Idempotency-Key": ""})
    http.get("/v1/tasks")
    assert len(taken) == 3


def test_a_body_that_was_read_in_vain_is_there_for_the_framework(http, taken):
    answer = post(http, {**PLAIN, "max_attempts": "3", "payload": "x" * 300_000})
    assert taken == [None]
    assert answer.json()["errors"][0]["pointer"] == "/max_attempts"


def test_a_body_that_does_not_come_is_told_as_ever(gateway):
    async def too_late():
        raise direct.HTTPException(408, "too slow")

    reader = direct._Reader(too_late)
    with pytest.raises(StopIteration) as read:
        reader.body().send(None)
    assert read.value.value is None
    with pytest.raises(direct.HTTPException):
        reader.again().send(None)


def test_a_leader_that_is_full_is_told_with_when_to_come_again(http, gateway):
    assert post(http, PLAIN).status_code == 202
    gateway.leaders.queue_bound = 1
    full = post(http, PLAIN)
    assert full.status_code == 429
    wait_s = int(full.headers["retry-after"])
    assert wait_s >= 1
    assert full.headers["ratelimit"] == f'"queue";r=0;t={wait_s}'
    assert full.headers["ratelimit-policy"].startswith('"queue";q=1;')
    assert full.headers["content-type"] == "application/problem+json"


def test_a_problem_names_the_trace_of_its_request(http):
    given = post(http, {"type": "nope"}, {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})
    assert given.json()["trace_id"] == "a" * 32
    assert len(post(http, {"type": "nope"}).json()["trace_id"]) == 32


def test_a_bug_is_a_problem_document_too(http, monkeypatch):
    async def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(direct.tasks, "submit", broken)
    answer = post(http, PLAIN)
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal"
