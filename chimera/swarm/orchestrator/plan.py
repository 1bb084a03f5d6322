"""What is yet to be done for a swarm to be as it is declared: from the spec and what is seen, only.

Level-triggered: it knows nothing of what was ordered before, so that an incarnation that begins
anew plans the same, and what was lost on the way is planned again. An empty plan is a swarm that is
as declared. Each tier carries out its own part: the orchestrator what is about coordinators, a
coordinator what is about leaders, a leader what is about workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from chimera import names
from chimera.swarm import spec as specs
from chimera.swarm.orchestrator.state import ChildState
from chimera.swarm.reports import LeaderConfig, LeaderReport, RegionReport
from chimera.swarm.spec import Spec


@dataclass(frozen=True, slots=True)
class Action:
    """A step towards the declared state."""

    #: `make`, `configure`, `retire`; of a coordinator in another Ray cluster `reach`, and of one
    #: that cannot be told that the swarm stops `leave`; of shards `place`; of leaders `drain`; of
    #: workers `replace`, `add`, `remove`
    verb: str
    subject: str  #: name of the actor it is about; of a leader's workers the leader's
    why: str

    def __str__(self) -> str:
        return f"{self.verb} {self.subject}: {self.why}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is declared."""

    spec: Spec
    generation: int
    stopping: bool = False  #: nothing is to live


@dataclass(frozen=True, slots=True)
class Seen:
    """What is observed of one region."""

    state: ChildState = ChildState.MISSING
    report: RegionReport | None = None
    lost: bool = False  #: nothing was heard of it for the spec's `region_timeout_s`


def plan(wanted: Wanted, seen: Mapping[str, Seen]) -> tuple[Action, ...]:
    """Every step that is yet to be taken, parents first."""
    found = list(coordinators(wanted, seen))
    if not wanted.stopping:
        found += _moves(wanted.spec, seen)
        for region in wanted.spec.regions:
            report = _heard(seen, region.name)
            if report is not None:
                found += _leaders(wanted, region.name, report)
                found += _shards(wanted, region.name, report)
    return tuple(found)


def coordinators(wanted: Wanted, seen: Mapping[str, Seen]) -> Iterator[Action]:
    """The orchestrator's own part of it."""
    for region in wanted.spec.regions:
        name, report = names.coordinator(region.name), _heard(seen, region.name)
        if wanted.stopping:
            verb = "retire" if report is not None else "leave"
            yield Action(verb, name, "the swarm is stopped")
        elif report is None:
            why = f"it is {seen.get(region.name, Seen()).state.value}"
            yield Action("reach" if region.link else "make", name, why)
        elif report.generation < wanted.generation:
            why = f"from generation {report.generation} to {wanted.generation}"
            yield Action("configure", name, why)


def _moves(spec: Spec, seen: Mapping[str, Seen]) -> Iterator[Action]:
    """Of shards between regions."""
    for region in spec.regions:
        name = names.coordinator(region.name)
        if specs.is_shared(spec) and seen.get(region.name, Seen()).lost:
            left = specs.region_shards(spec, region.name)
            if left:
                yield Action("place", name, f"{len(left)} shards of it wait for another region")
        elif not specs.is_drained(spec, region.name):
            here = [s for s in range(spec.shards) if specs.birthplace(spec, s) == region.name]
            out = [shard for shard in here if specs.home(spec, shard) != region.name]
            if out:
                yield Action("place", name, f"{len(out)} of its shards are to come back")
        elif mine := [s for s in range(spec.shards) if specs.home(spec, s) in ("", region.name)]:
            yield Action("drain", name, f"{len(mine)} shards are to be handed over")


def _heard(seen: Mapping[str, Seen], region: str) -> RegionReport | None:
    """What a coordinator that speaks said last."""
    found = seen.get(region, Seen())
    return found.report if found.state is ChildState.UP else None


def _leaders(wanted: Wanted, region: str, report: RegionReport) -> Iterator[Action]:
    declared = specs.region_plan(wanted.spec, region, wanted.generation)
    planned = declared.leader_names()
    living = {leader.leader: leader for leader in report.leaders}
    for name in planned:
        if name not in living:
            yield Action("make", name, "it is not there")
    for name, leader in living.items():
        if name in planned:
            yield from _leader(declared.template, leader)
        elif leader.shards or leader.workers:
            left = f"{len(leader.shards)} shards and {len(leader.workers)} workers are left"
            yield Action("drain", name, left)
        else:
            yield Action("retire", name, "it has handed over everything")


def _leader(config: LeaderConfig, leader: LeaderReport) -> Iterator[Action]:
    if leader.generation < config.generation:
        why = f"from generation {leader.generation} to {config.generation}"
        yield Action("configure", leader.leader, why)
    drained = sum(worker.name in config.drained for worker in leader.workers)
    old = sum(w.revision not in ("", config.revision) for w in leader.workers)
    if old:
        yield Action("replace", leader.leader, f"{old} workers are of an older revision")
    if drained:
        yield Action("replace", leader.leader, f"{drained} workers are drained")
    there = len(leader.workers) - drained
    least = max(config.workers, min(leader.worker_target, config.workers_max))
    if there < least:
        yield Action("add", leader.leader, f"{there} of {least} workers are there")
    elif there > config.workers_max and not old:
        more = there - config.workers_max
        yield Action("remove", leader.leader, f"{more} workers over {config.workers_max}")


def _shards(wanted: Wanted, region: str, report: RegionReport) -> Iterator[Action]:
    ring = specs.region_shards(wanted.spec, region)
    served = {one.shard for leader in report.leaders for one in leader.shards
              if one.state == "serving"}  # fmt: skip
    waiting = [shard for shard in ring if shard not in served]
    if waiting:
        some = ", ".join(map(str, waiting[:8])) + (", …" if len(waiting) > 8 else "")
        why = f"{len(waiting)} of {len(ring)} shards are not served: {some}"
        yield Action("place", names.coordinator(region), why)
