"""`chimera top`: rates, queues, leaders, workers and failovers, as they change."""

from __future__ import annotations

import textwrap
import time
from typing import ClassVar, NamedTuple

import click
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.coordinate import Coordinate
from textual.widgets import DataTable, Footer, Static

from chimera.cli.joining import Target, target_options
from chimera.cli.output import Output, command
from chimera.cli.parse import duration
from chimera.errors import ChimeraError
from chimera.swarm.reports import SwarmStatus

#: counters whose rate is shown, and the column's title
RATES = {"accepted": "in/s", "succeeded": "done/s", "failed": "failed/s", "retried": "retried/s"}
COLUMNS = ("leader", "state", "open", *RATES.values(), "shards", "workers", "lag ms")
#: what a narrow window goes without, first the least missed
DISPENSABLE = ("shards", "lag ms", "retried/s", "workers", "failed/s", "state")
#: seconds that a look may take: q waits for one that is under way
LOOK_TIMEOUT_S = 2.0
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
        self._last: tuple[SwarmStatus, list[Row]] | None = None
        self._shown: list[str] = []  # columns, then the leaders in the table

    def compose(self) -> ComposeResult:
        yield Static("…", id="head")
        yield DataTable(id="leaders", cursor_type="none", zebra_stripes=True)
        yield Static("", id="faults")
        yield Footer()

    def on_mount(self) -> None:
        self.set_interval(self._every_s, self.ask)
        self.ask()

    def ask(self) -> None:
        """Look once more, if no look is under way."""
        if not self._looking:  # an answer may take longer than the interval
            self._looking = True
            self.run_worker(self._look, thread=True)

    def _look(self) -> None:
        try:
            found: SwarmStatus | ChimeraError = self._target.status(LOOK_TIMEOUT_S)
        except ChimeraError as fault:
            found = fault
        finally:
            self._looking = False
        self.call_from_thread(self._show, found)

    def _show(self, found: SwarmStatus | ChimeraError) -> None:
        if isinstance(found, ChimeraError):
            self.query_one("#head", Static).update(Text(found.message, style="yellow"))
            return
        self._last = found, self._rates.rows(found, time.monotonic())
        self._draw()

    def on_resize(self) -> None:
        """What fits is another now; the size is known only once this event is over."""
        self.call_later(self._draw)

    def _draw(self) -> None:
        if self._last is None:
            return
        found, rows = self._last
        first, *numbers = headline(found, rows)
        # no line may end between a number and its word
        numbers = [one.replace(" ", "\N{NO-BREAK SPACE}") for one in numbers]
        told = textwrap.wrap("  ".join((first, *numbers)), max(self.size.width - GAP, 1))
        self.query_one("#head", Static).update(Text("\n".join(told)))
        self._fill([_cells(row) for row in rows])
        faults = [*found.faults]
        for region in found.regions.values():
            faults += [*region.faults, *(one for led in region.leaders for one in led.faults)]
        self.query_one("#faults", Static).update(Text("\n".join(faults[-5:]), style="red"))

    def _fill(self, rows: list[dict[str, str]]) -> None:
        """Put them into the table; made anew it would forget how far somebody scrolled."""
        table = self.query_one(DataTable)
        columns = fitting(rows, self.size.width)
        shown = [*columns, *(row["leader"] for row in rows)]
        if shown != self._shown:
            table.clear(columns=True)
            table.add_columns(*columns)
            for row in rows:
                table.add_row(*(_styled(name, row[name]) for name in columns))
            self._shown = shown
            return
        for x, name in enumerate(columns):
            told = [row[name] for row in rows]
            widest = max(range(len(told)), key=lambda y: len(told[y]), default=0)
            for y, one in enumerate(told):
                # measuring for one cell of a column measures all of its cells
                place = Coordinate(y, x)
                table.update_cell_at(place, _styled(name, one), update_width=y == widest)


def _cells(row: Row) -> dict[str, str]:
    told = (row.name, row.state, f"{row.open:,}", *(f"{one:,.0f}" for one in row.rates),
            str(row.shards), str(row.workers), f"{row.lag_ms:.0f}")  # fmt: skip
    return dict(zip(COLUMNS, told, strict=True))


def _styled(column: str, told: str) -> Text:
    if column == "leader":
        return Text(told)
    if column == "state":
        return Text(told, style="green" if told == "ready" else "yellow")
    return Text(told, justify="right")


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
