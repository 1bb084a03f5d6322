"""`chimera dlq`: dead letters, to be looked at, run again or given up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click

from chimera.cli.joining import AnyClient, Target, hint, target_options
from chimera.cli.output import Output, command
from chimera.cli.parse import either
from chimera.cli.select import WIDE, Chosen, act, filter_options, row, sure_options
from chimera.cli.tasks import print_task
from chimera.client.listing import no_dead_letter
from chimera.client.outcomes import Outcome
from chimera.store.protocol import TaskRecord

_COLUMNS = ("id", "type", "attempts", "accepted", "error")


@click.group()
def dlq() -> None:
    """Dead letters: tasks that failed for good."""


@command(name="list", group=dlq)
@target_options
@filter_options()
def list_(out: Output, target: Target, chosen: Chosen) -> None:
    """List dead letters, newest first: with those that were replayed, without those given up.

    \b
    Examples:
      chimera dlq list
      chimera dlq list --type mail.send --since 1d -o wide
    """
    with target.client() as client:
        found = replace(chosen, dead_letters=True).tasks(client)
        rows = [{**row(one), "error": _why(one)} for one in found]
        if chosen.type and not rows:
            hint(out, client, [chosen.type])
    out.table(rows, _COLUMNS, (*WIDE, "error"))


def _why(record: TaskRecord) -> str | None:
    """The first line of why it failed."""
    error = Outcome.of(record).error(record.task_id)
    return None if error is None else error.message.partition("\n")[0]


@command(group=dlq)
@target_options
@click.argument("task_id", metavar="ID")
def show(out: Output, target: Target, task_id: str) -> None:
    """Show a dead letter: its payload, and why it failed.

    \b
    Examples:
      chimera dlq show $DEAD
    """
    with target.client() as client:
        record = client.get(task_id, payload=True)
        if not record.dead_letter:
            raise no_dead_letter(task_id, record.state)
        print_task(out, record)


@command(group=dlq)
@target_options
@click.argument("ids", nargs=-1, metavar="[ID]...")
@filter_options(limit=1000)
@sure_options
def replay(
    out: Output, target: Target, ids: tuple[str, ...], chosen: Chosen, dry_run: bool, yes: bool
) -> int:
    """Run dead letters again, as new tasks whose ids are printed; asked twice, the same ones.

    \b
    Examples:
      chimera dlq replay $DEAD
      chimera dlq replay --type mail.send --dry-run
      chimera dlq replay --tag import --yes
    """
    return _each(out, target, "replay", ids, chosen, dry_run, yes,
                 lambda client, one: client.replay(one).id)  # fmt: skip


@command(group=dlq)
@target_options
@click.argument("ids", nargs=-1, metavar="[ID]...")
@filter_options(limit=1000)
@sure_options
def discard(
    out: Output, target: Target, ids: tuple[str, ...], chosen: Chosen, dry_run: bool, yes: bool
) -> int:
    """Give dead letters up: they stay failed, and cannot be replayed any more.

    \b
    Examples:
      chimera dlq discard --type mail.send --since 1h --dry-run
      chimera dlq discard --tag import --yes
    """

    def give_up(client: AnyClient, one: str) -> str:
        client.discard(one)
        return "discarded"

    return _each(out, target, "discard", ids, chosen, dry_run, yes, give_up)


def _each(
    out: Output, target: Target, verb: str, ids: tuple[str, ...], chosen: Chosen, dry_run: bool,
    yes: bool, do: Callable[[AnyClient, str], Any],
) -> int:  # fmt: skip
    either("ids", bool(ids), "a filter", chosen.says_something)
    with target.client() as client:
        found = list(ids) or [
            one.task_id
            for one in replace(chosen, dead_letters=True).tasks(client)
            if one.replayed_as is None
        ]
        return act(out, verb, found, dry_run, yes, lambda one: do(client, one), not ids)
