"""What is looked at to say whether a swarm is well, from what its tiers report. No I/O."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from chimera import names
from chimera.serve.models import moment
from chimera.swarm.reports import (
    ChildInfo,
    LeaderReport,
    RegionReport,
    ShardInfo,
    SwarmStatus,
)

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


#: nothing was said of it
_UNSEEN = ChildInfo("not heard of", holds=False)


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
    """What is to be seen of the swarm: every shard has an owner that can write, …

    Each tier answers for itself alone. What is not heard is not well: of a coordinator that is away
    nothing is known, its leaders included, whatever its last report says.
    """
    own = "it is being brought down" if status.stopping else "; ".join(status.own_faults)
    yield Check(
        name=names.ORCHESTRATOR, tier="orchestrator", ok=not own,
        saw=own or f"generation {status.generation}, term {status.term}",
    )  # fmt: skip
    owned: dict[int, tuple[str, ShardInfo]] = {}
    for region in (one["name"] for one in status.spec["regions"]):
        name = names.coordinator(region)
        seen, report = status.children.get(name, _UNSEEN), status.regions.get(region)
        yield _coordinator_check(name, seen, report)
        if report is not None:
            yield from _leaders_checks(report, "" if seen.holds else f"{name} is {seen.state}")
            owned |= _owned(report) if seen.holds else {}
    yield from _shard_checks(status.spec["shards"], owned)


def _coordinator_check(name: str, seen: ChildInfo, report: RegionReport | None) -> Check:
    age = "" if seen.age_s is None else f", heard {seen.age_s:.1f} s ago"
    if report is None or not seen.holds:
        saw = "; ".join((f"it is {seen.state}{age}", *seen.faults))
        return Check(name=name, tier="coordinator", ok=False, saw=saw)
    faults = "; ".join((*report.own_faults, *seen.faults))
    return Check(
        name=name, tier="coordinator", ok=not faults,
        saw=faults or f"term {report.term}, {len(report.leaders)} leaders{age}",
    )  # fmt: skip


def _leaders_checks(report: RegionReport, doubt: str) -> Iterator[Check]:
    """`doubt`: why nothing is known of any of them; empty: it is."""
    heard = {leader.leader: leader for leader in report.leaders}
    for name in sorted({*heard, *report.children}):
        child = report.children.get(name, _UNSEEN)
        if name in heard:
            away = doubt or ("" if child.holds else f"{name} is {child.state}")
            yield from _leader_checks(heard[name], child.faults, away)
        elif child.faults:
            yield Check(name=name, tier="leader", ok=False, saw="; ".join(child.faults))


def _leader_checks(leader: LeaderReport, said: tuple[str, ...], doubt: str) -> Iterator[Check]:
    stores = leader.store_faults
    faults = (*said, *(fault for fault in leader.faults if fault not in stores))
    checks = [
        Check(
            name=leader.leader, tier="leader", ok=leader.ready and not faults,
            saw="; ".join(faults)
            or ("it serves" if leader.ready else "none of its workers is ready"),
        ),
        Check(
            name=f"store/{leader.leader}", tier="leader", ok=not stores,
            saw="; ".join(stores) or f"{len(leader.shards)} journals can be written",
        ),
        Check(
            name=f"workers/{leader.leader}", tier="worker", ok=bool(leader.workers),
            saw=f"{len(leader.workers)} workers",
        ),
    ]  # fmt: skip
    for check in checks:
        if doubt:
            check.ok, check.saw = False, f"not known: {doubt}"
        yield check


def _owned(report: RegionReport) -> dict[int, tuple[str, ShardInfo]]:
    """Shard → its owner and what that says; a former owner may still say that it serves it."""
    return {
        info.shard: (leader.leader, info)
        for leader in report.leaders
        for info in leader.shards
        if report.placement.get(info.shard) == leader.leader
    }


def _shard_checks(shards: int, owned: dict[int, tuple[str, ShardInfo]]) -> Iterator[Check]:
    for shard in range(shards):
        if shard not in owned:
            yield Check(name=f"shard/{shard}", tier="leader", ok=False, saw="no owner")
            continue
        leader, info = owned[shard]
        yield Check(
            name=f"shard/{shard}", tier="leader", ok=info.state == "serving",
            saw=f"{info.state} by {leader}, epoch {info.epoch}",
        )  # fmt: skip
