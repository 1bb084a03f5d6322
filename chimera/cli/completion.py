"""`chimera completion`: what makes a shell complete the commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from chimera.cli.output import Output, command


@command(of_a_swarm=False)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(out: Output, shell: str) -> None:
    """Print the completion script for a shell.

    \b
    Examples:
      chimera completion bash > ~/.local/share/bash-completion/completions/chimera
      chimera completion fish > ~/.config/fish/completions/chimera.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"there is no completion for {shell}")
    root = click.get_current_context().find_root().command
    out.line(kind(root, {}, "chimera", "_CHIMERA_COMPLETE").source())
