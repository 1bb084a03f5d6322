"""`chimera tasks`: list, show and cancel tasks."""

from __future__ import annotations

from typing import Any

import click
import msgspec
from rich.markup import escape

from chimera.cli.joining import Target, hint, target_options
from chimera.cli.output import Output, command
from chimera.cli.parse import either
from chimera.cli.select import (
    COLUMNS,
    STATES,
    WIDE,
    Chosen,
    act,
    filter_options,
    row,
    sure_options,
)
from chimera.client.outcomes import Outcome
from chimera.store.protocol import TaskRecord


@click.group()
def tasks() -> None:
    """List, show and cancel tasks."""


@command(name="list", group=tasks)
@target_options
@filter_options(STATES)
def list_(out: Output, target: Target, chosen: Chosen) -> None:
    """List tasks, newest first.

    \b
    Examples:
      chimera tasks list
      chimera tasks list --state failed --type mail.send --since 1h -o wide
      chimera tasks list --tag import -o name
    """
    with target.client() as client:
        rows = [row(one) for one in chosen.tasks(client)]
        if chosen.type and not rows:
            hint(out, client, [chosen.type])
    out.table(rows, COLUMNS, WIDE)


@command(group=tasks)
@target_options
@click.argument("task_id", metavar="ID")
def show(out: Output, target: Target, task_id: str) -> None:
    """Show all that is known of a task: its payload, how far it is, and its outcome too.

    \b
    Examples:
      chimera tasks show $ID
    """
    with target.client() as client:
        record = client.get(task_id, payload=True)
        runs = record.state in ("running", "cancelling")
        print_task(out, record, client.progress(task_id) if runs else None)


def print_task(out: Output, record: TaskRecord, progress: Any = None) -> None:
    """A task with its payload and outcome, or how far it is."""
    found = {**row(record), "cancel_requested": record.cancel_requested, "progress": progress}
    found["payload"] = _json(record.payload)
    told = Outcome.of(record)
    error = told.error(record.task_id) if record.settled_at is not None else None
    if error is not None:
        found["error"] = error.message
        found["traceback"] = error.details.get("traceback")
    elif record.body_is_claim:
        found["result"] = "(large: `chimera result` reads it)"
    else:
        found["result"] = _json(record.body)

    def text() -> None:
        for name, value in found.items():
            if value not in (None, [], ""):
                shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
                out.console.print(f"[bold]{name}[/]: {escape(shown)}")

    out.result(found, text)


def _json(text: bytes | None) -> Any:
    if text is None:
        return None
    try:
        return msgspec.json.decode(text)
    except msgspec.MsgspecError:
        return text.decode("utf-8", "replace")


@command(group=tasks)
@target_options
@click.argument("ids", nargs=-1, metavar="[ID]...")
@filter_options(("queued", "scheduled", "running"), limit=1000)
@click.option("--reason", default="", help="Kept with the task.")
@sure_options
def cancel(
    out: Output, target: Target, ids: tuple[str, ...], chosen: Chosen, reason: str,
    dry_run: bool, yes: bool,
) -> int:  # fmt: skip
    """Cancel tasks, by id or by filter; those that run end when their attempt does.

    With --state queued or scheduled one that runs by then goes on.

    \b
    Examples:
      chimera tasks cancel $ID --reason "sent by mistake"
      chimera tasks cancel --type mail.send --state queued --dry-run
      chimera tasks cancel --tag import --yes
    """
    either("ids", bool(ids), "a filter", chosen.says_something)
    with target.client() as client:
        waits = chosen.state in ("queued", "scheduled")
        found = list(ids) or [one.task_id for one in chosen.tasks(client) if one.settled_at is None]
        return act(out, "cancel", found, dry_run, yes,
                   lambda one: client.cancel(one, reason, only_waiting=waits), not ids)  # fmt: skip
