"""Health of a gateway without a swarm: what it says of itself, and what is left out."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from chimera.errors import NotReady
from chimera.serve.app import build
from chimera.serve.gateway import Gateway
from tests.unit.serve.test_checks import FULL, STATUS, with_leader


@pytest.fixture
def gateway(monkeypatch):
    found = Gateway("healthy", drains=lambda: found.is_draining)
    found.is_draining = False

    async def nothing():
        pass

    async def status(timeout_s):
        if isinstance(found.status_is, Exception):
            raise found.status_is
        return found.status_is

    monkeypatch.setattr(found, "open", nothing)
    monkeypatch.setattr(found, "close", nothing)
    monkeypatch.setattr(found, "status", status)
    monkeypatch.setattr(Gateway, "is_open", property(lambda _: True))
    found.status_is = STATUS
    return found


@pytest.fixture
def http(gateway):
    with TestClient(build(gateway)) as client:
        yield client


def failing(answer):
    return [check["name"] for check in answer.json()["checks"] if not check["ok"]]


def test_a_parameter_that_is_there_twice_is_refused_unless_it_is_a_list(http):
    answer = http.get("/readyz?verbose=1&verbose=0&unknown=1&unknown=2")
    assert answer.status_code == 422
    [fault] = answer.json()["errors"]
    assert (fault["in"], fault["pointer"]) == ("query", "/verbose")
    assert http.get("/readyz?exclude=a&exclude=b&unknown=1&unknown=2").status_code == 200


def test_a_replica_that_drains_is_alive_and_not_ready(http, gateway):
    assert http.get("/readyz").status_code == 200
    gateway.is_draining = True
    answer = http.get("/readyz")
    assert (answer.status_code, failing(answer)) == (503, ["gateway"])
    assert answer.headers["retry-after"]
    assert http.get("/livez").status_code == 200


def test_without_an_orchestrator_it_is_not_ready_and_says_why(http, gateway):
    gateway.status_is = NotReady("nobody answers")
    answer = http.get("/health")
    assert (answer.status_code, failing(answer)) == (503, ["orchestrator"])
    assert "nobody answers" in answer.json()["checks"][0]["saw"]


def test_checks_are_left_out_by_name_and_never_all_of_them(http, gateway):
    gateway.status_is = with_leader(faults=(FULL,), store_faults=(FULL,))
    store = "store/leader/local/0"
    assert failing(http.get("/readyz")) == [store]
    assert http.get("/health/orchestrator").status_code == 200
    assert http.get(f"/readyz?exclude={store}").status_code == 200
    answer = http.get(f"/readyz?verbose&exclude={store}&exclude=shard/0")
    assert answer.status_code == 200
    names = {check["name"] for check in answer.json()["checks"]}
    assert not names & {store, "shard/0"}
    everything = "&".join(f"exclude={name}" for name in {*names, store, "shard/0"})
    assert http.get(f"/readyz?{everything}").status_code == 503


def test_each_tier_is_asked_by_its_name(http, gateway):
    gateway.status_is = with_leader(workers=())
    assert http.get("/health/worker").status_code == 503
    assert http.get("/health/coordinator").status_code == 200
    assert http.get("/health/cook").status_code == 422


def test_it_says_what_runs(http):
    found = http.get("/version").json()
    assert set(found) == {"version", "python", "ray"}
    assert all(found.values())
