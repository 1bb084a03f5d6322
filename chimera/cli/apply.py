"""`chimera apply`: make a file the declared state of a living swarm, or show what that would do."""

from __future__ import annotations

from pathlib import Path

import click
from rich.markup import escape

from chimera.cli.joining import join_living
from chimera.cli.output import Output, address_option, command
from chimera.cli.scale import told_and_awaited, wait_options
from chimera.cli.up import read_spec, spec_option
from chimera.swarm.orders import Ordered, Preview
from chimera.swarm.spec import Change, Spec


@command(of_a_swarm=False)
@spec_option
@address_option
@click.option("--dry-run", is_flag=True, help="Show what would change and follow; change nothing.")
@wait_options
def apply(
    out: Output, path: Path | None, address: str | None, dry_run: bool, wait: bool, timeout: float
) -> None:
    """Make a file the declared state of a living swarm.

    It is durable when this returns, and brought about without anybody waiting for it. What was
    drained or paused stays so. To do it again changes nothing.

    \b
    Examples:
      chimera apply -f swarm.yaml --dry-run
      chimera apply -f swarm.yaml --wait
    """
    spec = read_spec(path)
    join_living(spec.name, address)
    from chimera.actors import operate

    preview = operate.preview(spec)
    moves = any(change.key.startswith("http") for change in preview.changes)
    if moves and spec.http is not None:
        from chimera.serve import deployment

        deployment.check(spec.http)
    if dry_run:
        told = {"generation": preview.generation, "changes": preview.changes,
                "actions": preview.actions, "dry_run": True}  # fmt: skip
        out.result(told, lambda: show(out, preview))
        return
    generation = operate.apply(spec)
    if moves:
        _have_gateway(out, spec)
    told_and_awaited(out, spec.name, Ordered(generation, preview.changes), wait, timeout)


def _have_gateway(out: Output, spec: Spec) -> None:
    """As the spec says; it is no part of the swarm, which does not see to it."""
    from chimera.serve import deployment

    if spec.http is None:
        deployment.down(spec.name)
        out.note("the gateway is down")
        return
    with out.step("bringing the gateway about") as change:
        url = deployment.up(spec.name, spec.http, change)
    out.note(f"the gateway is at {url}")


def show(out: Output, preview: Preview) -> None:
    """Print what would change, and what would follow."""
    if not preview.changes:
        out.console.print(f"no change: generation {preview.generation} declares the same")
    for change in preview.changes:
        out.console.print(changed(change))
    if preview.actions:
        out.console.print("what would follow:" if preview.changes else "still to be done:")
    for action in preview.actions:
        out.console.print(f"  {escape(action)}")


def changed(change: Change) -> str:
    """A change as a line with its sign: added, removed or changed, by path."""
    if change.old is None:
        return f"[green]+ {escape(change.key)}: {escape(str(change.new))}[/]"
    if change.new is None:
        return f"[red]- {escape(change.key)}: {escape(str(change.old))}[/]"
    return f"[yellow]~ {escape(change.key)}: {escape(f'{change.old} → {change.new}')}[/]"
