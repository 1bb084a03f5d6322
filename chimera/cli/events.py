"""`chimera events`: what ended, and what ends."""

from __future__ import annotations

import click
from rich.markup import escape

from chimera.cli.joining import Target, hint, target_options
from chimera.cli.output import Output, command, dump
from chimera.cli.parse import duration
from chimera.cli.select import row
from chimera.store.protocol import TaskRecord

_COLOURS = {"succeeded": "green", "failed": "red"}


@command()
@target_options
@click.option("-w", "--watch", is_flag=True, help="Go on with what ends from now on.")
@click.option("--type", "type_", help="Only of this task type.")
@click.option(
    "--limit",
    default=20,
    show_default=True,
    type=click.IntRange(0),
    help="How many of the past: of those that have ended, the ones accepted last.",
)
@click.option("--for", "for_s", callback=duration, help="End after so long, e.g. 30s.")
def events(
    out: Output, target: Target, watch: bool, type_: str | None, limit: int, for_s: float | None
) -> None:  # fmt: skip
    """Show which tasks ended, the oldest end first; with -w, a line for each that ends.

    \b
    Examples:
      chimera events
      chimera events -w --for 1s --type mail.send
      chimera events -w --for 1s --json
    """
    with target.client() as client:
        past: list[TaskRecord] = []
        if limit:
            for one in client.list(type=type_):
                if one.settled_at is not None:
                    past.append(one)
                if len(past) == limit:
                    break
        if type_ and not past:
            hint(out, client, [type_])
        for one in sorted(past, key=lambda one: one.settled_at or 0):
            _say(out, one)
        if watch:
            for one in client.events(type=type_, for_s=for_s):
                _say(out, one)


def _say(out: Output, record: TaskRecord) -> None:
    told = row(record)
    if out.is_structured:
        out.line(dump(told))  # one JSON value a line: a stream has no end to close a list at
        return
    if out.format == "name":
        out.line(told["id"])
        return
    colour = _COLOURS.get(record.state, "yellow")
    out.console.print(
        f"{told['ended'] or ''} [{colour}]{record.state:9}[/] {told['id']} {escape(record.type)}"
    )
