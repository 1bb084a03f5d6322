"""Requests that wait for a task's end: so many at once, and the next one is answered at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from starlette.testclient import TestClient

from chimera.client import AsyncSwarm
from chimera.client.core import Core
from chimera.serve import deployment
from chimera.serve.app import build
from chimera.serve.gateway import Gateway, Limits
from tests.unit.client.fake import DEADLINE_S, FakeLeaders, eventually

TASK = {"type": "echo", "payload": 1}


@pytest.fixture
def draining():
    return threading.Event()


@pytest.fixture
def gateway(monkeypatch, draining):
    """Only one request may wait."""
    leaders = FakeLeaders(ring=1, leaders=1)
    core = Core("waits", leaders, lambda url: None)
    found = Gateway("waits", Limits(waits=1), draining.is_set)
    found.leaders = leaders

    async def opened():
        found._client = AsyncSwarm(core, "default", lambda: None)

    monkeypatch.setattr(found, "open", opened)
    yield found
    core.close()


@pytest.fixture
def http(gateway):
    with TestClient(build(gateway)) as client:
        yield client


@contextmanager
def one_that_waits(http, gateway):
    """The first task, for which a request waits meanwhile."""
    where = http.post("/v1/tasks", json=TASK).headers["location"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(http.get, where + f"?wait={DEADLINE_S}")
        try:
            eventually(lambda: not gateway.waits.free)
            yield where
            assert not waiting.done()
        finally:
            gateway.leaders.succeed(0, 0, 1)
        assert waiting.result(DEADLINE_S).json()["state"] == "succeeded"


def test_past_the_limit_nobody_waits_and_all_are_told_what_is_known(http, gateway):
    with one_that_waits(http, gateway) as where:
        given = http.post("/v1/tasks?wait=60", json=TASK)
        assert (given.status_code, given.json()["state"]) == (202, "queued")
        found = http.get(where + "?wait=60")
        assert (found.status_code, found.json()["state"]) == (200, "queued")
        asked = http.post("/v1/tasks", json=TASK, headers={"Prefer": "wait=60"})
        assert asked.status_code == 202
        assert "preference-applied" not in asked.headers, "a preference may be ignored"
        for answer in (given, found, asked):
            assert int(answer.headers["retry-after"]) >= 1, "or they would ask again at once"
        gateway.leaders.succeed(0, 1, 2)
        assert "retry-after" not in http.get(given.headers["location"] + "?wait=60").headers
    assert gateway.waits.free


def test_a_replica_that_drains_lets_nobody_wait(http, draining):
    draining.set()
    given = http.post("/v1/tasks?wait=60", json=TASK)
    assert (given.status_code, bool(given.headers["retry-after"])) == (202, True)


def test_those_that_wait_leave_room_for_others():
    long = Limits().waits + Limits().streams
    assert long <= deployment.ONGOING_MAX * 2 / 3
