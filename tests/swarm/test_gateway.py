"""The HTTP gateway on a real swarm: what each way in answers, good requests and bad ones."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import requests
from confluent_kafka.schema_registry import (
    Schema,
    SchemaRegistryClient,
    SchemaRegistryError,
)

import chimera
from chimera.actors import boot
from chimera.actors.schemas import known_to
from chimera.config import make_spec
from chimera.errors import InvalidPayload, SpecError, UnknownSchema
from chimera.serve import deployment
from chimera.swarm.spec import HttpSpec
from tests.guarantees.kit import until

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

#: the machine that runs this may be busy
DEADLINE_S = 120.0
SWARM = "gateway-tests"
NDJSON = "application/x-ndjson"


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
    media = {"content-type": "application/json"}
    told = problem(api.submit(1, type="client.nope"), 404, "unknown_task_type")
    assert "known types: client.await_file" in told["detail"]
    broken = api("POST", "/v1/tasks", data=b'{"type": "x"', headers=media)
    problem(broken, 400, "malformed_json")
    problem(api("POST", "/v1/tasks", data=b"\xff\xfe", headers=media), 400, "malformed_json")
    wrong = problem(api.submit(1, foo=1), 422, "invalid_request")
    assert wrong["errors"] == [
        {"in": "body", "pointer": "/foo", "detail": "Extra inputs are not permitted"}
    ]
    problem(api("POST", "/v1/tasks", data=b"x=1"), 415, "unsupported_media_type")
    problem(api("GET", "/v1/tasks/nonsense"), 422, "invalid_request")
    unknown = "4a57e9c5-2fe0-8fd5-b400-800000000000"
    problem(api("GET", f"/v1/tasks/{unknown}"), 404, "not_found")
    put = api("PUT", "/v1/tasks")
    problem(put, 405, "method_not_allowed")
    assert put.headers["allow"] == "GET, POST"
    problem(api("GET", "/nowhere"), 404, "not_found")
    problem(api("POST", "/v1/tasks:batch"), 400, "invalid_request")
    assert api("PUT", "/v1/dead-letters/replay").headers["allow"] == "POST"
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


def lines(*tasks) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in tasks)


def bulk(api: Api, body) -> tuple[dict[int, dict], dict]:
    """Answers by line, and the last one."""
    answer = api("POST", "/v1/tasks:batch", data=body, headers={"content-type": NDJSON})
    assert answer.status_code == 200, answer.text
    found = [json.loads(line) for line in answer.text.splitlines()]
    return {one["line"]: one for one in found[:-1]}, found[-1]


def test_a_bulk_takes_the_good_lines_and_tells_the_bad_ones(api):
    body = lines(
        {"type": "client.echo", "payload": 1},
        {"type": "client.nope"},
        {"type": "client.order", "payload": {"item": "a", "count": "x"}},
        {"type": "client.order", "payload": {"item": "a", "count": 3}, "key": "k"},
    )
    told, last = bulk(api, body + b"nonsense\n" + lines({"type": "client.echo", "payload": 2}))
    assert last == {
        "done": True, "lines": 6, "accepted": 3, "duplicates": 0, "refused": 3, "error": None,
    }  # fmt: skip
    assert told[2]["error"]["code"] == "unknown_task_type"
    assert told[3]["error"]["errors"][0]["pointer"] == "/payload/count"
    assert told[5]["error"]["code"] == "invalid_request"
    results = [api("GET", f"/v1/tasks/{told[n]['id']}?wait=60").json()["result"] for n in (1, 4, 6)]
    assert results == [1, 3, 2]


def test_ten_thousand_lines_are_all_accepted_once(api):
    body = lines(*({"type": "client.echo", "payload": n, "idempotency_key": f"i{n}"}
                   for n in range(10_000)))  # fmt: skip
    told, last = bulk(api, body)
    assert (last["accepted"], last["refused"]) == (10_000, 0)
    again, last = bulk(api, body)
    assert last["duplicates"] == 10_000
    assert {n: one["id"] for n, one in again.items()} == {n: one["id"] for n, one in told.items()}


def test_a_hundred_megabytes_pass_in_bounded_memory(api, url):
    before = replica_memory()
    line = lines({"type": "client.echo", "payload": "x" * 10_000, "delay_s": 3600})
    told, last = bulk(api, (line for _ in range(10_000)))
    assert (last["accepted"], len(told)) == (10_000, 10_000)
    assert replica_memory() - before < 300 * 1024 * 1024


def replica_memory() -> int:
    """Resident bytes of the gateway's replicas and proxy."""
    found = 0
    for process in psutil.process_iter(["name", "memory_info"]):
        if "ServeReplica" in process.info["name"] or "ProxyActor" in process.info["name"]:
            found += process.info["memory_info"].rss
    assert found
    return found


def test_payloads_are_held_to_their_contract_at_every_way_in(api):
    told = problem(api.submit({"item": 1}, type="client.order"), 422, "invalid_payload")
    assert told["errors"][0]["pointer"] == "/payload/item"
    found = api("GET", "/v1/task-types/client.order").json()
    assert found["contract"]["$defs"]["Order"]["required"] == ["item"]
    with chimera.connect(SWARM) as inside, pytest.raises(InvalidPayload, match="/payload/item"):
        inside.submit("client.order", {"item": 1})
    problem(api("GET", "/v1/task-types/none"), 404, "unknown_task_type")


