"""`chimera dev`: a swarm in the foreground, with its live status, until Ctrl-C."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType

import click
from rich.live import Live
from rich.text import Text

from chimera.cli.down import DOWN_TIMEOUT_S, take_down
from chimera.cli.output import Output, address_option, command
from chimera.cli.status import plain, show, tree
from chimera.cli.up import UP_TIMEOUT_S, boot, bring_up, dashboard_option, read_spec, spec_option
from chimera.errors import ChimeraError
from chimera.swarm.reports import SwarmStatus

#: seconds between two looks at the swarm
LOOK_S = 1.0


@command(of_a_swarm=False)
@spec_option
@address_option
@click.option("--timeout", default=UP_TIMEOUT_S, show_default=True, help="Seconds to be ready in.")
@dashboard_option
def dev(
    out: Output, path: Path | None, address: str | None, timeout: float, dashboard: bool
) -> None:
    """Bring a swarm up, show what it does, and end it on Ctrl-C.

    \b
    Examples:
      chimera dev -f swarm.yaml
    """
    spec = read_spec(path)
    over = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        over.set()
        signal.signal(number, signal.default_int_handler)  # a second one ends the waiting

    try:
        status = bring_up(out, spec, address, timeout, dashboard, boot)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        out.note("Ctrl-C ends it")
        _watch(out, spec.name, status, over)
    finally:
        take_down(out, spec.name, address, DOWN_TIMEOUT_S)
        out.result({"swarm": spec.name, "down": True}, lambda: out.note("down"))


def _watch(out: Output, swarm: str, status: SwarmStatus, over: threading.Event) -> None:
    from chimera.actors import boot

    if not out.is_live:
        out.result({"swarm": plain(status)}, lambda: show(out, status))
        over.wait()
        return
    live = Live(
        tree(status), console=out.notes, auto_refresh=False, transient=True, redirect_stdout=False
    )
    with out.hushed(), live:
        while not over.wait(LOOK_S):
            try:
                live.update(tree(boot.status(swarm, timeout_s=LOOK_S)), refresh=True)
            except ChimeraError as fault:
                live.update(Text(f"{swarm}: {fault.message}", style="yellow"), refresh=True)
