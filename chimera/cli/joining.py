"""How commands come to a swarm: join its Ray, then ask its actors or submit to it."""

from __future__ import annotations

from chimera.client import Swarm, connect
from chimera.client.address import resolve
from chimera.errors import NotFound


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


def client(swarm: str, tenant: str, address: str | None, timeout_s: float) -> Swarm:
    """A client of the swarm. Raises NotFound, NotReady."""
    return connect(swarm, tenant, address, timeout_s)
