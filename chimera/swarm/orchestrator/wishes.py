"""What a person wishes of the swarm, as the spec that it makes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from chimera.errors import PreconditionFailed
from chimera.swarm import orders
from chimera.swarm import spec as specs
from chimera.swarm.orchestrator.events import Apply, Operate
from chimera.swarm.orchestrator.state import Child
from chimera.swarm.orders import Drain
from chimera.swarm.spec import Spec


class Wish(NamedTuple):
    """A spec that is wished for, and what the wish is called in the audit log."""

    spec: Spec
    action: str
    subject: str


def wish(spec: Spec, generation: int, event: Apply | Operate, children: Iterable[Child]) -> Wish:
    """What a living swarm's spec becomes.

    Raises SpecError, NotFound, InvalidRequest, PreconditionFailed.
    """
    if isinstance(event, Apply):
        return Wish(applied(spec, event.spec), "apply", spec.name)
    if event.expected and generation not in event.expected:
        raise PreconditionFailed(
            f"the spec is at generation {generation} by now", generation=generation
        )
    order = event.order
    subject = order.target if isinstance(order, Drain) else spec.name
    found = orders.ordered(spec, order, _living_workers(children))
    return Wish(found, orders.verb(order), subject)


def applied(old: Spec, new: Spec) -> Spec:
    """A spec from a file, with what operators ordered of the old one. Raises SpecError."""
    wanted = specs.carried_over(old, new)
    specs.check_change(old, wanted)
    return wanted


def _living_workers(children: Iterable[Child]) -> set[str]:
    """Those that live, as far as was heard."""
    reports = [child.report for child in children if child.report is not None]
    return {w.name for report in reports for leader in report.leaders for w in leader.workers}
