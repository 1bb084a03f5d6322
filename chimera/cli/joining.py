"""How commands come to a swarm: join its Ray, then ask its actors or submit to it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import click

from chimera.cli.output import Output, address_option, swarm_name
from chimera.client import Swarm, connect
from chimera.client.address import resolve
from chimera.errors import ChimeraError, NotFound, WrongSwarm
from chimera.http import Client
from chimera.swarm.reports import SwarmStatus

#: one protocol, whichever way
AnyClient: TypeAlias = Swarm | Client


def join(swarm: str, address: str | None) -> bool:
    """Join the swarm's Ray cluster; False if there is none anywhere. Raises NotFound, ChimeraError.

    Imported where it is needed, as everything with Ray: `chimera --help` takes no second.
    """
    where = resolve(swarm, address)
    if where is None:
        return False
    from chimera.client.link import join_ray

    join_ray(swarm, where)
    return True


def join_living(swarm: str, address: str | None) -> None:
    """Join the Ray cluster of a swarm that is to be up. Raises NotFound if it is not."""
    if not join(swarm, address):
        raise NotFound(f"swarm {swarm!r} is not up on this machine: `chimera up` starts it")


@dataclass(frozen=True, slots=True)
class Target:
    """A swarm, and the way to it: its Ray cluster, or its gateway."""

    swarm: str
    tenant: str
    address: str | None = None
    url: str | None = None
    #: somebody said which swarm: then a gateway must be of that one
    is_named: bool = False

    def client(self, timeout_s: float = 30.0) -> AnyClient:
        """A client of it: the same verbs either way. Raises NotFound, NotReady, WrongSwarm."""
        if self.url is not None:
            made = Client(self.url, tenant=self.tenant)
            if self.is_named:
                try:
                    self._meant(made.status())
                except ChimeraError:
                    made.close()
                    raise
            return made
        return connect(self.swarm, self.tenant, self.address, timeout_s)

    def status(self, timeout_s: float = 10.0) -> SwarmStatus:
        """What is observed of it. Raises NotFound if it is not up, Unavailable after `timeout_s`
        (through its gateway, after the client's own time), WrongSwarm."""
        if self.url is not None:
            with Client(self.url, tenant=self.tenant) as made:
                return self._meant(made.status())
        join_living(self.swarm, self.address)
        from chimera.actors import boot

        return boot.status(self.swarm, timeout_s=timeout_s)

    def _meant(self, found: SwarmStatus) -> SwarmStatus:
        """The gateway's swarm, if it is the one that is meant. Raises WrongSwarm."""
        if self.is_named and found.swarm != self.swarm:
            raise WrongSwarm(f"the gateway at {self.url} is of swarm {found.swarm!r}, "
                             f"not of {self.swarm!r}", swarm=found.swarm)  # fmt: skip
        return found


def hint(out: Output, client: AnyClient, types: Iterable[str]) -> None:
    """Say for which of the types there is no handler: a typo, or one to be deployed yet."""
    with suppress(ChimeraError):  # what the command was to do is done, or told
        known = {one.type for one in client.types()}
        for one in types:
            if one not in known:
                out.note(f"no handler is registered for {one!r}")


def target_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--address`, `--url` and `--tenant`; the command gets them, and the swarm, as `target`."""

    @functools.wraps(function)
    def run(*given: Any, swarm: str, address: str | None, url: str | None, tenant: str,
            **options: Any) -> Any:  # fmt: skip
        return function(*given, target=_target(swarm, tenant, address, url), **options)

    made: Callable[..., Any] = address_option(run)
    made = click.option(
        "--url", envvar="CHIMERA_URL", metavar="URL",
        help="URL of the swarm's gateway: over HTTP, rather than through Ray.",
    )(made)  # fmt: skip
    return click.option(
        "--tenant", default="default", envvar="CHIMERA_TENANT", show_default=True,
        callback=swarm_name, help="For whom.",
    )(made)  # fmt: skip


def _target(swarm: str, tenant: str, address: str | None, url: str | None) -> Target:
    """What is said closest to the command wins: `--address` over CHIMERA_URL, and the like."""
    ask = click.get_current_context().get_parameter_source
    is_named = ask("swarm") is not click.core.ParameterSource.DEFAULT
    if not (address and url):
        return Target(swarm, tenant, address or None, url or None, is_named)
    closeness = [click.core.ParameterSource.COMMANDLINE, click.core.ParameterSource.ENVIRONMENT]
    for source in closeness:
        if (ask("address") is source) != (ask("url") is source):
            if ask("address") is source:
                return Target(swarm, tenant, address=address)
            return Target(swarm, tenant, url=url, is_named=is_named)
    raise click.UsageError("say --address or --url, not both")
