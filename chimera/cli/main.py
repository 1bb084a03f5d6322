"""The commands together: what the console script `chimera` runs."""

from __future__ import annotations

import importlib
import os
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from chimera.cli import contexts
from chimera.cli.output import missing
from chimera.errors import ChimeraError

#: group → commands inside it that take what a context says
_INNER = {
    "tasks": ("list", "show", "cancel"), "dlq": ("list", "show", "replay", "discard"),
    "config": ("view",),
}  # fmt: skip
#: command → its module in this package, in the order in which help lists them
COMMANDS = (
    "up", "down", "dev", "status", "top", "apply", "scale", "drain", "pause", "resume", "submit",
    "result", "tasks", "dlq", "purge", "events", "logs", "serve", "bus", "registry", "doctor",
    "config", "context", "completion", "sim",
)  # fmt: skip


class _Commands(click.Group):
    """Imports a command's module when it is called: help and completion stay quick."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        try:
            module = importlib.import_module(f"chimera.cli.{name}")
        except ModuleNotFoundError as fault:
            if (fault.name or "").startswith("chimera"):
                raise
            return _unavailable(name, missing(fault))
        found: click.Command = getattr(module, name)
        return found


def _unavailable(name: str, fault: ChimeraError) -> click.Command:
    """What stands for a command that needs more than is installed."""

    @click.command(
        name, add_help_option=False, short_help=f"({fault.message})",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )  # fmt: skip
    @click.argument("rest", nargs=-1, type=click.UNPROCESSED)
    def command(rest: tuple[str, ...]) -> None:
        raise click.ClickException(fault.message)

    return command


def _from_context(command: str | None) -> dict[str, Any]:
    """What the context says, as defaults of every command, and of those inside a group."""
    if command == "context":
        return {}  # must work when the file is damaged, and sets what it is given
    try:
        given = contexts.load().used().given()
    except ChimeraError as fault:
        raise click.ClickException(fault.message) from fault
    said: dict[str, Any] = dict.fromkeys(COMMANDS, given)
    for group, inner in _INNER.items():
        # of groups only: a command takes what has the name of one of its options for that
        said[group] = {**given, **dict.fromkeys(inner, given)}
    said["registry"] = {}  # its URL is another one
    return said


def _version() -> str:
    try:
        return version("chimera")
    except PackageNotFoundError:
        return "(not installed)"


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version(), prog_name="chimera")
@click.pass_context
def main(context: click.Context) -> None:
    """Chimera: a durable, supervised swarm of Ray actors."""
    context.default_map = _from_context(context.invoked_subcommand)
    # a call that we gave up is no error of the user's; Ray would print its traceback
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