def test_dead_letters_are_listed_replayed_and_given_up(api):
    ids = [api.submit(n, type="client.fail").json()["id"] for n in range(3)]
    listed = api("GET", "/v1/dead-letters").json()["tasks"]
    assert {one["id"] for one in listed} == set(ids)
    dry = api("POST", "/v1/dead-letters/replay", json={"type": "client.fail", "dry_run": True})
    assert set(dry.json()["ids"]) == set(ids)
    assert dry.json()["new_ids"] == []
    again = api("POST", f"/v1/dead-letters/{ids[0]}/replay")
    assert again.status_code == 202
    assert again.json()["replay_of"] == ids[0]
    assert api("DELETE", f"/v1/dead-letters/{ids[1]}").status_code == 204
    problem(api("POST", f"/v1/dead-letters/{ids[1]}/replay"), 404, "not_found")
    gone = api("POST", "/v1/dead-letters/discard", json={"ids": [ids[2]]})
    assert gone.json()["ids"] == [ids[2]]
    good = api.submit(1).json()["id"]
    problem(api("GET", f"/v1/dead-letters/{good}"), 404, "not_found")


def test_events_go_on_where_they_were_cut_off(api):
    def read(last: str | None, count: int) -> list[tuple[str, str, str]]:
        found: list[tuple[str, str, str]] = []
        headers = {} if last is None else {"Last-Event-ID": last}
        with api("GET", "/v1/events?for_s=60", headers=headers, stream=True) as answer:
            assert answer.status_code == 200
            event = {}
            for line in answer.iter_lines(decode_unicode=True):
                if line.startswith("retry"):
                    ready.set()
                name, _, value = line.partition(": ")
                event[name] = value
                if not line and "data" in event:
                    found.append((event["id"], event["event"], json.loads(event["data"])["id"]))
                    event = {}
                if len(found) == count:
                    break
        return found

    ready = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read, None, 2)
        assert ready.wait(DEADLINE_S)
        first = api.submit(1).json()["id"]
        second = api.submit(2, type="client.fail").json()["id"]
        told = reading.result(DEADLINE_S)
    # The two may be of two shards, and between shards there is no order.
    assert {one[1:] for one in told} == {("task.succeeded", first), ("task.failed", second)}
    assert [one[1:] for one in read(told[0][0], 1)] == [told[1][1:]]
    problem(api("GET", "/v1/events", headers={"Last-Event-ID": "?"}), 400, "invalid_request")


def test_health_names_what_it_looked_at(api):
    for path in ("/livez", "/readyz", "/healthz", "/health", "/ready"):
        assert api("GET", path).json()["ok"], path
    checks = {one["name"]: one for one in api("GET", "/readyz?verbose=1").json()["checks"]}
    assert {"gateway", "orchestrator", "coordinator/local", "shard/0"} <= checks.keys()
    assert "store/leader/local/0" in checks
    assert all(one["saw"] and one["since"] for one in checks.values())
    tier = api("GET", "/health/leader").json()
    assert {one["tier"] for one in tier["checks"]} == {"leader"}


def test_metrics_are_what_promtool_and_counters_say(api):
    api.submit(1)

    def metric(name: str) -> float:
        text = api("GET", "/metrics").text
        rows = [row for row in text.splitlines() if row.startswith(name)]
        return sum(float(row.rsplit(" ", 1)[1]) for row in rows)

    until(lambda: metric("chimera_tasks_succeeded_total") >= 1)
    until(lambda: metric("chimera_task_total_seconds_count") >= 1)
    until(lambda: metric("chimera_queue_to_start_seconds_count") >= 1)
    assert metric("chimera_leader_up") == 2
    text = api("GET", "/metrics").content
    run = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    assert api("GET", "/metrics", headers=accept).text.endswith("# EOF\n")


def test_operators_see_the_tree_and_pause_and_drain(api):
    tree = api("GET", "/admin/v1/swarm").json()
    assert [one["name"] for one in tree["regions"]] == ["local"]
    assert len(api("GET", "/admin/v1/leaders").json()) == 2
    assert [one["shard"] for one in api("GET", "/admin/v1/shards").json()] == [0, 1, 2, 3]
    assert len(api("GET", "/admin/v1/workers").json()) >= 2
    assert api("POST", "/admin/v1/pause", json={"types": ["client.note"]}).status_code == 200
    until(lambda: "client.note" in api("GET", "/admin/v1/policy").text)
    assert api("POST", "/admin/v1/resume", json={"types": ["client.note"]}).status_code == 200
    problem(api("POST", "/admin/v1/resume", json={"types": ["client.note"]}), 404, "not_found")
    problem(api("POST", "/admin/v1/leaders/leader/local/9/drain"), 404, "not_found")
    problem(api("POST", "/admin/v1/pause", json={}), 400, "invalid_request")


def test_the_docs_load_nothing_from_elsewhere(api):
    page = api("GET", "/docs").text
    assert "openapi.json" in page
    assert "//" not in page.replace("/openapi.json", "").split("<script>")[0]


def test_the_schema_registry_is_below_registry_for_confluents_client(url):
    with SchemaRegistryClient({"url": f"{url}/registry"}) as client:
        schema = Schema('{"type": "record", "name": "O", "fields": []}')
        id = client.register_schema("orders/value", schema)
        assert id >= 1000
        assert client.get_latest_version("orders/value").schema_id == id
        assert "io.chimera.task.Command" in client.get_subjects()
        assert client.get_compatibility("io.chimera.task.Command") == "FULL_TRANSITIVE"
        with pytest.raises(SchemaRegistryError) as told:
            client.register_schema("orders/value", Schema('"int"'))
        assert (told.value.http_status_code, told.value.error_code) == (409, 409)
        assert known_to(SWARM, "").schema(id) == client.get_schema(id).schema_str
    with pytest.raises(UnknownSchema):
        known_to(SWARM, "").schema(99_999)
