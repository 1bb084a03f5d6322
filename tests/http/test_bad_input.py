"""Bad input at each way in: a clear, specific answer, and nothing accepted."""

from __future__ import annotations

import json
import socket
from typing import Any, NamedTuple

import pytest

from chimera.errors import SpecError
from chimera.serve import deployment
from chimera.swarm.spec import HttpSpec
from tests.http.kit import NDJSON, SWARM, Api, bulk, lines, problem
from tests.servers.processes import free_ports

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

UNKNOWN = "4a57e9c5-2fe0-8fd5-b400-800000000000"
JSON = "application/json"


class Case(NamedTuple):
    """A request, and the answer that it deserves."""

    method: str
    path: str
    status: int
    code: str
    told: str  #: is part of the detail
    body: Any = None  #: bytes as they are, else as JSON
    headers: tuple[tuple[str, str], ...] = ()


def task(**more: Any) -> dict[str, Any]:
    return {"type": "client.echo", **more}


CASES = {
    "unknown type": Case("POST", "/v1/tasks", 404, "unknown_task_type", "known types: client.",
                         task(type="client.nope")),
    "against its contract": Case("POST", "/v1/tasks", 422, "invalid_payload", "/payload/item",
                                 task(type="client.order", payload={"item": 1})),
    "unknown option": Case("POST", "/v1/tasks", 422, "invalid_request", "/foo", task(foo=1)),
    "no JSON": Case("POST", "/v1/tasks", 400, "malformed_json", "no JSON", b'{"type": "x"'),
    "no UTF-8": Case("POST", "/v1/tasks", 400, "malformed_json", "", b"\xff\xfe"),
    "UTF-16": Case("POST", "/v1/tasks", 400, "malformed_json", "", '"x"'.encode("utf-16")),
    "deadline in the past": Case("POST", "/v1/tasks", 422, "deadline_passed", "has passed",
                                 task(deadline="2001-01-01T00:00:00Z")),
    "payload over the limit": Case("POST", "/v1/tasks", 413, "payload_too_large", "are allowed",
                                   task(payload="x" * (16 * 1024 * 1024 + 1))),
    "form instead of JSON": Case("POST", "/v1/tasks", 415, "unsupported_media_type", "send applic",
                                 b"x=1", (("content-type", "application/x-www-form-urlencoded"),)),
    "compressed": Case("POST", "/v1/tasks", 415, "unsupported_media_type", "compressed",
                       b"\x1f\x8b", (("content-encoding", "gzip"),)),
    "JSON instead of lines": Case("POST", "/v1/tasks:batch", 415, "unsupported_media_type",
                                  "ndjson", task()),
    "a bulk of nothing": Case("POST", "/v1/tasks:batch", 400, "invalid_request", "no body"),
    "keys that differ": Case("POST", "/v1/tasks", 400, "invalid_request", "differ",
                             task(idempotency_key="a"), (("Idempotency-Key", '"b"'),)),
    "half a quoted key": Case("POST", "/v1/tasks", 422, "invalid_request", "idempotency-key",
                              task(), (("Idempotency-Key", '"b'),)),
    "tenant": Case("GET", "/v1/tasks", 422, "invalid_request", "header", None,
                   (("Chimera-Tenant", "No Name"),)),
    "unknown id": Case("GET", f"/v1/tasks/{UNKNOWN}", 404, "not_found", UNKNOWN),
    "unknown id to cancel": Case("DELETE", f"/v1/tasks/{UNKNOWN}", 404, "not_found", UNKNOWN),
    "unknown dead letter": Case("POST", f"/v1/dead-letters/{UNKNOWN}/replay", 404, "not_found",
                                UNKNOWN),
    "no id": Case("GET", "/v1/tasks/nonsense", 422, "invalid_request", "path"),
    "forged cursor": Case("GET", "/v1/tasks?cursor=gQDPgAAAAAAAAAA", 400, "invalid_request",
                          "cursor"),
    "no cursor": Case("GET", "/v1/tasks?cursor=x", 400, "invalid_request", "cursor"),
    "no state": Case("GET", "/v1/tasks?state=odd", 422, "invalid_request", "query"),
    "unknown type to look at": Case("GET", "/v1/task-types/none", 404, "unknown_task_type", "none"),
    "wrong method": Case("PUT", "/v1/tasks", 405, "method_not_allowed", ""),
    "nowhere": Case("GET", "/nowhere", 404, "not_found", ""),
    "nothing to pause": Case("POST", "/admin/v1/pause", 400, "invalid_request", "", {}),
    "no leader": Case("POST", "/admin/v1/leaders/leader/local/9/drain", 404, "not_found", "9"),
    "no event": Case("GET", "/v1/events", 400, "invalid_request", "Last-Event-ID", None,
                     (("Last-Event-ID", "?"),)),
    "headers": Case("GET", "/v1/tasks", 431, "header_too_large", "at most", None,
                    (("x-flood", "x" * 40_000),)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_bad_input_gets_a_specific_answer(api, name):
    case = CASES[name]
    data = case.body if isinstance(case.body, (bytes, type(None))) else json.dumps(case.body)
    headers = {"content-type": JSON, **dict(case.headers)} if data else dict(case.headers)
    answer = api(case.method, case.path, data=data, headers=headers)
    told = problem(answer, case.status, case.code)
    assert case.told in told["detail"]
    assert told["instance"] == case.path.partition("?")[0]
    if case.status == 405:
        assert answer.headers["allow"] == "GET, POST"
    assert api("GET", "/v1/tasks").json()["tasks"] == []


def test_a_bad_line_of_a_bulk_is_told_as_a_request_is(api):
    posts = {name: case for name, case in CASES.items() if case[:2] == ("POST", "/v1/tasks")}
    bad = {
        name: case for name, case in posts.items()
        if isinstance(case.body, dict) and not case.headers
    }  # fmt: skip
    told, last = bulk(api, lines(*(case.body for case in bad.values())))
    assert (last["accepted"], last["refused"]) == (0, len(bad))
    for number, (name, case) in enumerate(bad.items(), 1):
        error = told[number]["error"]
        if name == "unknown option":
            assert error["code"] == "invalid_request"
        else:
            assert (error["status"], error["code"]) == (case.status, case.code), name


def test_the_trace_and_the_name_of_a_request_come_back(api):
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01", "X-Request-Id": "one"}
    answer = api("GET", f"/v1/tasks/{UNKNOWN}", headers=headers)
    assert answer.json()["trace_id"] == trace
    assert answer.headers["x-request-id"] == "one"


def test_a_task_of_another_tenant_is_not_found(api, url):
    where = api.submit(1).headers["location"]
    other = Api(url)
    for method, path in (("GET", where), ("DELETE", where), ("GET", where + "/result")):
        problem(other(method, path), 404, "not_found")
    assert other("GET", "/v1/tasks").json()["tasks"] == []


def test_a_body_over_the_limit_is_refused_at_its_first_line(api):
    for path, media in (("/v1/tasks", JSON), ("/v1/tasks:batch", NDJSON)):
        head = f"host: x\r\ncontent-type: {media}\r\ncontent-length: {1 << 30}\r\n\r\n"
        with api.connect() as line:
            line.sendall(f"POST {path} HTTP/1.1\r\n{head}".encode())
            assert line.recv(100).startswith(b"HTTP/1.1 413 ")


def test_it_listens_on_loopback_only_and_says_when_a_port_is_taken(url, monkeypatch):
    with pytest.raises(SpecError, match="not on loopback"):
        deployment.up(SWARM, HttpSpec(host="0.0.0.0"))
    with pytest.raises(SpecError, match="already listens on"):
        deployment.up(SWARM, HttpSpec(port=free_ports(1)[0]))
    # a first gateway in its cluster, with the port in use by another program
    monkeypatch.setattr(deployment, "_runs", lambda: False)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(SpecError, match="cannot be listened on: Address already in use"):
            deployment.up(SWARM, HttpSpec(port=other.getsockname()[1]))
