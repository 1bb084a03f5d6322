"""`chimera config view`: what the commands go by, and who said so."""

from __future__ import annotations

import os

import click

from chimera.cli import contexts
from chimera.cli.output import Output, command

#: setting → its variable and default
_SETTINGS: dict[str, tuple[str, str | None]] = {
    "address": ("CHIMERA_ADDRESS", None),
    "url": ("CHIMERA_URL", None),
    "swarm": ("CHIMERA_SWARM", "local"),
    "tenant": ("CHIMERA_TENANT", "default"),
    "data_dir": ("CHIMERA_DATA_DIR", "~/.chimera"),
}


@click.group()
def config() -> None:
    """What the commands go by: options, then variables, then the context, then defaults."""


@command(of_a_swarm=False, group=config)
@click.option("--show-origin", is_flag=True, help="Say of each where it comes from.")
@click.option("--address", metavar="HOST:PORT", help="As if it were given to a command.")
@click.option("--url", help="As if it were given to a command.")
@click.option("--swarm", help="As if it were given to a command.")
@click.option("--tenant", help="As if it were given to a command.")
def view(out: Output, show_origin: bool, **flags: str | None) -> None:
    """Show where commands look for a swarm, and for whom.

    \b
    Examples:
      chimera config view --show-origin
    """
    asked = click.get_current_context()
    typed = click.core.ParameterSource.COMMANDLINE
    flags = {name: one if asked.get_parameter_source(name) is typed else None
             for name, one in flags.items()}  # fmt: skip
    found = contexts.load()
    rows = []
    for name, (variable, default) in _SETTINGS.items():
        value, origin = _of(name, variable, default, flags.get(name), found)
        rows.append({"name": name, "value": value, **({"origin": origin} if show_origin else {})})
    out.table(rows, ("name", "value", *(("origin",) if show_origin else ())))


def _of(
    name: str, variable: str, default: str | None, flag: str | None, found: contexts.Contexts
) -> tuple[str | None, str]:
    if flag is not None:
        return flag, f"--{name}"
    if given := os.environ.get(variable):
        return given, variable
    if (said := found.used().given().get(name)) is not None:
        return said, f"context {found.current} in {contexts.path()}"
    if name == "address" and (ray := os.environ.get("RAY_ADDRESS")):
        return ray, "RAY_ADDRESS"
    return default, "default"
