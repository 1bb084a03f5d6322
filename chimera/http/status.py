"""The swarm's tree, as `/admin/v1/swarm` tells it, made what the orchestrator would report."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar

import msgspec

from chimera.errors import ChimeraError
from chimera.swarm.reports import (
    LeaderReport,
    Owner,
    RegionReport,
    ShardInfo,
    SwarmStatus,
    WorkerInfo,
)
from chimera.swarm.slo import SloReport, SloSpec

T = TypeVar("T")


def status(told: dict[str, Any]) -> SwarmStatus:
    """A swarm's status; what a gateway does not tell is `msgspec.UNSET`, and shown nowhere.

    Raises ChimeraError for what is no tree of a swarm.
    """
    try:
        return _known(
            SwarmStatus, swarm=told["name"], process=_owner("orchestrator", told),
            regions={one["name"]: _region(one) for one in told["regions"]},
            slos=tuple(_objective(one) for one in told["slos"]), faults=tuple(told["faults"]),
            **{name: told[name] for name in ("term", "generation", "ready", "waiting_for",
                                             "stopping")},
        )  # fmt: skip
    except (KeyError, TypeError) as fault:
        raise ChimeraError(f"this is no tree of a swarm: {fault} is missing") from fault


def _known(kind: type[T], **told: Any) -> T:
    """A report of what is told; the rest is no default either, which would be taken for news."""
    names = (one.name for one in fields(kind))  # type: ignore[arg-type]
    return kind(**{name: told.get(name, msgspec.UNSET) for name in names})


def _owner(name: str, told: dict[str, Any]) -> Owner:
    process = told["process"]
    return _known(Owner, name=name, pid=process["pid"], node_id=process["node"])


def _objective(told: dict[str, Any]) -> SloReport:
    spec = SloSpec(**{name: told[name] for name in SloSpec.__struct_fields__})
    return _known(SloReport, **{**told, "slo": spec})


def _region(told: dict[str, Any]) -> RegionReport:
    leaders = tuple(_leader(one) for one in told["leaders"])
    owners = {shard.shard: one.leader for one in leaders for shard in one.shards}
    return _known(
        RegionReport, coordinator=told["coordinator"], region=told["name"], term=told["term"],
        process=_owner(told["coordinator"], told), ready=told["ready"], leaders=leaders,
        placement=owners, failovers=told["failovers"], faults=tuple(told["faults"]),
    )  # fmt: skip


def _leader(told: dict[str, Any]) -> LeaderReport:
    shards = tuple(
        ShardInfo(one["shard"], one["epoch"], one["state"], one["open"]) for one in told["shards"]
    )
    workers = tuple(
        _known(WorkerInfo, name=one["name"], process=_owner(one["name"], one))
        for one in told["workers"]
    )
    return _known(
        LeaderReport, leader=told["name"], process=_owner(told["name"], told), shards=shards,
        workers=workers, faults=tuple(told["faults"]),
        **{name: told[name] for name in ("generation", "ready", "counters", "lag_ms")},
    )  # fmt: skip
