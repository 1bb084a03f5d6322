"""`chimera top`: rates, queues, leaders, workers and failovers, as they change."""

from __future__ import annotations

import time
from typing import Any, ClassVar, NamedTuple

import click
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.widgets import DataTable, Footer, Static

from chimera.cli.joining import Target, target_options
from chimera.cli.output import Output, command
from chimera.cli.parse import duration
from chimera.errors import ChimeraError
from chimera.swarm.reports import SwarmStatus

#: counters whose rate is shown, and the column's title
RATES = {"accepted": "in/s", "succeeded": "done/s", "failed": "failed/s", "retried": "retried/s"}


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


def headline(status: SwarmStatus, rows: list[Row]) -> str:
    """The swarm in one line."""
    failovers = sum(region.failovers for region in status.regions.values())
    state = "ready" if status.ready else f"waits for {status.waiting_for or 'its parts'}"
    total = [sum(row.rates[at] for row in rows) for at in range(len(RATES))]
    told = "  ".join(
        f"{one:,.0f} {title}" for one, title in zip(total, RATES.values(), strict=True)
    )
    workers = sum(row.workers for row in rows)
    return (
        f"{status.swarm}: {state}  {told}  {sum(row.open for row in rows):,} open  "
        f"{len(rows)} leaders  {workers} workers  {failovers} failovers"
    )


class Top(App[None]):
    """The screen."""

    ENABLE_COMMAND_PALETTE = False
    CSS = "Static { height: auto; padding: 0 1; } DataTable { height: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [("q,ctrl+c", "quit", "Quit")]

    def __init__(self, target: Target, every_s: float) -> None:
        super().__init__()
        self._target = target
        self._every_s = every_s
        self._rates = Rates()
        self._looking = False

    def compose(self) -> ComposeResult:
        yield Static("…", id="head")
        yield DataTable(id="leaders", cursor_type="none", zebra_stripes=True)
        yield Static("", id="faults")
        yield Footer()

    def on_mount(self) -> None:
        columns = ("leader", "state", "open", *RATES.values(), "shards", "workers", "lag ms")
        self.query_one(DataTable).add_columns(*columns)
        self.set_interval(self._every_s, self._ask)
        self._ask()

    def _ask(self) -> None:
        if not self._looking:  # an answer may take longer than the interval
            self._looking = True
            self.run_worker(self._look, thread=True)

    def _look(self) -> None:
        try:
            found: SwarmStatus | ChimeraError = self._target.status()
        except ChimeraError as fault:
            found = fault
        finally:
            self._looking = False
        self.call_from_thread(self._show, found)

    def _show(self, found: SwarmStatus | ChimeraError) -> None:
        if isinstance(found, ChimeraError):
            self.query_one("#head", Static).update(Text(found.message, style="yellow"))
            return
        rows = self._rates.rows(found, time.monotonic())
        self.query_one("#head", Static).update(Text(headline(found, rows)))
        table = self.query_one(DataTable)
        table.clear()
        for row in rows:
            table.add_row(*_cells(row))
        faults = [*found.faults]
        for region in found.regions.values():
            faults += [*region.faults, *(one for led in region.leaders for one in led.faults)]
        self.query_one("#faults", Static).update(Text("\n".join(faults[-5:]), style="red"))


def _cells(row: Row) -> list[Any]:
    numbers = [f"{one:,.0f}" for one in row.rates]
    state = Text(row.state, style="green" if row.state == "ready" else "yellow")
    told = (f"{row.open:,}", *numbers, str(row.shards), str(row.workers), f"{row.lag_ms:.0f}")
    return [row.name, state, *(Text(one, justify="right") for one in told)]


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
    if out.console.is_terminal and not once and not out.is_structured:
        Top(target, every_s).run()
        return
    rates = Rates()
    rates.rows(first, time.monotonic())
    time.sleep(every_s)
    status = target.status()
    rows = rates.rows(status, time.monotonic())
    out.note(headline(status, rows))
    told = [
        {**{name: one for name, one in row._asdict().items() if name != "rates"},
         **dict(zip(RATES.values(), (round(one, 1) for one in row.rates), strict=True))}
        for row in rows
    ]  # fmt: skip
    out.table(told, ("name", "state", "open", *RATES.values(), "shards", "workers", "lag_ms"))
