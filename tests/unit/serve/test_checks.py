"""Checks: each fails when what it looks at does, and none is well by default."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chimera.serve.checks import Check, Memory, swarm_checks
from chimera.swarm.reports import (
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
REGION = RegionReport("coordinator/local", "local", 1, OWNER, 1, True, (LEADER,), {}, 0)
STATUS = SwarmStatus(
    "local", "uuid", 1, OWNER, 1, {"shards": 1, "regions": [{"name": "local"}]}, "",
    {"local": REGION}, True, 0, "", False,
)  # fmt: skip


def failing(status: SwarmStatus) -> set[str]:
    return {check.name for check in swarm_checks(status) if not check.ok}


def with_leader(**changes) -> SwarmStatus:
    region = replace(REGION, leaders=(replace(LEADER, **changes),))
    return replace(STATUS, regions={"local": region})


def test_a_whole_swarm_is_well():
    assert failing(STATUS) == set()


@pytest.mark.parametrize(
    ("status", "names"),
    [
        (replace(STATUS, stopping=True), {"orchestrator"}),
        (replace(STATUS, faults=("control store: full",)), {"orchestrator"}),
        (replace(STATUS, regions={}), {"coordinator/local", "shard/0"}),
        (with_leader(ready=False), {"leader/local/0"}),
        (with_leader(workers=()), {"workers/leader/local/0"}),
        (with_leader(shards=()), {"shard/0"}),
        (with_leader(shards=(ShardInfo(0, 3, "taking", 0),)), {"shard/0"}),
        (with_leader(faults=("shard 0 cannot write: full",)), {"store/leader/local/0"}),
        (with_leader(faults=("handlers: no",)), {"leader/local/0"}),
    ],
)
def test_each_fault_is_told_by_its_name(status, names):
    assert failing(status) == names


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
