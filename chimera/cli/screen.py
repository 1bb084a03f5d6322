"""The screen of `chimera top`."""

from __future__ import annotations

import textwrap
import time
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.coordinate import Coordinate
from textual.widgets import DataTable, Footer, Static

from chimera.cli.joining import Target
from chimera.cli.output import visible
from chimera.cli.top import GAP, Rates, Row, cells, fitting, headline
from chimera.errors import ChimeraError
from chimera.swarm.reports import SwarmStatus

#: seconds that a look may take: q waits for one that is under way
LOOK_TIMEOUT_S = 2.0


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
            self.query_one("#head", Static).update(Text(visible(found.message), style="yellow"))
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
        self._fill([cells(row) for row in rows])
        faults = [*found.faults]
        for region in found.regions.values():
            faults += [*region.faults, *(one for led in region.leaders for one in led.faults)]
        self.query_one("#faults", Static).update(Text(visible("\n".join(faults[-5:])), style="red"))

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


def _styled(column: str, told: str) -> Text:
    if column == "leader":
        return Text(told)
    if column == "state":
        return Text(told, style="green" if told == "ready" else "yellow")
    return Text(told, justify="right")
