"""`chimera resume`: start tasks of paused types or tenants again."""

from __future__ import annotations

import click

from chimera.cli.output import Output, address_option, command
from chimera.cli.scale import give, wait_options
from chimera.swarm.orders import Resume


@command()
@address_option
@click.argument("types", nargs=-1)
@click.option("--tenant", "tenants", multiple=True, help="A tenant; may be given several times.")
@wait_options
def resume(
    out: Output, swarm: str, address: str | None, types: tuple[str, ...],
    tenants: tuple[str, ...], wait: bool, timeout: float,
) -> None:  # fmt: skip
    """Start tasks of paused types and tenants again.

    \b
    Examples:
      chimera resume charge mail.send
      chimera resume --tenant acme --wait
    """
    if not types and not tenants:
        raise click.UsageError("say which: types, or tenants by --tenant")
    give(out, swarm, address, Resume(types, tenants), wait, timeout)
