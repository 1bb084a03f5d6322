"""`chimera status`: what is observed of a swarm, from the orchestrator down to its workers."""

from __future__ import annotations

from typing import Any

import msgspec
from rich.markup import escape
from rich.tree import Tree

from chimera.cli.joining import join
from chimera.cli.output import ERROR, Output, address_option, command
from chimera.errors import NotFound
from chimera.swarm import merge
from chimera.swarm.reports import LeaderReport, RegionReport, SwarmStatus


@command()
@address_option
def status(out: Output, swarm: str, address: str | None) -> int:
    """Show a swarm's parts, and what each is missing.

    Ends with 0 if the swarm is ready, 1 if it is not, 3 if it is not up.
    """
    found = read_status(swarm, address)
    out.result(plain(found), lambda: show(out, found))
    return 0 if found.ready else ERROR


def read_status(swarm: str, address: str | None) -> SwarmStatus:
    """What is observed of a swarm. Raises NotFound if it is not up."""
    if not join(swarm, address):
        raise NotFound(f"swarm {swarm!r} is not up on this machine: `chimera up` starts it")
    from chimera.actors import boot

    return boot.status(swarm)


def plain(status: SwarmStatus) -> Any:
    """The status as JSON-like data, without Ray's handles."""
    return _without_handles(msgspec.to_builtins(status, enc_hook=lambda _: None, str_keys=True))


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
    """The swarm as a tree: orchestrator, coordinators, leaders with shards, workers."""
    state = "[green]ready[/]" if status.ready else f"[yellow]{escape(_waits(status))}[/]"
    root = Tree(f"[bold]{escape(status.swarm)}[/] {state}, generation {status.generation}")
    process = status.process
    top = root.add(f"orchestrator [dim]pid {process.pid}, term {status.term}[/]")
    _add_faults(top, status.faults)
    for name in sorted(status.regions):
        _add_region(top, status.regions[name])
    return root


def _waits(status: SwarmStatus) -> str:
    if status.stopping:
        return "stopping"
    return f"waits for {status.waiting_for}" if status.waiting_for else "not ready"


def _add_region(top: Tree, region: RegionReport) -> None:
    state = "ready" if region.ready else "[yellow]not ready[/]"
    failovers = f", {region.failovers} failovers" if region.failovers else ""
    branch = top.add(
        f"{escape(region.coordinator)} {state}"
        f" [dim]pid {region.process.pid}, term {region.term}{failovers}[/]"
    )
    _add_faults(branch, region.faults)
    counted = merge.totals(region.tally)
    done = ", ".join(f"{counted[name]:,} {name}" for name in _SHOWN if counted.get(name))
    run = merge.latency(region.tally, "run", (0.5, 0.99))
    if done and run:
        branch.add(f"{done}; a task takes {_span(run[0])}, 1 of 100 over {_span(run[1])}")
    for leader in region.leaders:
        _add_leader(branch, leader)


def _add_leader(branch: Tree, leader: LeaderReport) -> None:
    state = "ready" if leader.ready else "[yellow]not ready[/]"
    counters = leader.counters
    done = ", ".join(f"{counters[name]:,} {name}" for name in _SHOWN if counters.get(name))
    tail = f": {done}" if done else ""
    child = branch.add(f"{escape(leader.leader)} {state} [dim]pid {leader.process.pid}[/]{tail}")
    _add_faults(child, leader.faults)
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
