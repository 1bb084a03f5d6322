"""`chimera pause`: start no task of some types or tenants until they are resumed."""

from __future__ import annotations

from contextlib import suppress

import click

from chimera.cli.joining import Target, hint
from chimera.cli.output import Output, address_option, command
from chimera.cli.scale import give, wait_options
from chimera.errors import ChimeraError
from chimera.swarm.orders import Pause

#: seconds that may pass until the leaders are there to be asked for their types
HINT_TIMEOUT_S = 5.0


@command()
@address_option
@click.argument("types", nargs=-1)
@click.option("--tenant", "tenants", multiple=True, help="A tenant; may be given several times.")
@wait_options
def pause(
    out: Output, swarm: str, address: str | None, types: tuple[str, ...],
    tenants: tuple[str, ...], wait: bool, timeout: float,
) -> None:  # fmt: skip
    """Start no more tasks of these types and tenants.

    What runs goes on, what is submitted is accepted and waits; it survives every failover. A type
    may be paused before it has a handler.

    \b
    Examples:
      chimera pause charge mail.send
      chimera pause --tenant acme --wait
    """
    if not types and not tenants:
        raise click.UsageError("say which: types, or tenants by --tenant")
    give(out, swarm, address, Pause(types, tenants), wait, timeout)
    if types:
        with (
            suppress(ChimeraError),
            Target(swarm, "default", address).client(HINT_TIMEOUT_S) as client,
        ):
            hint(out, client, types)
