"""`chimera scale`: a region of another size. Also: how all orders are given and told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from chimera.cli.joining import join_living
from chimera.cli.output import Output, address_option, command
from chimera.swarm.orders import Order, Ordered, Scale

#: seconds for a swarm to become what was ordered
WAIT_TIMEOUT_S = 120.0


def wait_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--wait` and `--timeout`."""
    for option in (
        click.option("--timeout", default=WAIT_TIMEOUT_S, show_default=True,
                     help="Seconds that --wait waits, at most."),
        click.option("--wait", is_flag=True, help="Wait until the swarm is as declared."),
    ):  # fmt: skip
        function = option(function)
    return function


@command()
@address_option
@click.argument("region")
@click.option("--leaders", type=int, help="Number of leaders.")
@click.option("--workers", type=int, help="Workers of each leader, at least.")
@click.option("--workers-max", type=int, help="Workers of each leader, at most; 0: as at least.")
@wait_options
def scale(
    out: Output, swarm: str, address: str | None, region: str, leaders: int | None,
    workers: int | None, workers_max: int | None, wait: bool, timeout: float,
) -> None:  # fmt: skip
    """Give a region another number of leaders or workers; no task is lost or run again by it.

    The next `chimera apply` or `chimera up` makes it what the file says.

    \b
    Examples:
      chimera scale local --leaders 4 --wait
      chimera scale local --workers 1 --workers-max 8
    """
    give(out, swarm, address, Scale(region, leaders, workers, workers_max), wait, timeout)


def give(
    out: Output, swarm: str, address: str | None, order: Order, wait: bool, timeout_s: float
) -> None:
    """Give an order, and say what becomes of it."""
    join_living(swarm, address)
    from chimera.actors import operate

    told_and_awaited(out, swarm, operate.order(swarm, order), wait, timeout_s)


def told_and_awaited(
    out: Output, swarm: str, ordered: Ordered, wait: bool, timeout_s: float
) -> None:
    """Wait if it is asked for, then print what changed."""
    from chimera.actors import operate

    if wait:
        with out.step(f"bringing about generation {ordered.generation}") as change:
            operate.wait(swarm, ordered.generation, timeout_s, change)
    told = {"generation": ordered.generation, "changes": ordered.changes, "awaited": wait}
    out.result(told, lambda: _show(out, ordered, wait))


def _show(out: Output, ordered: Ordered, wait: bool) -> None:
    from chimera.cli.apply import changed

    for change in ordered.changes:
        out.console.print(changed(change))
    if not ordered.changes:
        out.note(f"no change: generation {ordered.generation} declares that already")
    elif wait:
        out.note(f"generation {ordered.generation} is brought about")
    else:
        out.note(f"declared as generation {ordered.generation}; `chimera status` shows its way")
