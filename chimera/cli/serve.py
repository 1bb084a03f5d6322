"""`chimera serve`: give a living swarm its HTTP gateway, or take it away."""

from __future__ import annotations

import click

from chimera.cli.output import Output, address_option, command
from chimera.cli.status import read_status
from chimera.swarm import spec as specs
from chimera.swarm.spec import HttpSpec, Spec


@command()
@address_option
@click.option("--host", default=None, help="Where to listen. [default: as the spec says]")
@click.option("--port", type=click.IntRange(1, 65535), default=None, help="On which port.")
@click.option("--replicas", type=click.IntRange(1, 100), default=None, help="How many replicas.")
@click.option("--stop", is_flag=True, help="Take the gateway away; the swarm goes on.")
def serve(
    out: Output,
    swarm: str,
    address: str | None,
    host: str | None,
    port: int | None,
    replicas: int | None,
    stop: bool,
) -> None:
    """Start the HTTP gateway of a swarm that is up, as its spec's `http` and the options say.

    \b
    Examples:
      chimera serve --port 8000
      chimera serve --stop
    """
    spec = specs.from_dict(read_status(swarm, address).spec)
    from chimera.serve import deployment

    if stop:
        deployment.down(swarm)
        out.result({"swarm": swarm, "url": None}, lambda: out.note("the gateway is down"))
        return
    with out.step("starting the gateway") as change:
        url = deployment.up(swarm, chosen(spec, host, port, replicas), change)
    out.result({"swarm": swarm, "url": url}, lambda: out.note(f"the gateway is at {url}/docs"))


def chosen(spec: Spec, host: str | None, port: int | None, replicas: int | None) -> HttpSpec:
    """The spec's settings with those of the options on top. Raises SpecError."""
    found = spec.http or HttpSpec()
    made = HttpSpec(
        host=host or found.host,
        port=port or found.port,
        replicas=replicas or found.replicas,
    )
    from chimera.serve import deployment

    deployment.check_loopback(made.host)
    return made
