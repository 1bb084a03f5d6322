"""What an orchestrator's machine tells of the swarm: what is to be done, what a change would do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from chimera import names
from chimera.swarm import spec as specs
from chimera.swarm.orchestrator import regions
from chimera.swarm.orchestrator.conditions import conditions, objectives
from chimera.swarm.orchestrator.plan import Wanted, plan
from chimera.swarm.orchestrator.state import ChildState
from chimera.swarm.orchestrator.wishes import applied
from chimera.swarm.orders import Preview
from chimera.swarm.reports import ChildInfo, Condition
from chimera.swarm.spec import Spec

if TYPE_CHECKING:
    from chimera.swarm.orchestrator.machine import Orchestrator


def pending(machine: Orchestrator) -> tuple[str, ...]:
    """What is yet to be done, in words."""
    return tuple(map(str, plan(machine.wanted(), machine.seen())))


def preview(machine: Orchestrator, spec: Spec) -> Preview:
    """What another spec would change and bring about. Raises SpecError."""
    wanted = applied(machine.spec, spec)
    changes = specs.changes(machine.spec, wanted)
    generation = machine.generation + bool(changes)
    actions = plan(Wanted(wanted, generation), machine.seen())
    return Preview(generation, changes, tuple(map(str, actions)))


def conditions_of(machine: Orchestrator, now: float) -> Iterator[Condition]:
    """What holds at `now`, without times."""
    wanted, seen = machine.wanted(), machine.seen()
    actions = plan(wanted, seen)
    yield from conditions(wanted, seen, actions, machine.waiting_for(), machine.faults())
    yield from objectives(machine.budgets.told(now))


def children(machine: Orchestrator, now: float) -> dict[str, ChildInfo]:
    """What is to be said of each coordinator at `now`, by its name."""
    shared = specs.is_shared(machine.spec)
    return {
        names.coordinator(child.region): regions.info(child, shared, now)
        for child in machine.children.values()
    }


def observed_generation(machine: Orchestrator) -> int:
    """The newest generation that all work by; 0: not all were heard."""
    found: list[int] = []
    for child in machine.children.values():
        if child.state is not ChildState.UP or child.report is None:
            return 0
        found += [child.report.generation, *(one.generation for one in child.report.leaders)]
    return min(found, default=0)


def broken(machine: Orchestrator, left_behind: bool) -> Iterator[str]:
    """Invariants that do not hold; `left_behind`: effects of the last step are still there."""
    for child in machine.children.values():
        if child.state is ChildState.UP and child.report is None:
            yield f"{child.region} is up without a report"
    if {region.name for region in machine.spec.regions} != machine.children.keys():
        yield "regions and coordinators differ"
    if left_behind:
        yield "effects of a step were left behind"
