"""What is looked at to say whether a swarm is well, from what its tiers report. No I/O."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from chimera.serve.models import moment
from chimera.swarm.reports import LeaderReport, RegionReport, SwarmStatus

Tier = Literal["gateway", "orchestrator", "coordinator", "leader", "worker"]


class Check(BaseModel):
    """One thing that was looked at."""

    name: str = Field(examples=["shard/3"])
    tier: Tier
    ok: bool
    saw: str = Field(description="What was seen.")
    since: datetime | None = Field(default=None, description="Since when it is so, as seen here.")


class Health(BaseModel):
    """Whether all is well, and why or why not."""

    ok: bool
    checks: list[Check]


class Memory:
    """Since when each check is as it is: what one replica saw."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[bool, int]] = {}

    def dated(self, checks: list[Check]) -> list[Check]:
        """The checks, each with the time of its last change."""
        now = time.time_ns() // 1_000_000
        known = {}
        for check in checks:
            ok, since = self._known.get(check.name, (not check.ok, now))
            known[check.name] = (check.ok, since if ok == check.ok else now)
            check.since = moment(known[check.name][1])
        self._known = known
        return checks


def swarm_checks(status: SwarmStatus) -> Iterator[Check]:
    """What is to be seen of the swarm: every shard has an owner that can write, …"""
    faults = "; ".join(status.faults)
    stops = "it is being brought down" if status.stopping else faults
    yield Check(
        name="orchestrator", tier="orchestrator", ok=not status.stopping and not faults,
        saw=stops or f"generation {status.generation}, term {status.term}",
    )  # fmt: skip
    declared = status.spec["regions"]
    for region in (one["name"] for one in declared):
        report = status.regions.get(region)
        if report is None:
            yield Check(
                name=f"coordinator/{region}", tier="coordinator", ok=False,
                saw="nothing was heard of it",
            )  # fmt: skip
        else:
            yield from _region_checks(report)
    yield from _shard_checks(status)


def _region_checks(report: RegionReport) -> Iterator[Check]:
    faults = "; ".join(report.faults)
    yield Check(
        name=report.coordinator, tier="coordinator", ok=not faults,
        saw=faults or f"term {report.term}, {len(report.leaders)} leaders",
    )  # fmt: skip
    for leader in report.leaders:
        yield from _leader_checks(leader)


def _leader_checks(leader: LeaderReport) -> Iterator[Check]:
    stores = [fault for fault in leader.faults if "cannot write" in fault]
    others = [fault for fault in leader.faults if fault not in stores]
    yield Check(
        name=leader.leader, tier="leader", ok=leader.ready and not others,
        saw="; ".join(others) or ("it serves" if leader.ready else "none of its workers is ready"),
    )  # fmt: skip
    yield Check(
        name=f"store/{leader.leader}", tier="leader", ok=not stores,
        saw="; ".join(stores) or f"{len(leader.shards)} journals can be written",
    )  # fmt: skip
    yield Check(
        name=f"workers/{leader.leader}", tier="worker", ok=bool(leader.workers),
        saw=f"{len(leader.workers)} workers",
    )  # fmt: skip


def _shard_checks(status: SwarmStatus) -> Iterator[Check]:
    owned: dict[int, tuple[str, str, int]] = {}
    for report in status.regions.values():
        for leader in report.leaders:
            for info in leader.shards:
                owned[info.shard] = (leader.leader, info.state, info.epoch)
    for shard in range(status.spec["shards"]):
        who, state, epoch = owned.get(shard, ("", "no owner", 0))
        yield Check(
            name=f"shard/{shard}", tier="leader", ok=state == "serving",
            saw=f"{state} by {who}, epoch {epoch}" if who else state,
        )  # fmt: skip
