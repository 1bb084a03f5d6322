"""What tests of the gateway share: requests of a tenant, problems, and what processes take."""

from __future__ import annotations

import json
import os
import socket
import uuid

import psutil
import requests

#: the machine that runs this may be busy
DEADLINE_S = 120.0
SWARM = "gateway-tests"
NDJSON = "application/x-ndjson"
#: what every process of a test session has in its environment (tests/conftest.py)
MARK = "CHIMERA_TEST_SESSION"
EDGE = ("ServeReplica", "ProxyActor")


class Api:
    """Requests of one tenant."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.tenant = f"t-{uuid.uuid4().hex[:8]}"
        self.session = requests.Session()
        self.session.headers["Chimera-Tenant"] = self.tenant

    def __call__(self, method: str, path: str, **more) -> requests.Response:
        return self.session.request(method, self.url + path, timeout=DEADLINE_S, **more)

    def submit(self, payload, type="client.echo", wait=60, headers=None, **options):
        body = {"type": type, "payload": payload, **options}
        return self("POST", f"/v1/tasks?wait={wait}", json=body, headers=headers)

    def connect(self) -> socket.socket:
        """A bare connection, for what a well-behaved client does not send."""
        line = socket.create_connection(self.url.removeprefix("http://").split(":"), DEADLINE_S)
        line.settimeout(DEADLINE_S)
        return line


def problem(answer: requests.Response, status: int, code: str) -> dict:
    """The problem document of an answer, if it is this one."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["code"]) == (status, code)
    assert all((body["type"], body["title"], body["detail"], len(body["trace_id"]) == 32))
    return body


def lines(*tasks) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in tasks)


def bulk(api: Api, body) -> tuple[dict[int, dict], dict]:
    """Answers by line, and the last one."""
    answer = api("POST", "/v1/tasks:batch", data=body, headers={"content-type": NDJSON})
    assert answer.status_code == 200, answer.text
    found = [json.loads(line) for line in answer.text.splitlines()]
    return {one["line"]: one for one in found[:-1]}, found[-1]


def events(api: Api, count: int, last: str | None = None, begun=None) -> list[dict[str, str]]:
    """The next so many server-sent events as their fields; `begun` is set when they can come."""
    found: list[dict[str, str]] = []
    headers = {} if last is None else {"Last-Event-ID": last}
    with api("GET", "/v1/events?for_s=60", headers=headers, stream=True) as answer:
        assert answer.status_code == 200
        event: dict[str, str] = {}
        for line in answer.iter_lines(decode_unicode=True):
            if line.startswith("retry") and begun is not None:
                begun.set()
            name, is_field, value = line.partition(": ")
            if name and is_field:
                event[name] = value
            elif not line:
                found += [event] * ("data" in event)
                event = {}
            if len(found) == count:
                break
    return found


def edge_processes() -> list[psutil.Process]:
    """The gateway's replicas and proxy, of this session."""
    found = []
    for process in psutil.process_iter(["name"]):
        if any(one in process.info["name"] for one in EDGE):
            try:
                if process.environ().get(MARK) == os.environ[MARK]:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
    return found


def edge_memory() -> int:
    """Resident bytes of the gateway's replicas and proxy."""
    found = sum(process.memory_info().rss for process in edge_processes())
    assert found
    return found
