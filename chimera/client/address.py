"""Where a swarm's Ray cluster is: what the caller or the environment says, else its own head."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from chimera import names
from chimera.errors import ChimeraError, InvalidRequest

#: file in a swarm's directory that says which Ray head `chimera up` started for it
HEAD_FILE = "head.json"


class Head(msgspec.Struct, frozen=True):
    """A local Ray head that `chimera up` started for a swarm, and ends with it."""

    address: str  #: host:port of its GCS
    ray: str  #: Ray's version
    temp_dir: str  #: holds its sockets and logs
    #: the process that watches the others and ends with them; its pid is their session's
    launcher: int
    #: processes that make it up: pid → start, in clock ticks since boot; a pid alone proves nothing
    processes: dict[int, int]
    #: environment that a process needs in order to be let in, if it says nothing itself
    environment: dict[str, str] = {}
    dashboard: str = ""  #: its address, if it has one

    def is_alive(self) -> bool:
        """Whether it lives: its launcher ends when one of the processes that it needs does."""
        start = self.processes.get(self.launcher)
        return start is not None and start_ticks(self.launcher) == start


class Where(NamedTuple):
    """How to reach a Ray cluster."""

    address: str
    source: str  #: who says so, for messages
    environment: Mapping[str, str]  #: to be set where it is not

    def check(self) -> None:
        """Raise InvalidRequest for what no Ray cluster can have as its address."""
        if self.address.startswith("ray://"):
            raise InvalidRequest("Ray Client (ray://) is not supported: connect inside the cluster")
        if self.address == "local":
            raise InvalidRequest("a new local Ray has no swarm: leave the address out, or name one")
        host, _, port = self.address.rpartition(":")
        is_port = port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16
        if self.address != "auto" and not (host and is_port):
            raise InvalidRequest(
                f"{self.address!r} ({self.source}) is no address of a Ray cluster: write HOST:PORT"
            )


def home() -> Path:
    """What Chimera keeps for this user: `CHIMERA_DATA_DIR`, else `~/.chimera`."""
    given = os.environ.get("CHIMERA_DATA_DIR")
    return Path(given) if given else Path.home() / ".chimera"


def head_file(swarm: str) -> Path:
    """Where the head of a swarm is recorded, whatever its data directory is."""
    return home() / names.check(swarm) / HEAD_FILE


def find_head(swarm: str) -> Head | None:
    """The living head that `chimera up` started for a swarm."""
    head = read_head(swarm)
    return head if head is not None and head.is_alive() else None


def read_head(swarm: str) -> Head | None:
    """The recorded head of a swarm, alive or not. Raises ChimeraError for a damaged record."""
    path = head_file(swarm)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Head)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise ChimeraError(f"{path} cannot be read: {error}") from error


def resolve(swarm: str, address: str | None = None) -> Where | None:
    """The Ray cluster to look in: the argument, CHIMERA_ADDRESS, RAY_ADDRESS, the swarm's own."""
    if address:
        return Where(address, "--address", {})
    for name in ("CHIMERA_ADDRESS", "RAY_ADDRESS"):
        if given := os.environ.get(name):
            return Where(given, name, {})
    head = find_head(swarm)
    if head is None:
        return None
    return Where(head.address, f"the head of swarm {swarm}", head.environment)


def start_ticks(pid: int) -> int | None:
    """When a living process began, in clock ticks since boot; None if it lives no more."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else int(fields[19])
