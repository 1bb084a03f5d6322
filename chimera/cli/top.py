"""`chimera top`: rates, queues, leaders, workers and failovers, as they change."""

from __future__ import annotations

import time
from typing import NamedTuple

import click

from chimera.cli.joining import Target, target_options
from chimera.cli.output import Output, command
from chimera.cli.parse import duration
from chimera.swarm.reports import SwarmStatus

#: counters whose rate is shown, and the column's title
RATES = {"accepted": "in/s", "succeeded": "done/s", "failed": "failed/s", "retried": "retried/s"}
COLUMNS = ("leader", "state", "open", *RATES.values(), "shards", "workers", "lag ms")
#: what a narrow window goes without, first the least missed
DISPENSABLE = ("shards", "lag ms", "retried/s", "workers", "failed/s", "state")
#: columns of a window between two of the table's
GAP = 2


class Row(NamedTuple):
    """A leader in a moment."""

    name: str
    state: str
    open: int
    shards: int
    workers: int
    lag_ms: float
    rates: tuple[float, ...]


class Rates:
    """What counters grew by since the last look; a leader that began anew begins at nothing."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[float, dict[str, int]]] = {}

    def rows(self, status: SwarmStatus, now: float) -> list[Row]:
        """The leaders of a status, each with its rates a second."""
        found = []
        for region in status.regions.values():
            for one in region.leaders:
                at, before = self._before.get(one.leader, (now, one.counters))
                took = now - at
                rates = tuple(
                    max(one.counters.get(name, 0) - before.get(name, 0), 0) / took if took else 0.0
                    for name in RATES
                )
                self._before[one.leader] = now, one.counters
                found.append(
                    Row(one.leader, "ready" if one.ready else "not ready",
                        sum(shard.open for shard in one.shards), len(one.shards),
                        len(one.workers), one.lag_ms, rates)
                )  # fmt: skip
        return found


def headline(status: SwarmStatus, rows: list[Row]) -> list[str]:
    """The swarm in a few words: its state, then numbers."""
    failovers = sum(region.failovers for region in status.regions.values())
    state = "ready" if status.ready else f"waits for {status.waiting_for or 'its parts'}"
    total = [sum(row.rates[at] for row in rows) for at in range(len(RATES))]
    return [
        f"{status.swarm}: {state}",
        *(f"{one:,.0f} {title}" for one, title in zip(total, RATES.values(), strict=True)),
        f"{sum(row.open for row in rows):,} open", _count(len(rows), "leader"),
        _count(sum(row.workers for row in rows), "worker"), _count(failovers, "failover"),
    ]  # fmt: skip


def _count(number: int, of: str) -> str:
    return f"{number} {of}" if number == 1 else f"{number} {of}s"


def fitting(rows: list[dict[str, str]], width: int) -> list[str]:
    """The columns that a window has room for: all, or without those that are missed least."""
    needs = {one: max(len(one), *(len(row[one]) for row in rows), 0) + GAP for one in COLUMNS}
    shown = list(COLUMNS)
    for one in DISPENSABLE:
        if sum(needs[name] for name in shown) > width:
            shown.remove(one)
    return shown


def cells(row: Row) -> dict[str, str]:
    """What the screen says of a leader, by column."""
    told = (row.name, row.state, f"{row.open:,}", *(f"{one:,.0f}" for one in row.rates),
            str(row.shards), str(row.workers), f"{row.lag_ms:.0f}")  # fmt: skip
    return dict(zip(COLUMNS, told, strict=True))


@command()
@target_options
@click.option(
    "--every",
    "every_s",
    callback=duration,
    default="1s",
    show_default=True,
    help="Between two looks.",
)
@click.option("--once", is_flag=True, help="Print it once, with rates over --every; also if piped.")
def top(out: Output, target: Target, every_s: float, once: bool) -> None:
    """Show rates, queues, leaders, workers and failovers, as they change; q or Ctrl-C ends it.

    \b
    Examples:
      chimera top --once
      chimera top --once -o json
    """
    first = target.status()  # a swarm that is not up is told before the screen is taken
    if out.has_screen and not once and not out.is_structured:
        from chimera.cli.screen import Top  # here: the rest needs no Textual

        Top(target, every_s).run()
        return
    rates = Rates()
    rates.rows(first, time.monotonic())
    time.sleep(every_s)
    status = target.status()
    rows = rates.rows(status, time.monotonic())
    out.note("  ".join(headline(status, rows)))
    told = [
        {**{name: one for name, one in row._asdict().items() if name != "rates"},
         "lag_ms": round(row.lag_ms, 1),
         **dict(zip(RATES.values(), (round(one, 1) for one in row.rates), strict=True))}
        for row in rows
    ]  # fmt: skip
    out.table(told, ("name", "state", "open", *RATES.values(), "shards", "workers", "lag_ms"))
