"""One seed from start to end, many seeds at once, and the smallest schedule that still fails."""

from __future__ import annotations

import multiprocessing
import random
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from chimera.sim import faults
from chimera.sim.broken import Broken
from chimera.sim.faults import Fault
from chimera.sim.world import Plan, World


@dataclass(frozen=True)
class Result:
    """What came of a seed."""

    seed: int
    fault: str  #: empty: no invariant was broken
    digest: str  #: hash of the trace
    events: int
    virtual_s: float
    counters: dict[str, int]
    schedule: tuple[Fault, ...]
    trace: tuple[str, ...] = field(default=(), repr=False)
    where: str = field(default="", repr=False)  #: of a fault: the stack


def world(seed: int, schedule: Iterable[Fault] | None = None, *, trace: bool = False) -> World:
    """The world of a seed, with its own schedule of faults or another one, not run yet."""
    plan = Plan.draw(seed)
    if schedule is None:
        schedule = sorted(
            [
                *faults.draw(random.Random(f"faults {seed}"), plan.span_s, plan.shared),
                *faults.draw_apart(seed, plan.span_s),
            ],
            key=lambda fault: fault.at,
        )
    return World(plan, list(schedule), trace)


def run(seed: int, schedule: Iterable[Fault] | None = None, *, trace: bool = False) -> Result:
    """Run one seed to its end, or to the first invariant that is broken."""
    return carry_out(world(seed, schedule, trace=trace))


def carry_out(made: World) -> Result:
    """Run a world to its end, or to the first invariant that is broken."""
    fault = where = ""
    try:
        made.run()
    except Exception as error:  # an error of a machine is what is looked for, too
        fault = str(error) if isinstance(error, Broken) else f"{type(error).__name__}: {error}"
        where = traceback.format_exc()
        made.kernel.note("broken", fault)
    kernel = made.kernel
    return Result(
        made.plan.seed, fault, kernel.digest(), kernel.events, kernel.now, dict(kernel.counters),
        tuple(made.schedule), tuple(kernel.trace or ()), where,
    )  # fmt: skip


def run_many(seeds: Iterable[int], processes: int) -> Iterator[Result]:
    """Results as they come, from several processes."""
    if processes <= 1:
        yield from map(run, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(run, seeds, chunksize=8)


def shrink(failed: Result) -> Result:
    """The smallest schedule found that still breaks something: faults and tasks are left out."""
    best = failed
    smaller = True
    while smaller:
        smaller = False
        for index in range(len(best.schedule)):
            left = best.schedule[:index] + best.schedule[index + 1 :]
            again = run(failed.seed, left)
            if again.fault:
                best, smaller = again, True
                break
    return best
