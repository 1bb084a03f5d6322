"""`chimera sim`: the machines against thousands of schedules of faults, in virtual time."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import click
import msgspec

from chimera.cli.output import ERROR, Output, command

#: failing seeds that are shrunk and shown
SHOWN_MAX = 5


@command(of_a_swarm=False)
@click.option("--seeds", default=200, show_default=True, help="How many seeds to run.")
@click.option("--first", default=0, show_default=True, help="The first seed.")
@click.option("--processes", default=2, show_default=True, help="Processes to run them in.")
@click.option("--replay", type=int, metavar="SEED", help="Run one seed again.")
@click.option("--trace", is_flag=True, help="With --replay: print every step.")
@click.option("--shrink", is_flag=True, help="Leave out faults while a seed still fails.")
def sim(
    out: Output,
    seeds: int,
    first: int,
    processes: int,
    replay: int | None,
    trace: bool,
    shrink: bool,
) -> int:
    """Simulate swarms that break in every way, and check every guarantee after each step.

    A seed fixes all that happens: with the same version, `--replay SEED` is the same run to the
    byte. Ends with 1 if an invariant was broken, or if 500 seeds or more left a fault or a recovery
    unreached: counters that stayed at zero are named.

    \b
    Examples:
      chimera sim --seeds 20
      chimera sim --replay 7 --trace
    """
    from chimera.sim import reach
    from chimera.sim import run as simulator

    if replay is not None:
        found = simulator.run(replay, trace=trace)
        if shrink and found.fault:
            found = simulator.run(replay, simulator.shrink(found).schedule, trace=trace)
        out.result(plain(found), lambda: show(out, found))
        return ERROR if found.fault else 0
    began, failed, counters, events = time.monotonic(), [], Counter[str](), 0
    with out.bars() as bar:
        task = bar.add_task("seeds", total=seeds)
        for result in simulator.run_many(range(first, first + seeds), processes):
            counters.update(result.counters)
            events += result.events
            if result.fault:
                failed.append(result)
            bar.advance(task)
    failed.sort(key=lambda one: one.seed)
    if shrink:
        failed[:SHOWN_MAX] = [simulator.shrink(one) for one in failed[:SHOWN_MAX]]
    summary: dict[str, Any] = {
        "seeds": seeds,
        "first": first,
        "failed": [plain(one) for one in failed],
        "events": events,
        "seconds": round(time.monotonic() - began, 1),
        "counters": dict(sorted(counters.items())),
        "unreached": reach.unreached(counters),
    }
    out.result(summary, lambda: show_all(out, summary))
    untested = seeds >= reach.SEEDS_ENOUGH and summary["unreached"]
    return ERROR if failed or untested else 0


def plain(result: Any) -> dict[str, Any]:
    """A result as JSON-like data."""
    return {
        "seed": result.seed,
        "fault": result.fault,
        "digest": result.digest,
        "events": result.events,
        "virtual_s": round(result.virtual_s, 3),
        "schedule": msgspec.to_builtins(result.schedule),
        "trace": list(result.trace),
    }


def show(out: Output, result: Any) -> None:
    """One seed, for a person."""
    for line in result.trace:
        out.console.print(line, markup=False)
    for fault in result.schedule:
        out.console.print(f"{fault.at:8.3f} s  {fault.kind}  for {fault.span_s} s", markup=False)
    said = result.fault or "every invariant holds"
    out.console.print(f"seed {result.seed}: {said}", markup=False)
    out.console.print(f"trace {result.digest}, {result.events} events", markup=False)


def show_all(out: Output, summary: dict[str, Any]) -> None:
    """Many seeds, for a person."""
    for name, count in summary["counters"].items():
        out.console.print(f"{count:>10,}  {name}", markup=False)
    for name in summary["unreached"]:
        out.console.print(f"{0:>10}  {name}: never reached", markup=False)
    for one in summary["failed"]:
        out.console.print(f"seed {one['seed']}: {one['fault']}", markup=False)
        for fault in one["schedule"]:
            out.console.print(f"    {fault['at']:8.3f} s  {fault['kind']}  {fault['span_s']} s")
    failed = len(summary["failed"])
    out.console.print(
        f"{summary['seeds']} seeds, {failed} failed, {summary['events']:,} events"
        f" in {summary['seconds']} s",
        markup=False,
    )
