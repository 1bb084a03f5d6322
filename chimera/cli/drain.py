"""`chimera drain`: let a region, a leader or a worker finish and hand over."""

from __future__ import annotations

import click

from chimera.cli.output import Output, address_option, command
from chimera.cli.scale import give, wait_options
from chimera.swarm.orders import Drain


@command()
@address_option
@click.argument("target")
@click.option("--undo", is_flag=True, help="End the drain: what was drained serves again.")
@wait_options
def drain(
    out: Output, swarm: str, address: str | None, target: str, undo: bool, wait: bool,
    timeout: float,
) -> None:  # fmt: skip
    """Let a region, a leader or a worker finish what it has in hand and hand over.

    TARGET is a name as `chimera status` shows it, a region's that of its coordinator. A leader's
    shards go to the others of its region, and it stays away until the drain is undone; a worker
    is replaced; a region's shards go to other regions, and come back when the drain is undone.

    \b
    Examples:
      chimera drain leader/local/0 --wait
      chimera drain leader/local/0 --undo
      chimera drain worker/local/1/5f3a90c1-2
      chimera drain coordinator/eu --wait
    """
    give(out, swarm, address, Drain(target, undo), wait, timeout)
