"""`chimera purge`: cancel all that waits."""

from __future__ import annotations

from dataclasses import replace

import click

from chimera.cli.joining import Target, target_options
from chimera.cli.output import Output, command
from chimera.cli.parse import either
from chimera.cli.select import Chosen, act, filter_options, sure_options


@command()
@target_options
@filter_options(limit=1_000_000)
@click.option("--all", "all_", is_flag=True, help="All of the tenant's, without a filter.")
@sure_options
def purge(out: Output, target: Target, chosen: Chosen, all_: bool, dry_run: bool, yes: bool) -> int:
    """Cancel the tasks that wait, queued or delayed; what runs goes on.

    \b
    Examples:
      chimera purge --type mail.send --dry-run
      chimera purge --all --yes
    """
    either("--all", all_, "a filter", chosen.says_something)
    with target.client() as client:
        found = [
            one.task_id
            for state in ("queued", "scheduled")
            for one in replace(chosen, state=state).tasks(client)
        ]
        return act(out, "cancel", found, dry_run, yes,
                   lambda one: client.cancel(one, "purged", only_waiting=True), True)  # fmt: skip
