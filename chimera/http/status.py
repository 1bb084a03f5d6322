"""The swarm's tree, as `/admin/v1/swarm` tells it, made what the orchestrator would report."""

from __future__ import annotations

from typing import Any

from chimera.errors import ChimeraError
from chimera.swarm.reports import (
    LeaderReport,
    Owner,
    RegionReport,
    ShardInfo,
    SwarmStatus,
    WorkerInfo,
)


def status(told: dict[str, Any]) -> SwarmStatus:
    """A swarm's status. Raises ChimeraError for what is none."""
    try:
        regions = {one["name"]: _region(one) for one in told["regions"]}
        return SwarmStatus(
            swarm=told["name"], uuid="", term=told["term"], process=_owner("orchestrator", told),
            generation=told["generation"], spec={}, summary="", regions=regions,
            ready=told["ready"], since=0, waiting_for=told["waiting_for"],
            stopping=told["stopping"], faults=tuple(told["faults"]),
        )  # fmt: skip
    except (KeyError, TypeError) as fault:
        raise ChimeraError(f"this is no tree of a swarm: {fault} is missing") from fault


def _owner(name: str, told: dict[str, Any]) -> Owner:
    return Owner(name, "", 0, told["process"]["pid"], 0, told["process"]["node"])


def _region(told: dict[str, Any]) -> RegionReport:
    leaders = tuple(_leader(one) for one in told["leaders"])
    owners = {shard.shard: one.leader for one in leaders for shard in one.shards}
    return RegionReport(
        told["coordinator"], told["name"], told["term"], _owner(told["coordinator"], told), 0,
        told["ready"], leaders, owners, told["failovers"], faults=tuple(told["faults"]),
    )  # fmt: skip


def _leader(told: dict[str, Any]) -> LeaderReport:
    shards = tuple(
        ShardInfo(one["shard"], one["epoch"], one["state"], one["open"]) for one in told["shards"]
    )
    workers = tuple(
        WorkerInfo(one["name"], _owner(one["name"], one), None) for one in told["workers"]
    )
    return LeaderReport(
        told["name"], _owner(told["name"], told), told["generation"], told["ready"], shards,
        workers, told["counters"], tuple(told["faults"]), told["lag_ms"],
    )  # fmt: skip
