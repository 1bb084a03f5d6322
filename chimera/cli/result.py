"""`chimera result`: wait for a task's result and print it."""

from __future__ import annotations

import click
import msgspec

from chimera.cli.joining import Target, target_options
from chimera.cli.output import Output, command


@command()
@target_options
@click.argument("task_id", metavar="ID")
@click.option("--timeout", default=30.0, show_default=True, help="Seconds to wait, at most.")
def result(out: Output, target: Target, task_id: str, timeout: float) -> None:
    """Print the result of a task, when it is there.

    Ends with 1 if the task failed, 3 if there is no such task, 124 if it is not done in time.

    \b
    Examples:
      chimera result $ID --timeout 10
    """
    with target.client(timeout) as connected:
        found = connected.handle(task_id).result(timeout)
    out.result(
        {"id": task_id, "result": found},
        lambda: out.line(msgspec.json.encode(found).decode()),
    )
