"""`chimera status`: what is observed of a swarm, from the orchestrator down to its workers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from rich.markup import escape
from rich.tree import Tree

from chimera import names
from chimera.cli.joining import Target, target_options
from chimera.cli.output import ERROR, Output, command
from chimera.swarm import merge, slo
from chimera.swarm.reports import Condition, LeaderReport, RegionReport, SwarmStatus
from chimera.swarm.slo import SloReport
from chimera.swarm.spec import shown


@command()
@target_options
def status(out: Output, target: Target) -> int:
    """Show a swarm's parts, and what each is missing.

    Ends with 0 if the swarm is ready, 1 if it is not, 3 if it is not up.

    \b
    Examples:
      chimera status
      chimera status -o json
    """
    found = target.status()
    out.result(plain(found), lambda: show(out, found))
    return 0 if found.ready else ERROR


def read_status(swarm: str, address: str | None) -> SwarmStatus:
    """What is observed of a swarm. Raises NotFound if it is not up."""
    return Target(swarm, "default", address).status()


def plain(status: SwarmStatus | RegionReport) -> Any:
    """A status as JSON-like data, without Ray's handles."""
    found = msgspec.to_builtins(status, enc_hook=lambda _: None, str_keys=True)
    if isinstance(found.get("spec"), dict):
        found["spec"] = shown(found["spec"])
    return _without_handles(found)


def _without_handles(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_handles(one) for key, one in value.items() if key != "handle"}
    if isinstance(value, (list, tuple)):
        return [_without_handles(one) for one in value]
    return value


def show(out: Output, status: SwarmStatus) -> None:
    """Print it as a tree."""
    out.console.print(tree(status))


def tree(status: SwarmStatus) -> Tree:
    """The swarm as a tree: orchestrator, coordinators, leaders with shards, workers.

    Of a gateway's tree some is not known: `chimera.http.status`.
    """
    state = "[green]ready[/]" if status.ready else f"[yellow]{escape(_waits(status))}[/]"
    seen = status.observed_generation or 0
    behind = f" [yellow]({seen} observed)[/]" if 0 < seen < status.generation else ""
    root = Tree(f"[bold]{escape(status.swarm)}[/] {state}, generation {status.generation}{behind}")
    process = status.process
    top = root.add(f"orchestrator [dim]pid {process.pid}, term {status.term}[/]")
    _add_faults(top, status.faults)
    notable = _notable(status)
    _add_conditions(top, notable, names.ORCHESTRATOR)
    for report in status.slos:
        top.add(_objective(report))
    for name in sorted(status.regions):
        _add_region(top, status.regions[name], notable)
    return root


#: what a condition is when there is nothing to say about it
_QUIET = {"Ready": "True", "Reconciled": "True", "Degraded": "False", "Paused": "False"}


def _notable(status: SwarmStatus) -> list[Condition]:
    """Conditions that a person would want to know of; faults are shown by themselves."""
    found = (one for one in status.conditions or () if one.type != "Degraded")
    return [one for one in found if _QUIET.get(one.type) != one.status]


def _add_conditions(branch: Tree, conditions: list[Condition], subject: str) -> None:
    for one in conditions:
        if one.subject == subject:
            at = datetime.fromtimestamp(one.since / 1000).astimezone().strftime("%H:%M:%S")
            branch.add(f"[yellow]{escape(_words(one))}[/] [dim]since {at}[/]")


def _words(condition: Condition) -> str:
    """A condition as a person says it; its reason is for programs."""
    name = "SLO met" if condition.type == "SloMet" else condition.type.lower()
    said = {"True": "", "False": "not "}.get(condition.status, "perhaps ") + name
    return f"{said}: {condition.message}" if condition.message else said


def _objective(report: SloReport) -> str:
    color, state = _SLO_STATES[report.met]
    return f"slo {escape(report.slo.name)} [{color}]{state}[/]: {escape(slo.words(report))}"


#: colour and word by whether an objective is met
_SLO_STATES = {True: ("green", "met"), False: ("red", "missed"), None: ("yellow", "unknown")}


def _waits(status: SwarmStatus) -> str:
    if status.stopping:
        return "stopping"
    return f"waits for {status.waiting_for}" if status.waiting_for else "not ready"


def _add_region(top: Tree, region: RegionReport, notable: list[Condition]) -> None:
    state = "ready" if region.ready else "[yellow]not ready[/]"
    failovers = f", {region.failovers} failovers" if region.failovers else ""
    branch = top.add(
        f"{escape(region.coordinator)} {state}"
        f" [dim]pid {region.process.pid}, term {region.term}{failovers}[/]"
    )
    _add_faults(branch, region.faults)
    _add_conditions(branch, notable, region.coordinator)
    tally = region.tally or ()
    counted = merge.totals(tally)
    done = ", ".join(f"{counted[name]:,} {name}" for name in _SHOWN if counted.get(name))
    run = merge.latency(tally, "run", (0.5, 0.99))
    if done and run:
        branch.add(f"{done}; a task takes {_span(run[0])}, 1 of 100 over {_span(run[1])}")
    for leader in region.leaders:
        _add_leader(branch, leader, notable)


def _add_leader(branch: Tree, leader: LeaderReport, notable: list[Condition]) -> None:
    state = "ready" if leader.ready else "[yellow]not ready[/]"
    counters = leader.counters
    done = ", ".join(f"{counters[name]:,} {name}" for name in _SHOWN if counters.get(name))
    tail = f": {done}" if done else ""
    child = branch.add(f"{escape(leader.leader)} {state} [dim]pid {leader.process.pid}[/]{tail}")
    _add_faults(child, leader.faults)
    _add_conditions(child, notable, leader.leader)
    for shard in sorted(leader.shards, key=lambda one: one.shard):
        kind = "" if shard.state == "serving" else f" [yellow]{shard.state}[/]"
        waiting = f", {shard.open:,} open" if shard.open else ""
        child.add(f"shard {shard.shard}{kind} [dim]epoch {shard.epoch}{waiting}[/]")
    for worker in leader.workers:
        child.add(f"{escape(worker.name)} [dim]pid {worker.process.pid}[/]")


def _span(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


#: counters of a leader that a person looks for first
_SHOWN = ("accepted", "succeeded", "failed", "cancelled", "expired", "retried", "worker_deaths")


def _add_faults(branch: Tree, faults: tuple[str, ...]) -> None:
    for fault in faults:
        branch.add(f"[red]fault:[/] {escape(fault)}")
