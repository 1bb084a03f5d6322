"""The commands together: what the console script `chimera` runs."""

from __future__ import annotations

import importlib
import os
from importlib.metadata import PackageNotFoundError, version

import click

#: command → its module in this package, in the order in which help lists them
COMMANDS = (
    "up", "down", "dev", "status", "apply", "scale", "drain", "pause", "resume", "submit", "result",
    "serve", "bus", "registry", "doctor", "sim",
)  # fmt: skip


class _Commands(click.Group):
    """Imports a command's module when it is called: help and completion stay quick."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"chimera.cli.{name}")
        found: click.Command = getattr(module, name)
        return found


def _version() -> str:
    try:
        return version("chimera")
    except PackageNotFoundError:
        return "(not installed)"


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version(), prog_name="chimera")
def main() -> None:
    """Chimera: a durable, supervised swarm of Ray actors."""
    # a call that we gave up is no error of the user's; Ray would print its traceback
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
