"""`chimera down`: end a swarm, and the Ray that was started for it."""

from __future__ import annotations

import click

from chimera.cli import head
from chimera.cli.joining import join
from chimera.cli.output import Output, address_option, command
from chimera.client.address import find_head

#: seconds for tasks in hand to end and journals to close
DOWN_TIMEOUT_S = 60.0


@command()
@address_option
@click.option("--timeout", default=DOWN_TIMEOUT_S, show_default=True, help="Seconds to end in.")
def down(out: Output, swarm: str, address: str | None, timeout: float) -> None:
    """End a swarm: no actor and no process of it is left.

    What was accepted and is not done stays in its journals, and goes on when it is up again. A
    Ray that `chimera up` started for it is ended too; any other one is left alone.

    \b
    Examples:
      chimera down --swarm shop
    """
    was_up = take_down(out, swarm, address, timeout)
    text = f"swarm {swarm} is down" if was_up else f"swarm {swarm} was not up"
    out.result({"swarm": swarm, "was_up": was_up}, lambda: out.note(text))


def take_down(out: Output, swarm: str, address: str | None, timeout_s: float) -> bool:
    """End the swarm and its own head; whether there was anything to end."""
    own = find_head(swarm)
    found = False
    with out.step(f"ending {swarm}") as change, out.hushed():
        if join(swarm, address):
            found = _end_actors(swarm, timeout_s, change)
        if address is None or (own is not None and own.address == address):
            found = head.end(swarm) or found
    return found


def _end_actors(swarm: str, timeout_s: float, say: object) -> bool:
    from chimera.actors import boot
    from chimera.serve import deployment

    told: list[str] = []

    def progress(text: str) -> None:
        told.append(text)
        if callable(say):
            say(text)

    if deployment.is_up(swarm):
        progress("taking the gateway away")
        deployment.down(swarm)
    boot.down(swarm, timeout_s=timeout_s, on_progress=progress)
    return not any("is not up" in text for text in told)
