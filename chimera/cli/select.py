"""Which tasks a command means: by id, or by a filter, asked about before anything is done."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import islice
from typing import Any

import click

from chimera.cli.joining import AnyClient
from chimera.cli.output import Output
from chimera.cli.parse import past
from chimera.client.options import milliseconds
from chimera.errors import ChimeraError, NotFound
from chimera.store.protocol import TaskRecord
from chimera.swarm.policy import CLASSES

STATES = ("queued", "scheduled", "running", "cancelling", "succeeded", "failed", "cancelled",
          "expired")  # fmt: skip
#: columns of a listing, and what `-o wide` adds
COLUMNS = ("id", "type", "state", "attempts", "accepted")
WIDE = (*COLUMNS, "ended", "priority", "key", "tags", "tenant", "replay_of", "replayed_as")


@dataclass(frozen=True, slots=True)
class Chosen:
    """A filter; None: any."""

    type: str | None
    state: str | None
    tag: str | None
    since: datetime | None
    until: datetime | None
    limit: int
    dead_letters: bool = False  #: only what failed and was not given up

    @property
    def says_something(self) -> bool:
        """Whether it keeps anything out."""
        given = (self.type, self.state, self.tag, self.since, self.until)
        return any(one is not None for one in given)

    def tasks(self, client: AnyClient) -> Iterator[TaskRecord]:
        """The tasks that fit, newest first."""
        found = client.list(
            type=self.type, state=self.state, tag=self.tag, since=self.since, until=self.until,
            dead_letters=self.dead_letters,
        )  # fmt: skip
        return islice(filter(self._is_in_time, found), self.limit)

    def _is_in_time(self, record: TaskRecord) -> bool:
        """A server of another version may not know of the times; what is chosen here may be ended
        for good."""
        return (self.since is None or milliseconds(self.since) <= record.accepted_at) and (
            self.until is None or record.accepted_at < milliseconds(self.until)
        )


def filter_options(
    states: tuple[str, ...] = (), limit: int = 100
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--type`, `--tag`, `--since`, `--until`, `--limit`, and `--state` if there are any."""

    def decorate(function: Callable[..., Any]) -> Any:
        @functools.wraps(function)
        def run(*given: Any, type_: Any, tag: Any, since: Any, until: Any, limit: Any,
                state: Any = None, **options: Any) -> Any:  # fmt: skip
            chosen = Chosen(type_, state, tag, since, until, limit)
            return function(*given, chosen=chosen, **options)

        options: list[Callable[..., Any]] = [
            click.option("--type", "type_", help="Only of this task type."),
            click.option("--tag", help="Only with this tag."),
            click.option("--since", callback=past, help="Accepted since: 1h ago, or a moment."),
            click.option("--until", callback=past, help="Accepted before: 1h ago, or a moment."),
            click.option("--limit", default=limit, show_default=True,
                         type=click.IntRange(1), help="How many at most."),
        ]  # fmt: skip
        if states:
            options.append(click.option("--state", type=click.Choice(states), help="Only in it."))
        made: Any = run
        for option in reversed(options):
            made = option(made)
        return made

    return decorate


def sure_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--dry-run` and `--yes`."""
    for option in (
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option("--dry-run", is_flag=True, help="Only say which they are."),
    ):
        function = option(function)
    return function


def act(
    out: Output, verb: str, ids: list[str], dry_run: bool, yes: bool,
    do: Callable[[str], Any], by_filter: bool,
) -> int:  # fmt: skip
    """Do something to tasks: those of a filter only when it is confirmed."""
    if dry_run or not ids:
        out.result([{"id": one} for one in ids], lambda: out.lines(ids))
        out.note(f"{len(ids)} to {verb}" if ids else f"nothing to {verb}")
        return 0
    if by_filter and not yes:
        if out.is_structured or not sys.stdin.isatty():
            raise click.UsageError(f"{len(ids)} to {verb}: say --yes, or --dry-run to see them")
        click.confirm(f"{verb} {len(ids)}?", abort=True, err=True)
    rows, fault = [], None
    for one in ids:
        try:
            rows.append({"id": one, "done": do(one)})
        except ChimeraError as error:
            if not by_filter:
                raise
            if isinstance(error, NotFound):
                continue  # it ended, or was given up, since or before it was found
            fault = error
            out.notes.print(f"{one}: {error.message}", markup=False)
    out.result(rows, lambda: out.lines(f"{one['id']} {one['done']}" for one in rows))
    return 1 if fault else 0


def row(record: TaskRecord) -> dict[str, Any]:
    """A task as plain data."""
    return {
        "id": record.task_id, "type": record.type, "state": record.state,
        "attempts": record.attempts, "accepted": moment(record.accepted_at),
        "ended": moment(record.settled_at), "due": moment(record.due),
        "priority": CLASSES[record.priority], "key": record.key, "tags": list(record.tags),
        "tenant": record.tenant, "replay_of": record.replay_of, "replayed_as": record.replayed_as,
    }  # fmt: skip


def moment(unix_ms: int | None) -> str | None:
    """Unix milliseconds as a person writes them."""
    if unix_ms is None:
        return None
    found = datetime.fromtimestamp(unix_ms / 1000, timezone.utc)
    return found.isoformat(timespec="milliseconds").replace("+00:00", "Z")
