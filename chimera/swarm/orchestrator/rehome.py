"""Which region has which shard, when one is drained: let go first, taken after, never by two.

A shard goes in two steps, each of them a generation of the spec: its region lets go of it, once all
that runs of it is recorded, and only when every region says that it has it not is it given to
another. So an orchestrator that dies between them goes on where it was.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from chimera.swarm import placement
from chimera.swarm import spec as specs
from chimera.swarm.orchestrator.plan import Seen
from chimera.swarm.orchestrator.state import ChildState
from chimera.swarm.spec import Spec


def rehomed(spec: Spec, generation: int, seen: Mapping[str, Seen]) -> Spec | None:
    """The spec with the next step of every shard that is to move; None: none can be taken now."""
    if not spec.operations.homes and not any(specs.is_drained(spec, r.name) for r in spec.regions):
        return None
    homes = {str(shard): specs.home(spec, shard) for shard in range(spec.shards)}
    free = _free(spec, generation, seen)
    for shard in range(spec.shards):
        wanted, key = _wanted(spec, shard), str(shard)
        if homes[key] == wanted:
            continue
        if homes[key]:
            homes[key] = ""
        elif shard in free:
            homes[key] = wanted
    moved = {key: home for key, home in homes.items() if home != specs.birthplace(spec, int(key))}
    if moved == spec.operations.homes:
        return None
    operations = msgspec.structs.replace(spec.operations, homes=moved)
    return msgspec.structs.replace(spec, operations=operations)


def _wanted(spec: Spec, shard: int) -> str:
    """Where a shard belongs: at home, or while that is drained, always in the same other region."""
    birthplace = specs.birthplace(spec, shard)
    if not specs.is_drained(spec, birthplace):
        return birthplace
    able = [region.name for region in spec.regions if specs.can_host(spec, region)]
    return max(able, key=lambda name: placement.affinity(shard, name), default=birthplace)


def _free(spec: Spec, generation: int, seen: Mapping[str, Seen]) -> set[int]:
    """Shards that no region has, as all of them say by the newest spec."""
    free = set(range(spec.shards))
    for region in spec.regions:
        if specs.is_apart(region):
            continue  # it has journals of its own, and none of them moves
        found = seen.get(region.name, Seen())
        report = found.report
        if found.state is not ChildState.UP or report is None or report.generation < generation:
            return set()
        free.difference_update(report.placement)
        free.difference_update(s.shard for leader in report.leaders for s in leader.shards)
    return {shard for shard in free if not specs.home(spec, shard)}
