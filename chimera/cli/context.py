"""`chimera context`: named swarms, one of which is meant when nothing else is said."""

from __future__ import annotations

import click

from chimera import names
from chimera.cli import contexts
from chimera.cli.output import Output, command
from chimera.errors import InvalidRequest
from chimera.http.verbs import Api


@click.group()
def context() -> None:
    """Name swarms, and choose the one that commands mean.

    A context says where a swarm is (address of its Ray, or URL of its gateway), its name, and the
    tenant. Options and CHIMERA_* variables come before it.
    """


@command(of_a_swarm=False, name="list", group=context)
def list_(out: Output) -> None:
    """List the contexts; `*` is the one that is used.

    \b
    Examples:
      chimera context list
    """
    found = contexts.load()
    rows = [
        {"current": name == found.current, "name": name, **one.given()}
        for name, one in sorted(found.contexts.items())
    ]
    shown = [{**row, "current": "*" if row["current"] else ""} for row in rows]
    out.table(rows, ("current", "name", "url", "address", "swarm", "tenant"), shown=shown)


@command(of_a_swarm=False, group=context)
@click.argument("name")
def use(out: Output, name: str) -> None:
    """Use a context from now on.

    \b
    Examples:
      chimera context use local
    """
    found = contexts.load()
    found.find(name)
    found.current = name
    contexts.save(found)
    out.result({"name": name}, lambda: out.note(f"{name} is used from now on"))


@command(of_a_swarm=False, name="set", group=context)
@click.argument("name")
@click.option("--address", metavar="HOST:PORT", help="Address of its Ray cluster.")
@click.option("--url", help="URL of its gateway.")
@click.option("--swarm", help="Name of the swarm.")
@click.option("--tenant", help="The tenant.")
def set_(
    out: Output, name: str, address: str | None, url: str | None, swarm: str | None,
    tenant: str | None,
) -> None:  # fmt: skip
    """Make a context, or change what is given of one. The first one is used at once.

    \b
    Examples:
      chimera context set local --swarm local
      chimera context set shop --url http://127.0.0.1:8000 --tenant acme
    """
    if address and url:
        raise click.UsageError("a context has an --address or a --url, not both")
    for given in filter(None, (swarm, tenant)):
        try:
            names.check(given)
        except ValueError as fault:
            raise click.UsageError(str(fault)) from fault
    if url:
        try:
            Api(url, tenant or "default")
        except InvalidRequest as fault:
            raise click.UsageError(fault.message) from fault
    found = contexts.load()
    one = found.contexts.setdefault(name, contexts.Context())
    if address or url:
        one.address, one.url = address, url
    one.swarm, one.tenant = swarm or one.swarm, tenant or one.tenant
    found.current = found.current or name
    contexts.save(found)
    out.result({"name": name, **one.given()}, lambda: out.note(f"context {name} is set"))


@command(of_a_swarm=False, group=context)
@click.argument("name")
def rm(out: Output, name: str) -> None:
    """Forget a context.

    \b
    Examples:
      chimera context rm shop
    """
    found = contexts.load()
    found.find(name)
    del found.contexts[name]
    if found.current == name:
        found.current = None
    contexts.save(found)
    out.result({"name": name}, lambda: out.note(f"context {name} is gone"))
