"""Names of actors, files and namespaces: built and parsed here only."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Collection

ORCHESTRATOR = "orchestrator"
RESULTS = "results"

#: bytes of a name in PostgreSQL, less ` writer`, which sessions add
_IDENTIFIER_MAX = 63 - 7
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?\Z")


def check(name: str) -> str:
    """Return `name` if it may name a swarm, region or tenant; else raise ValueError."""
    if not _NAME.match(name):
        raise ValueError(
            f"{name!r} is not a name: 1 to 32 of a-z, 0-9 and '-', no '-' at either end"
        )
    return name


def loopback(endpoint: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`, if it is this machine's own; else raise ValueError."""
    host, _, port = endpoint.rpartition(":")
    host = host.strip("[]")
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{endpoint!r} is not HOST:PORT")
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise ValueError(
            f"{endpoint!r} is not on loopback, and links have no authentication yet: use an address"
            " like 127.0.0.1:7443, with a tunnel that has one (ssh -L) between the machines"
        )
    return host, int(port)


def namespace(swarm: str) -> str:
    """The Ray namespace that holds every actor of a swarm."""
    return f"chimera-{swarm}"


def coordinator(region: str) -> str:
    return f"coordinator/{region}"


def gate(region: str) -> str:
    """What stands for the leaders of a region that is in another Ray cluster."""
    return f"gate/{region}"


def leader(region: str, index: int) -> str:
    return f"leader/{region}/{index}"


def worker(leader_name: str, serial: str) -> str:
    """A worker's name: the leader that made it, and a serial that is never used twice."""
    region, index = leader_name.split("/")[1:3]
    return f"worker/{region}/{index}/{serial}"


def maker(worker_name: str) -> str:
    """The name of the leader that made a worker; it may have another one by now."""
    region, index = worker_name.split("/")[1:3]
    return f"leader/{region}/{index}"


def is_stray(
    worker_name: str, leaders: Collection[str], makers: Collection[str], living: Collection[str]
) -> bool:
    """Whether the leader that made a worker is gone: none of `leaders` has its name, or it is one
    of `makers` and none of the brands `living` is on the worker."""
    made_by = maker(worker_name)
    if made_by not in leaders:
        return True
    return made_by in makers and worker_name.rpartition("-")[0] not in living


def tier(actor_name: str) -> str:
    """`worker`, `leader`, `coordinator`, `gate`, `orchestrator` or `results`."""
    return actor_name.split("/", 1)[0]


def region(actor_name: str) -> str:
    """The region of a worker, leader or coordinator."""
    return actor_name.split("/")[1]


def journal(shard: int) -> str:
    """The file name of a shard's journal."""
    return f"shard-{shard:04d}.sqlite"


def topic(swarm: str, stream: str) -> str:
    """A topic of the bus: `commands`, `results`, `dead-letters`, `summaries`, …"""
    return f"chimera.{swarm}.{stream}"


def queue(topic_name: str, group: str, partition: int | None) -> str:
    """RabbitMQ's queue of a group: one a partition of commands, one for a whole stream."""
    return f"{topic_name}.{group}" + ("" if partition is None else f".{partition}")


def database_namespace(swarm: str, part: str) -> str:
    """The schema of a PostgreSQL database that holds a part of a swarm: a shard's journal, or the
    control store of an actor."""
    full = f"chimera_{swarm}_{part}"
    if len(full) <= _IDENTIFIER_MAX:
        return full
    # PostgreSQL would cut it off without a word, and two might become one
    digest = hashlib.sha256(full.encode()).hexdigest()[:10]
    return f"{full[: _IDENTIFIER_MAX - 11]}_{digest}"
