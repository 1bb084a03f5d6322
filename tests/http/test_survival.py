"""Requests go on while parts of the gateway and of the swarm are killed and replaced under them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import threading
import time
import uuid
from pathlib import Path

import pytest
import requests

import chimera
from benchmarks import ledger
from chimera.actors import boot
from chimera.errors import ChimeraError
from chimera.serve import deployment
from chimera.sim import history
from chimera.sim.history import Acknowledged, Ended, Seen, Started, Submitted
from tests.guarantees.kit import until
from tests.http.kit import DEADLINE_S, SWARM, edge_processes

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(400)]

#: a request ends within this, whatever is killed
REQUEST_S = 30.0
TYPE = "http.noted"
#: tasks of a bulk
BULK = 5
#: answers that say clearly: not now, or nobody knows; anything else is a fault
CLEAR = {429, 502, 503, 504}


class Client:
    """Submits one task after the other, each until it is acknowledged, and keeps what it saw."""

    def __init__(self, api, name, file):
        self.records = []
        self.errors = []
        self.slowest = 0.0
        self._api = api
        self._name = name
        self._file = file
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        for number in itertools.count():
            if self._stop.is_set():
                return
            self._submit(f"{self._name}-{number}")

    def _submit(self, key):
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            sent, began = time.time(), time.monotonic()
            status, ids = self.post({"n": 1, "file": str(self._file)}, key)
            self.slowest = max(self.slowest, time.monotonic() - began)
            if ids:
                self.records += [Submitted(one, sent, self._name) for one in ids]
                self.records += [Acknowledged(one, time.time()) for one in ids]
                return
            self.errors.append(status)
            time.sleep(0.05)
        raise AssertionError(f"{key} was not accepted in {DEADLINE_S:g} s: {self.errors[-5:]}")

    def post(self, payload, key):
        """Status, and the ids if it was accepted; 0: the connection broke, there or behind it."""
        body = {"type": TYPE, "payload": payload}
        headers = {"Idempotency-Key": key, "Chimera-Tenant": self._api.tenant}
        try:
            answer = requests.post(
                self._api.url + "/v1/tasks", json=body, headers=headers, timeout=REQUEST_S
            )
        except requests.ConnectionError:
            return 0, ()
        if answer.status_code in (200, 202):
            return answer.status_code, [answer.json()["id"]]
        return told(answer.status_code, answer.text), ()

    def stop(self):
        self._stop.set()
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive(), f"{self._name} hangs"


class Curl(Client):
    """The same by curl, a process a request."""

    def post(self, payload, key):
        body = {"type": TYPE, "payload": payload}
        done = subprocess.run(
            ["curl", "-sS", "--max-time", f"{REQUEST_S:g}", "-o", "-", "-w", "\n%{http_code}",
             "-H", f"Idempotency-Key: {key}", "-H", f"Chimera-Tenant: {self._api.tenant}",
             "--json", str(body).replace("'", '"'), self._api.url + "/v1/tasks"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode != 28, "a request hung"
        text, _, status = done.stdout.rpartition("\n")
        if status in ("200", "202"):
            return int(status), [text.split('"id":"')[1].split('"')[0]]
        return told(int(status or 0), text), ()


class Library(Client):
    """The same by our own client, which tries again by itself."""

    def __init__(self, api, name, file):
        self._client = chimera.Client(api.url, tenant=api.tenant)
        super().__init__(api, name, file)

    def post(self, payload, key):
        try:
            return 202, self.submit(payload, key)
        except ChimeraError as fault:
            return fault.status, ()

    def submit(self, payload, key):
        """Ids of what was accepted."""
        one = self._client.submit(TYPE, payload, idempotency_key=key, timeout_s=REQUEST_S)
        return [one.id]

    def stop(self):
        super().stop()
        self._client.close()


class Bulks(Library):
    """The same by our own client, some at a time."""

    def submit(self, payload, key):
        keys = [f"{key}-{n}" for n in range(BULK)]
        bulk = self._client.submit_many(
            TYPE, [payload] * BULK, idempotency_key=keys, timeout_s=REQUEST_S
        )
        return list(bulk.ids())


class Awaiting(Library):
    """The same by our asynchronous client, which is new each time."""

    def submit(self, payload, key):
        async def submitted():
            async with chimera.AsyncClient(self._api.url, tenant=self._api.tenant) as client:
                return await client.submit(
                    TYPE, payload, idempotency_key=key, timeout_s=REQUEST_S
                )  # fmt: skip

        return [asyncio.run(submitted()).id]


def told(status, text):
    """A status as it counts: Serve's proxy says by a 500 that the replica's connection broke."""
    return 0 if status == 500 and '"code":"internal"' not in text else status


@contextlib.contextmanager
def clients(api, file):
    """Clients that submit meanwhile; stopped at the end."""
    name = uuid.uuid4().hex[:6]
    kinds = (Client, Curl, Library, Bulks, Awaiting)
    made = [kind(api, f"{name}-{at}", file) for at, kind in enumerate(kinds)]
    try:
        until(lambda: all(len(one.records) >= 4 for one in made))
        yield made
    finally:
        for one in made:
            one.stop()


def acknowledged(made) -> int:
    return sum(len(one.records) for one in made) // 2


def test_a_rolling_restart_fails_no_request(api, spec, tmp_path):
    before = {process.pid for process in edge_processes() if "Replica" in process.name()}
    with clients(api, tmp_path / "log") as made:
        waiting = [
            subprocess.Popen(
                ["curl", "-sS", "--max-time", "100", "-o", "/dev/null", "-w", "%{http_code}",
                 "--json", '{"type":"client.echo","delay_s":8}', f"{api.url}/v1/tasks?wait=20"],
                stdout=subprocess.PIPE, text=True,
            ) for _ in range(3)
        ]  # fmt: skip
        deployment.up(SWARM, spec.http)
        count = acknowledged(made)
        until(lambda: acknowledged(made) > count + 20)
    after = {process.pid for process in edge_processes() if "Replica" in process.name()}
    assert [one.communicate(timeout=100)[0] for one in waiting] == ["200"] * 3
    assert [one.errors for one in made] == [[]] * len(made)
    assert not before & after


def test_a_rolling_restart_ends_streams_and_the_next_replica_goes_on_with_them(api, spec):
    with api("GET", "/v1/events", stream=True) as answer:
        lines = answer.iter_lines(decode_unicode=True)
        told = [next(lines)]  # it is under way
        deployment.up(SWARM, spec.http)
        told += lines  # to its end; if the replica had been killed with it, this would raise
    last = [line.removeprefix("id: ") for line in told if line.startswith("id: ")][-1]
    id_ = api.submit(1).json()["id"]  # ends while nobody listens
    with api("GET", "/v1/events", headers={"Last-Event-ID": last}, stream=True) as answer:
        lines = answer.iter_lines(decode_unicode=True)
        assert id_ in next(line for line in lines if line.startswith("data"))


def victims():
    """Processes to kill, in turn; each when it is there again."""

    def replica():
        return next((p.pid for p in edge_processes() if "Replica" in p.name()), None)

    def part(find):
        def found():
            try:
                status = boot.status(SWARM, timeout_s=5.0)
                return find(status).pid if status.ready else None
            except (ChimeraError, KeyError, IndexError):
                return None

        return found

    return {
        "replica": replica,
        "leader": part(lambda status: status.regions["local"].leaders[0].process),
        "coordinator": part(lambda status: status.regions["local"].process),
        "orchestrator": part(lambda status: status.process),
    }  # fmt: skip


def test_kills_lose_and_double_nothing(api, spec, tmp_path):
    log = tmp_path / "log"
    with clients(api, log) as made:
        for name, find in [*victims().items(), *victims().items()][:6]:
            os.kill(until(find, tell=lambda name=name: f"no {name}"), signal.SIGKILL)
            count = acknowledged(made)
            until(lambda count=count: acknowledged(made) > count + 20)
    assert max(one.slowest for one in made) < REQUEST_S + 2
    assert all(one.records for one in made)
    assert {status for one in made for status in one.errors} <= CLEAR | {0}
    records = [record for one in made for record in one.records]
    ids = {record.task for record in records}
    assert len(ids) == len(records) // 2  # each key its own task
    until(lambda: not api("GET", "/v1/tasks?limit=1000&state=queued").json()["tasks"])
    records += [Seen(id_, outcome_of(api, id_), time.time()) for id_ in ids]
    for line in log.read_text().splitlines():
        what, id_, at = line.split()
        ran = Started(id_, "", float(at)) if what == "began" else Ended(id_, "", float(at))
        records.append(ran)
    kept = [one for one in ledger.kept(Path(spec.data_dir), SWARM) if one.task in ids]
    assert history.violations(records, kept, tolerance_s=0.1) == []
    check_metrics(api)


def outcome_of(api, id_) -> str:
    """How a task ended; asked again while a part is not back yet."""
    end = time.monotonic() + DEADLINE_S
    while True:
        answer = api("GET", f"/v1/tasks/{id_}?wait=60")
        if answer.status_code == 200:
            return answer.json()["state"]
        assert told(answer.status_code, answer.text) in CLEAR | {0}, answer.text
        assert time.monotonic() < end, answer.text
        time.sleep(0.1)


def check_metrics(api):
    """After all that, promtool finds nothing to say about the metrics."""
    text = api("GET", "/metrics").content
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
