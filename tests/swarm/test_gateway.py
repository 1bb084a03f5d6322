"""The HTTP gateway on a real swarm: what each way in answers, good requests and bad ones."""

from __future__ import annotations

import socket
import uuid

import pytest
import requests

from chimera.actors import boot
from chimera.config import make_spec
from chimera.errors import SpecError
from chimera.serve import deployment
from chimera.swarm.spec import HttpSpec

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

#: the machine that runs this may be busy
DEADLINE_S = 120.0
SWARM = "gateway-tests"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def url(ray_cluster, tmp_path_factory):
    port = free_port()
    spec = make_spec(
        {
            "name": SWARM,
            "handlers": ["tests.swarm.client_handlers"],
            "data_dir": str(tmp_path_factory.mktemp("gateway")),
            "shards": 4,
            "http": {"port": port},
        }
    )
    boot.up(spec, timeout_s=DEADLINE_S)
    assert spec.http is not None
    try:
        yield deployment.up(SWARM, spec.http)
    finally:
        deployment.down(SWARM)
        boot.down(SWARM)


class Api:
    """Requests of one tenant."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.headers["Chimera-Tenant"] = f"t-{uuid.uuid4().hex[:8]}"

    def __call__(self, method: str, path: str, **more) -> requests.Response:
        return self.session.request(method, self.url + path, timeout=DEADLINE_S, **more)

    def submit(self, payload, type="client.echo", wait=60, headers=None, **options):
        body = {"type": type, "payload": payload, **options}
        return self("POST", f"/v1/tasks?wait={wait}", json=body, headers=headers)


@pytest.fixture
def api(url):
    return Api(url)


def problem(answer: requests.Response, status: int, code: str) -> dict:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["code"]) == (status, code)
    assert all((body["type"], body["title"], body["detail"], len(body["trace_id"]) == 32))
    return body


def test_a_task_is_submitted_waited_for_and_found_again(api):
    done = api.submit({"a": [1, None]})
    assert done.status_code == 200
    assert done.json()["result"] == {"a": [1, None]}
    assert done.json()["state"] == "succeeded"
    where = done.headers["location"]
    again = api("GET", where)
    assert (again.status_code, again.json()) == (200, done.json())
    assert api("GET", where, headers={"If-None-Match": again.headers["etag"]}).status_code == 304
    failed = api.submit(7, type="client.fail").json()
    assert failed["state"] == "failed"
    assert failed["failure"]["message"] == "7 is bad"
    listed = api("GET", "/v1/tasks").json()
    assert {one["id"] for one in listed["tasks"]} == {done.json()["id"], failed["id"]}
    only = api("GET", "/v1/tasks?state=failed").json()
    assert [one["id"] for one in only["tasks"]] == [failed["id"]]


def test_a_preference_to_wait_is_followed_and_one_that_is_over_says_202(api, tmp_path):
    body = {"type": "client.await_file", "payload": str(tmp_path / "gate")}
    given = api("POST", "/v1/tasks", json=body, headers={"Prefer": "wait=1"})
    assert given.status_code == 202
    assert given.headers["preference-applied"] == "wait=1"
    (tmp_path / "gate").touch()
    assert api("GET", given.headers["location"] + "?wait=60").json()["state"] == "succeeded"


def test_a_repeated_key_is_the_same_task_and_other_content_is_refused(api):
    first = api.submit(1, headers={"Idempotency-Key": '"one"'})
    second = api.submit(1, wait=0, headers={"Idempotency-Key": "one"})
    assert second.status_code == 200
    assert second.json()["id"] == first.json()["id"]
    assert second.json()["duplicate"]
    other = api.submit(2, headers={"Idempotency-Key": "one"})
    problem(other, 422, "idempotency_conflict")


def test_a_waiting_task_is_cancelled(api):
    waiting = api.submit(1, wait=0, delay_s=3600)
    assert (waiting.status_code, waiting.json()["state"]) == (202, "scheduled")
    gone = api("DELETE", waiting.headers["location"])
    assert (gone.status_code, gone.json()["state"]) == (200, "cancelled")


def test_bad_requests_get_specific_answers(api):
    json = {"content-type": "application/json"}
    told = problem(api.submit(1, type="client.nope"), 404, "unknown_task_type")
    assert "known types: client.await_file" in told["detail"]
    broken = api("POST", "/v1/tasks", data=b'{"type": "x"', headers=json)
    problem(broken, 400, "malformed_json")
    problem(api("POST", "/v1/tasks", data=b"\xff\xfe", headers=json), 400, "malformed_json")
    wrong = problem(api.submit(1, foo=1), 422, "invalid_request")
    assert wrong["errors"] == [
        {"in": "body", "pointer": "/foo", "detail": "Extra inputs are not permitted"}
    ]
    problem(api("POST", "/v1/tasks", data=b"x=1"), 415, "unsupported_media_type")
    problem(api("GET", "/v1/tasks/nonsense"), 400, "invalid_request")
    unknown = "4a57e9c5-2fe0-8fd5-b400-800000000000"
    problem(api("GET", f"/v1/tasks/{unknown}"), 404, "not_found")
    put = api("PUT", "/v1/tasks")
    problem(put, 405, "method_not_allowed")
    assert put.headers["allow"] == "GET, POST"
    problem(api("GET", "/nowhere"), 404, "not_found")
    problem(api.submit(1, deadline="2001-01-01T00:00:00Z"), 422, "deadline_passed")
    other = api("GET", "/v1/tasks", headers={"Chimera-Tenant": "No Name"})
    assert problem(other, 422, "invalid_request")["errors"][0]["in"] == "header"


def test_a_task_of_another_tenant_is_not_found(api, url):
    where = api.submit(1).headers["location"]
    problem(Api(url)("GET", where), 404, "not_found")


def test_a_body_over_the_limit_is_refused_at_once(api):
    headers = {"content-type": "application/json", "content-length": str(1 << 30)}
    with socket.create_connection(api.url.removeprefix("http://").split(":")) as line:
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        line.sendall(f"POST /v1/tasks HTTP/1.1\r\nhost: x\r\n{head}\r\n".encode())
        line.settimeout(DEADLINE_S)
        assert line.recv(100).startswith(b"HTTP/1.1 413 ")


def test_it_listens_on_loopback_only_and_says_when_a_port_is_taken(url):
    with pytest.raises(SpecError, match="not on loopback"):
        deployment.up(SWARM, HttpSpec(host="0.0.0.0"))
    with pytest.raises(SpecError, match="already listens on"):
        deployment.up(SWARM, HttpSpec(port=free_port()))
