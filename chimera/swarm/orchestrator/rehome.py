"""Which region has which shard, when one is drained or lost.

A shard of a drained region goes in two steps, each of them a generation of the spec: its region
lets go of it, once all that runs of it is recorded, and only when every region says that it has it
not is it given to another. So an orchestrator that dies between them goes on where it was.

A lost region can be asked nothing. On shared storage its shards are given to others in one step:
the taker raises the epoch, and from then on nobody of the lost region can write (P1). Its journals'
owner bears the generation of the spec that gave it the shard, so that a region which has not heard
of the newer one cannot take it back. When it is heard again it is given them like any other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from chimera.swarm import placement
from chimera.swarm import spec as specs
from chimera.swarm.orchestrator.plan import Seen
from chimera.swarm.orchestrator.state import ChildState
from chimera.swarm.spec import Spec


def rehomed(spec: Spec, generation: int, seen: Mapping[str, Seen]) -> Spec | None:
    """The spec with the next step of every shard that is to move; None: none can be taken now."""
    shared = specs.is_shared(spec)
    lost = {name for name, found in seen.items() if found.lost} if shared else set()
    drained = any(specs.is_drained(spec, region.name) for region in spec.regions)
    if not (spec.operations.homes or drained or lost):
        return None
    homes = {str(shard): specs.home(spec, shard) for shard in range(spec.shards)}
    free = _free(spec, generation, seen, lost)
    for shard in range(spec.shards):
        wanted, key = _wanted(spec, shard, lost), str(shard)
        if homes[key] == wanted or wanted in lost:
            continue
        if homes[key] in lost or (not homes[key] and shard in free):
            homes[key] = wanted
        elif homes[key] and _may_have(generation, seen.get(wanted, Seen())):
            homes[key] = ""
    moved = {key: home for key, home in homes.items() if home != specs.birthplace(spec, int(key))}
    if moved == spec.operations.homes:
        return None
    operations = msgspec.structs.replace(spec.operations, homes=moved)
    return msgspec.structs.replace(spec, operations=operations)


def _wanted(spec: Spec, shard: int, lost: Collection[str]) -> str:
    """Where a shard belongs: at home; while that is drained or lost, in the same other one.

    Of the others each has a share by its capacity.
    """
    birthplace = specs.birthplace(spec, shard)
    if not specs.is_drained(spec, birthplace) and birthplace not in lost:
        return birthplace
    able = {
        region.name: specs.capacity(region)
        for region in spec.regions
        if specs.can_host(spec, region) and region.name not in lost
    }
    return placement.favourite(shard, able) or birthplace


def _may_have(generation: int, taker: Seen) -> bool:
    """Whether a region is there to take what another one is to let go of."""
    report = taker.report
    if taker.state is not ChildState.UP or report is None or report.generation < generation:
        return False
    return any(leader.ready for leader in report.leaders)


def _free(spec: Spec, generation: int, seen: Mapping[str, Seen], lost: Collection[str]) -> set[int]:
    """Shards that no region has, as all that can be asked say by the newest spec."""
    free = set(range(spec.shards))
    for region in spec.regions:
        if specs.is_apart(spec, region) or region.name in lost:
            continue  # none of its journals moves; or it is fenced out of those that do
        found = seen.get(region.name, Seen())
        report = found.report
        if found.state is not ChildState.UP or report is None or report.generation < generation:
            return set()
        free.difference_update(report.placement)
        free.difference_update(s.shard for leader in report.leaders for s in leader.shards)
    return {shard for shard in free if not specs.home(spec, shard)}
