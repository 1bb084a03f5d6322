"""How a swarm and its parts are, as conditions: what holds, why, and since when.

After the conventions of Kubernetes: a type, `True`, `False` or `Unknown`, a reason for programs, a
message for people, and the moment of the last change of status.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from chimera import names
from chimera.swarm import slo
from chimera.swarm import spec as specs
from chimera.swarm.orchestrator.plan import Action, Seen, Wanted
from chimera.swarm.orchestrator.state import ChildState
from chimera.swarm.reports import Condition, RegionReport
from chimera.swarm.slo import SloReport


@dataclass(slots=True)
class Conditions:
    """The conditions of the last look, each with the time of its last change."""

    _since: dict[tuple[str, str], tuple[str, float]] = field(default_factory=dict)
    _found: tuple[Condition, ...] = ()
    looked_at: float = float("-inf")

    def look(self, found: Iterable[Condition], now: float) -> None:
        """Take in what holds at `now` (seconds, monotonic)."""
        self._found, self.looked_at = tuple(found), now
        since = {}
        for one in self._found:
            key = one.subject, one.type
            status, at = self._since.get(key, ("", now))
            since[key] = one.status, at if status == one.status else now
        self._since = since

    def told(self, now: float, unix_ms: int) -> tuple[Condition, ...]:
        """All of them; `now` and `unix_ms` are the same moment."""
        return tuple(
            Condition(
                one.subject, one.type, one.status, one.reason, one.message,
                unix_ms - round(1000 * (now - self._since[one.subject, one.type][1])),
            )
            for one in self._found
        )  # fmt: skip


def conditions(
    wanted: Wanted,
    seen: Mapping[str, Seen],
    actions: tuple[Action, ...],
    waiting_for: str,
    faults: tuple[str, ...],
) -> Iterator[Condition]:
    """What holds of the swarm, its regions and its leaders."""
    swarm = names.ORCHESTRATOR
    yield _bool(swarm, "Ready", not waiting_for, "Serving", "Waiting", f"waits for {waiting_for}")
    left = f"{len(actions)} left: {_told(actions)}"
    yield _bool(swarm, "Reconciled", not actions, "AsDeclared", "Progressing", left)
    yield _if(swarm, "Degraded", faults, "Faults", "NoFaults")
    ordered = wanted.spec.operations
    paused = [f"type {name}" for name in ordered.paused_types]
    paused += [f"tenant {name}" for name in ordered.paused_tenants]
    yield _if(swarm, "Paused", paused, "Ordered", "NothingPaused")
    for region in wanted.spec.regions:
        yield from _region(wanted, region.name, seen.get(region.name, Seen()), actions)


def _region(
    wanted: Wanted, region: str, seen: Seen, actions: tuple[Action, ...]
) -> Iterator[Condition]:
    name, report = names.coordinator(region), seen.report
    if seen.state is not ChildState.UP or report is None:
        told = f"its coordinator is {seen.state.value}"
        yield Condition(name, "Ready", "Unknown", "NotHeard", told)
        return
    yield _bool(name, "Ready", report.ready, "Serving", "Waiting", "not every shard is served")
    mine = {name, *(leader.leader for leader in report.leaders)}
    left = tuple(action for action in actions if action.subject in mine)
    yield _bool(name, "Reconciled", not left, "AsDeclared", "Progressing", _told(left))
    yield from _leaders(wanted, region, report)


def _leaders(wanted: Wanted, region: str, report: RegionReport) -> Iterator[Condition]:
    planned = specs.region_plan(wanted.spec, region, wanted.generation).leader_names()
    for leader in report.leaders:
        name = leader.leader
        yield _bool(name, "Ready", leader.ready, "WorkersReady", "NoWorkers", "no worker is ready")
        if name not in planned:
            left = f"{len(leader.shards)} shards, {len(leader.workers)} workers left"
            yield Condition(name, "Draining", "True", "NotDeclared", left)


def objectives(reports: Iterable[SloReport]) -> Iterator[Condition]:
    """What holds of the objectives of service; of one without data nothing is known."""
    for one in reports:
        status, reason = {
            True: ("True", "Met"), False: ("False", "Missed"), None: ("Unknown", "NoData")
        }[one.met]  # fmt: skip
        yield Condition(f"slo/{one.slo.name}", "SloMet", status, reason, slo.words(one))


def _bool(
    subject: str, type: str, holds: bool, reason: str, otherwise: str, message: str
) -> Condition:
    if holds:
        return Condition(subject, type, "True", reason)
    return Condition(subject, type, "False", otherwise, message)


def _if(subject: str, type: str, found: Iterable[str], reason: str, otherwise: str) -> Condition:
    told = "; ".join(found)
    if told:
        return Condition(subject, type, "True", reason, told)
    return Condition(subject, type, "False", otherwise)


def _told(actions: tuple[Action, ...]) -> str:
    some = "; ".join(f"{one.verb} {one.subject} ({one.why})" for one in actions[:3])
    return some + ("; …" if len(actions) > 3 else "")
