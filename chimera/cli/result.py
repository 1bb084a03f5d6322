"""`chimera result`: wait for a task's result and print it."""

from __future__ import annotations

import click
import msgspec

from chimera.cli.joining import client
from chimera.cli.output import Output, address_option, command


@command()
@address_option
@click.argument("task_id", metavar="ID")
@click.option("--tenant", default="default", envvar="CHIMERA_TENANT", show_default=True)
@click.option("--timeout", default=30.0, show_default=True, help="Seconds to wait, at most.")
def result(
    out: Output, swarm: str, address: str | None, task_id: str, tenant: str, timeout: float
) -> None:
    """Print the result of a task, when it is there.

    Ends with 1 if the task failed, 3 if there is no such task, 124 if it is not done in time.
    """
    with client(swarm, tenant, address, timeout) as connected:
        found = connected.handle(task_id).result(timeout)
    out.result(
        {"id": task_id, "result": found},
        lambda: out.line(msgspec.json.encode(found).decode()),
    )
