"""Which swarm the commands come to: by its Ray, or by its gateway."""

from __future__ import annotations

import socket

import httpx2
import pytest

from tests.unit.cli.kit import chimera, printed
from tests.unit.http.kit import problem, view

URL = "http://gateway"


def accepted(_: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(202, json=view())


@pytest.mark.parametrize("said", ["option", "variable", "context"])
def test_a_gateway_of_another_swarm_than_the_one_that_is_meant_is_refused(
    gateway, monkeypatch, said
):
    sent = gateway(accepted, swarm="local")
    if said == "variable":
        monkeypatch.setenv("CHIMERA_SWARM", "prod")
    if said == "context":
        chimera("context", "set", "shop", "--url", URL, "--swarm", "prod")
    given = ["--swarm", "prod"] if said == "option" else []
    for command in (["submit", "echo"], ["purge", "--all", "--yes"], ["status"]):
        run = chimera(*command, "--url", URL, *given)
        assert run.exit_code == 4
        assert "is of swarm 'local', not of 'prod'" in run.stderr
    assert not sent


def test_the_gateway_of_the_swarm_that_is_meant_serves(gateway):
    gateway(accepted, swarm="prod")
    assert chimera("submit", "echo", "--url", URL, "--swarm", "prod").exit_code == 0
    assert printed(chimera("status", "--url", URL, "--swarm", "prod", "--json"))["swarm"] == "prod"


@pytest.mark.parametrize("url", ["notaurl", "ftp://a", "http://", "http://a:b", "http://[::1"])
def test_what_is_no_url_is_refused_before_it_is_kept(url):
    run = chimera("context", "set", "a", "--url", url)
    assert run.exit_code == 2
    assert "is no URL of a gateway" in run.stderr
    assert printed(chimera("context", "list", "--json")) == []


def test_a_setting_without_a_value_is_shown_as_such():
    rows = [line.split() for line in chimera("config", "view").stdout.splitlines()]
    assert ["address", "-"] in rows
    assert ["url", "-"] in rows
    found = {one["name"]: one["value"] for one in printed(chimera("config", "view", "--json"))}
    assert found["url"] is None


@pytest.mark.parametrize("way", ["--url=http://127.0.0.1:9", "--address=127.0.0.1:9"])
def test_where_nothing_answers_there_is_no_swarm(gateway, monkeypatch, way):
    def refuse(request):
        raise httpx2.ConnectError("refused")

    def refused(*_):
        raise ConnectionRefusedError("refused")

    gateway(refuse)
    monkeypatch.setattr(socket, "create_connection", refused)
    run = chimera("tasks", "list", way)
    assert run.exit_code == 3
    assert "127.0.0.1:9" in run.stderr


@pytest.mark.parametrize("way", ["--url=notaurl", "--address=foo", "--address=foo:70000"])
def test_what_is_no_address_is_wrong_usage(way):
    run = chimera("tasks", "list", way)
    assert run.exit_code == 2
    assert way.partition("=")[2] in run.stderr


@pytest.mark.parametrize(
    ("status", "code", "ends"),
    [
        (400, "invalid_request", 2), (422, "invalid_payload", 2), (413, "payload_too_large", 2),
        (422, "deadline_passed", 2), (422, "validation", 2), (404, "unknown_task_type", 3),
        (422, "idempotency_conflict", 4), (409, "id_conflict", 4), (507, "store_full", 1),
    ],
)  # fmt: skip
def test_what_the_gateway_refuses_ends_as_what_is_refused_here(gateway, status, code, ends):
    gateway(lambda _: problem(status, code))
    assert chimera("submit", "echo", "--url", URL, "--timeout", "0.1").exit_code == ends


def test_who_says_no_swarm_means_that_of_the_gateway_and_it_is_not_asked(gateway):
    gateway(accepted, swarm="prod")
    assert chimera("submit", "echo", "--url", URL).exit_code == 0
    assert chimera("status", "--url", URL).exit_code == 0
