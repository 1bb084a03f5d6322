"""Streams of events: a replica that is taken away ends them, and another one goes on with them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from starlette.testclient import TestClient

from chimera.serve import events
from chimera.serve.app import build
from chimera.serve.gateway import Gateway
from chimera.store.protocol import TaskRecord

#: of a stream that nothing else ends: the test's patience
FOR_S = 20


class Journal:
    """The only shard's: a row a task that ended."""

    core = SimpleNamespace(link=SimpleNamespace(settings=SimpleNamespace(ring=1)))

    def __init__(self):
        self.rows = []

    def end(self, number):
        id_ = f"4a57e9c5-2fe0-8fd5-b400-{number:012x}"
        self.rows.append(
            TaskRecord(
                task_id=id_, position=number, type="t", tenant="default", priority=0,
                state="succeeded", attempts=1, accepted_at=1, settled_at=2, due=None, key=None,
                tags=(), cancel_requested=False, replay_of=None, replayed_as=None,
            )
        )  # fmt: skip

    async def happened(self, shard, after, limit):
        if after < 0:
            return len(self.rows), []
        found = list(enumerate(self.rows, 1))[after : after + limit]
        return (found[-1][0] if found else after), found


@pytest.fixture
def journal():
    return Journal()


def replica(monkeypatch, journal, drains):
    """A client of a replica in front of the journal; `drains` says whether it is taken away."""
    gateway = Gateway("events", drains=drains)

    async def nothing():
        pass

    monkeypatch.setattr(gateway, "open", nothing)
    monkeypatch.setattr(gateway, "swarm", lambda tenant: journal)
    return TestClient(build(gateway))


def read(client, last=None, for_s=FOR_S):
    """Lines of a stream until it ends."""
    headers = {"Last-Event-ID": last} if last else {}
    with client:
        answer = client.get(f"/v1/events?for_s={for_s}", headers=headers)
    assert answer.status_code == 200
    return answer.text.splitlines()


def last_id(lines):
    return [line.removeprefix("id: ") for line in lines if line.startswith("id: ")][-1]


def test_a_stream_ends_when_its_replica_drains_and_goes_on_at_another(monkeypatch, journal):
    looks = []

    def drains():
        looks.append(None)
        return len(looks) > 2

    journal.end(1)
    told = read(replica(monkeypatch, journal, drains))
    assert len(looks) == 3, "the drain ended it, and not its time"
    assert not [line for line in told if line.startswith("data")], "of what ends from now on"
    journal.end(2)  # while nobody listens
    rest = read(replica(monkeypatch, journal, lambda: False), last_id(told), for_s=0)
    assert [journal.rows[1].task_id in line for line in rest if line.startswith("data")] == [True]


def test_a_stream_that_comes_to_a_replica_that_drains_is_told_where_to_go_on(monkeypatch, journal):
    """Not refused: a browser takes a refusal for good, and an end for a reason to come again."""
    told = read(replica(monkeypatch, journal, lambda: True))
    assert told[0].startswith("retry: ")
    journal.end(1)
    rest = read(replica(monkeypatch, journal, lambda: False), last_id(told), for_s=0)
    assert len([line for line in rest if line.startswith("data")]) == 1


@pytest.mark.parametrize("marks", [{0: -1}, {0: 1 << 63}, {1: 0}, {}])
def test_an_id_that_no_stream_told_is_refused(monkeypatch, journal, marks):
    client = replica(monkeypatch, journal, lambda: False)
    with client:
        forged = {"Last-Event-ID": events._format(marks)}
        answer = client.get("/v1/events?for_s=0", headers=forged)
    assert answer.status_code == 400
