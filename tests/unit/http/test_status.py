"""A swarm's status over HTTP: what the gateway tells, and nothing that it does not."""

from __future__ import annotations

import io

import httpx2
import pytest
from rich.console import Console

from chimera import errors
from chimera.cli.status import plain, tree
from chimera.serve.admin import shown
from chimera.swarm.reports import (
    Condition,
    LeaderReport,
    Owner,
    Reading,
    RegionReport,
    ShardInfo,
    SwarmStatus,
    WorkerInfo,
)
from chimera.swarm.slo import SloReport, SloSpec


def process(pid: int) -> Owner:
    return Owner("who", "boot", 1, pid, 1, "node")


def observed() -> SwarmStatus:
    """As the orchestrator tells it."""
    leader = LeaderReport(
        "leader/us/0", process(3), 3, True, (ShardInfo(0, 7, "serving", 5),),
        (WorkerInfo("worker/us/0/a", process(4), None),), {"succeeded": 2}, ("odd",), 1.5,
        latency={"run": b"sketch"},
    )  # fmt: skip
    tally = (Reading("leader/us/0", 1, 1, {"succeeded": 9}, {}),)
    region = RegionReport(
        "coordinator/us", "us", 1, process(2), 3, True, (leader,), {0: "leader/us/0"}, 6,
        tally=tally,
    )  # fmt: skip
    spec = SloSpec(name="fast", indicator="run", objective=0.99, within_s=1.0)
    slo = SloReport(spec, 60.0, 99, 100, 0.99, 0.0, 1.0, True)
    conditions = (Condition("orchestrator", "Ready", "True", "AllServed", since=5),)
    return SwarmStatus(
        "shop", "uuid", 4, process(1), 3, {"shards": 1}, "summary", {"us": region}, True, 5, "",
        False, observed_generation=3, conditions=conditions, slos=(slo,),
    )  # fmt: skip


def pruned(part, whole):
    """Members of `whole` that `part` has too, all the way down."""
    if isinstance(part, dict):
        return {name: pruned(part[name], whole[name]) for name in part}
    if isinstance(part, list):
        assert len(part) == len(whole)
        return [pruned(one, other) for one, other in zip(part, whole, strict=True)]
    return whole


def test_what_is_told_is_what_the_orchestrator_says_and_nothing_is_made_up(client):
    made, _ = client(httpx2.Response(200, json=shown(observed()).model_dump()))
    found, whole = plain(made.status()), plain(observed())
    whole["process"]["name"] = "orchestrator"
    region, leader = whole["regions"]["us"], whole["regions"]["us"]["leaders"][0]
    region["process"]["name"], leader["process"]["name"] = "coordinator/us", "leader/us/0"
    leader["workers"][0]["process"]["name"] = "worker/us/0/a"
    assert found == pruned(found, whole)
    assert found["slos"][0]["slo"]["name"] == "fast"
    assert found["regions"]["us"]["leaders"][0]["counters"] == {"succeeded": 2}
    untold = {"uuid", "since", "spec", "summary", "conditions", "observed_generation", "pending"}
    assert not untold & set(found)
    assert "tally" not in found["regions"]["us"]


def test_it_is_shown_as_a_tree(client):
    made, _ = client(httpx2.Response(200, json=shown(observed()).model_dump()))
    text = io.StringIO()
    Console(file=text, width=160).print(tree(made.status()))
    for told in (
        "shop ready, generation 3",
        "slo fast met",
        "6 failovers",
        "2 succeeded",
        "5 open",
    ):
        assert told in text.getvalue()


def test_what_is_no_tree_is_told(client):
    made, _ = client(httpx2.Response(200, json={"name": "shop"}))
    with pytest.raises(errors.ChimeraError, match="no tree of a swarm"):
        made.status()
