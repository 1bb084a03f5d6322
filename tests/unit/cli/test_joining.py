"""Which swarm the commands come to: by its Ray, or by its gateway."""

from __future__ import annotations

import httpx2
import pytest

from tests.unit.cli.kit import chimera, printed
from tests.unit.http.kit import view

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


def test_who_says_no_swarm_means_that_of_the_gateway_and_it_is_not_asked(gateway):
    gateway(accepted, swarm="prod")
    assert chimera("submit", "echo", "--url", URL).exit_code == 0
    assert chimera("status", "--url", URL).exit_code == 0
