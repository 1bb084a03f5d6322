"""The HTTP gateway on a real swarm: what each way in answers, good requests and bad ones."""

from __future__ import annotations

import json
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import pytest

import chimera
from chimera.errors import InvalidPayload
from tests.guarantees.kit import until
from tests.http.kit import (
    DEADLINE_S,
    SWARM,
    bulk,
    events,
    lines,
    problem,
)

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


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


def test_payloads_are_held_to_their_contract_at_every_way_in(api):
    told = problem(api.submit({"item": 1}, type="client.order"), 422, "invalid_payload")
    assert told["errors"][0]["pointer"] == "/payload/item"
    found = api("GET", "/v1/task-types/client.order").json()
    assert found["contract"]["$defs"]["Order"]["required"] == ["item"]
    with chimera.connect(SWARM) as inside, pytest.raises(InvalidPayload, match="/payload/item"):
        inside.submit("client.order", {"item": 1})
    with chimera.connect(SWARM) as inside, pytest.raises(InvalidPayload, match="payload 1: ") as no:
        inside.submit_many("client.order", [{"item": "a"}, {"item": 1}])
    assert no.value.details["errors"][0]["pointer"] == "/payload/item"
    assert no.value.details["accepted"] == 0
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
    rest = api("POST", "/v1/dead-letters/discard", json={"type": "client.fail"})
    assert rest.status_code == 200, "a filter passes over what was given up"
    assert not {ids[1], ids[2]} & set(rest.json()["ids"])
    good = api.submit(1).json()["id"]
    problem(api("GET", f"/v1/dead-letters/{good}"), 404, "not_found")


def test_events_go_on_where_they_were_cut_off(api):
    begun = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(events, api, 2, begun=begun)
        assert begun.wait(DEADLINE_S)
        first = api.submit(1).json()["id"]
        second = api.submit(2, type="client.fail").json()["id"]
        told = reading.result(DEADLINE_S)
    # The two may be of two shards, and between shards there is no order.
    assert {(one["event"], json.loads(one["data"])["id"]) for one in told} == {
        ("task.succeeded", first), ("task.failed", second)
    }  # fmt: skip
    assert events(api, 1, last=told[0]["id"])[0]["data"] == told[1]["data"]
    problem(api("GET", "/v1/events", headers={"Last-Event-ID": "?"}), 400, "invalid_request")
    document = api("GET", "/openapi.json").json()
    stream = document["paths"]["/v1/events"]["get"]["responses"]["200"]["content"]
    item = stream["text/event-stream"]["itemSchema"]
    task = {**item["properties"]["data"]["contentSchema"], "components": document["components"]}
    for one in told:
        jsonschema.validate(one, item, cls=jsonschema.Draft202012Validator)
        jsonschema.validate(json.loads(one["data"]), task, cls=jsonschema.Draft202012Validator)


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
    until(lambda: metric("chimera_slo_current_ratio") > 0)
    assert metric("chimera_slo_objective_ratio") == 0.5
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
    assert [(one["name"], one["objective"]) for one in tree["slos"]] == [("done", 0.5)]
    assert len(api("GET", "/admin/v1/leaders").json()) == 2
    assert [one["shard"] for one in api("GET", "/admin/v1/shards").json()] == [0, 1, 2, 3]
    assert len(api("GET", "/admin/v1/workers").json()) >= 2
    assert api("POST", "/admin/v1/pause", json={"types": ["client.note"]}).status_code == 200
    until(lambda: "client.note" in api("GET", "/admin/v1/policy").text)
    assert api("POST", "/admin/v1/resume", json={"types": ["client.note"]}).status_code == 200
    problem(api("POST", "/admin/v1/resume", json={"types": ["client.note"]}), 404, "not_found")
    problem(api("POST", "/admin/v1/leaders/leader/local/9/drain"), 404, "not_found")
    problem(api("POST", "/admin/v1/pause", json={}), 400, "invalid_request")


def test_an_order_that_came_too_late_is_refused(api):
    order = {"types": ["client.late"]}

    def looked_and_ordered():
        """What was seen may be a moment old: who is too late looks again."""
        seen = api("GET", "/admin/v1/policy").headers["etag"]
        told = api("POST", "/admin/v1/pause", json=order, headers={"If-Match": seen})
        return (seen, told) if told.status_code == 200 else None

    seen, first = until(looked_and_ordered)
    assert first.headers["etag"] == f'"{first.json()["generation"]}"' != seen
    for tag in (seen, "W/" + first.headers["etag"], "nonsense"):
        late = api("POST", "/admin/v1/resume", json=order, headers={"If-Match": tag})
        problem(late, 412, "precondition_failed")
    now = f"{seen}, {first.headers['etag']}"
    last = api("POST", "/admin/v1/resume", json=order, headers={"If-Match": now})
    assert last.status_code == 200
    known = {"If-None-Match": last.headers["etag"]}
    until(lambda: api("GET", "/admin/v1/policy", headers=known).status_code == 304)
