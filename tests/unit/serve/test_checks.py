"""Checks: each fails when what it looks at does, and none is well by default."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chimera.serve.checks import Check, Memory, swarm_checks
from chimera.swarm.reports import (
    ChildInfo,
    LeaderReport,
    Owner,
    RegionReport,
    ShardInfo,
    SwarmStatus,
    WorkerInfo,
)

OWNER = Owner("x", "boot", 1, 2, 3, "node")
WORKER = WorkerInfo("worker/local/0/a", OWNER, None)
LEADER = LeaderReport(
    "leader/local/0", OWNER, 1, True, (ShardInfo(0, 3, "serving", 0),), (WORKER,), {}
)
UP = ChildInfo("up", holds=True)
REGION = RegionReport(
    "coordinator/local", "local", 1, OWNER, 1, True, (LEADER,), {0: "leader/local/0"}, 0,
    children={"leader/local/0": UP},
)  # fmt: skip
STATUS = SwarmStatus(
    "local", "uuid", 1, OWNER, 1, {"shards": 1, "regions": [{"name": "local"}]}, "",
    {"local": REGION}, True, 0, "", False, children={"coordinator/local": replace(UP, age_s=0.1)},
)  # fmt: skip
FULL = "shard 0 cannot write: full"


def failing(status: SwarmStatus) -> set[str]:
    return {check.name for check in swarm_checks(status) if not check.ok}


def with_region(**changes) -> SwarmStatus:
    """Whose orchestrator tells the faults of all below it, as it does."""
    region = replace(REGION, **changes)
    faults = [*region.faults, *(f"{led.leader}: {f}" for led in region.leaders for f in led.faults)]
    return replace(STATUS, regions={"local": region}, faults=tuple(faults))


def with_leader(**changes) -> SwarmStatus:
    return with_region(leaders=(replace(LEADER, **changes),))


def with_coordinator(state: str, **changes) -> SwarmStatus:
    child = ChildInfo(state, holds=False, age_s=3.0)
    return replace(STATUS, children={"coordinator/local": child}, **changes)


def test_a_whole_swarm_is_well():
    assert failing(STATUS) == set()


@pytest.mark.parametrize(
    ("status", "names"),
    [
        (replace(STATUS, stopping=True), {"orchestrator"}),
        (
            replace(STATUS, faults=("control store: full",), own_faults=("control store: full",)),
            {"orchestrator"},
        ),
        (replace(STATUS, regions={}), {"coordinator/local", "shard/0"}),
        (replace(STATUS, regions={}, children={}), {"coordinator/local", "shard/0"}),
        (with_region(faults=("store: full",), own_faults=("store: full",)), {"coordinator/local"}),
        (
            with_region(
                leaders=(),
                faults=("cannot be made",),
                children={"leader/local/0": ChildInfo("missing", False, ("cannot be made",))},
            ),
            {"leader/local/0", "shard/0"},
        ),
        (with_leader(ready=False), {"leader/local/0"}),
        (with_leader(workers=()), {"workers/leader/local/0"}),
        (with_leader(shards=()), {"shard/0"}),
        (with_leader(shards=(ShardInfo(0, 3, "taking", 0),)), {"shard/0"}),
        (with_leader(faults=(FULL,), store_faults=(FULL,)), {"store/leader/local/0"}),
        (with_leader(faults=("handlers: no",)), {"leader/local/0"}),
    ],
)
def test_each_fault_is_told_by_its_name(status, names):
    assert failing(status) == names


def test_of_a_coordinator_that_is_away_nothing_is_known_whatever_it_said_last():
    for state in ("missing", "silent", "away"):
        found = {check.name: check for check in swarm_checks(with_coordinator(state))}
        assert {name for name, check in found.items() if check.ok} == {"orchestrator"}
        assert found["coordinator/local"].saw == f"it is {state}, heard 3.0 s ago"
        for name in ("leader/local/0", "store/leader/local/0", "workers/leader/local/0"):
            assert found[name].saw == f"not known: coordinator/local is {state}"
        assert found["shard/0"].saw == "no owner"


def test_a_leader_that_was_given_up_serves_nothing_whatever_it_said_last():
    """Its last report names its shards still; the coordinator has given them to another one."""
    taker = replace(LEADER, leader="leader/local/1", shards=())
    children = {"leader/local/0": ChildInfo("condemned", holds=False), "leader/local/1": UP}
    status = with_region(leaders=(LEADER, taker), children=children, placement={})
    assert failing(status) == {
        "leader/local/0", "store/leader/local/0", "workers/leader/local/0", "shard/0",
    }  # fmt: skip
    serving = replace(taker, shards=(ShardInfo(0, 4, "serving", 0),))
    status = with_region(leaders=(serving, LEADER), children=children, placement={0: taker.leader})
    [shard] = [check for check in swarm_checks(status) if check.name == "shard/0"]
    assert shard.saw == "serving by leader/local/1, epoch 4"


def test_a_check_knows_since_when_it_is_so():
    memory = Memory()

    def look(ok: bool) -> Check:
        return memory.dated([Check(name="a", tier="leader", ok=ok, saw="")])[0]

    first = look(True).since
    assert look(True).since == first
    changed = look(False).since
    assert changed is not None
    assert changed >= first
    assert look(False).since == changed
