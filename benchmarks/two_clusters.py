"""A swarm over two Ray clusters, one of them in a network namespace whose wire can be cut."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chimera
from benchmarks.far_region import relay
from chimera.actors import boot
from chimera.frames import ids
from chimera.swarm.reports import SwarmStatus
from chimera.swarm.spec import RegionSpec, Spec, region_shards, to_dict

IP = shutil.which("ip")
#: for each of the clusters to have its region up, seconds
READY_S = 150.0
END_S = 60.0


def needed() -> str | None:
    """What is missing on this machine for a network namespace; None if nothing is."""
    if IP is None or os.geteuid() != 0:
        return "needs root and iproute2: a network namespace of its own"
    return None


def free_port() -> int:
    """A port of loopback that nobody has just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Wire:
    """A network namespace, joined to the host's by a wire that can be cut."""

    def __init__(self) -> None:
        tag = uuid.uuid4().hex[:6]
        self.name, self.near, self.far = f"ch{tag}", f"cha{tag}", f"chb{tag}"
        octets = uuid.uuid4().bytes
        subnet = f"10.{100 + octets[0] % 100}.{octets[1]}"
        self.near_host, self.far_host = f"{subnet}.1", f"{subnet}.2"
        self._ip("netns", "add", self.name)
        self._ip("link", "add", self.near, "type", "veth", "peer", "name", self.far)
        self._ip("link", "set", self.far, "netns", self.name)
        self._ip("addr", "add", f"{subnet}.1/24", "dev", self.near)
        self._ip("link", "set", self.near, "up")
        self._ip("-n", self.name, "addr", "add", f"{subnet}.2/24", "dev", self.far)
        self._ip("-n", self.name, "link", "set", self.far, "up")
        self._ip("-n", self.name, "link", "set", "lo", "up")

    @staticmethod
    def _ip(*words: str) -> None:
        subprocess.run([str(IP), *words], check=True, capture_output=True, text=True)

    def cut(self) -> None:
        """Nothing passes any more, and nobody is told: packets vanish."""
        self._ip("-n", self.name, "link", "set", self.far, "down")

    def heal(self) -> None:
        self._ip("-n", self.name, "link", "set", self.far, "up")

    def remove(self) -> None:
        self._ip("netns", "del", self.name)


class TwoRegions:
    """A swarm with a region `near`, in this process's Ray, and one `far`, behind the wire."""

    client: chimera.client.Swarm  #: there is one once it is up

    def __init__(
        self, wire: Wire, directory: Path, handlers: str, reach: tuple[int, ...] = (),
        **settings: Any,
    ) -> None:  # fmt: skip
        """`settings` are further ones of the spec; `reach` are ports of servers on the near
        loopback that are to be reached on the far one too, as long as the wire is not cut."""
        self.wire = wire
        self.directory = directory
        self._handlers = handlers
        self._settings = settings
        bridge = f"{wire.far_host}:{free_port()}"
        far_spec = self._spec(f"127.0.0.1:{free_port()}")
        near_port = free_port()
        self.spec = self._spec(f"127.0.0.1:{near_port}", far_spec.name)
        host, _, port = bridge.rpartition(":")
        self._relays = [relay(("127.0.0.1", near_port), (host, int(port)))]
        self._relays += [relay((wire.near_host, port), ("127.0.0.1", port)) for port in reach]
        self._process = subprocess.Popen(
            [str(IP), "netns", "exec", wire.name, sys.executable, "-m", "benchmarks.far_region"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        order = {"spec": to_dict(far_spec), "region": "far", "bridge": bridge,
                 "reach": [(port, wire.near_host) for port in reach]}  # fmt: skip
        self._tell(json.dumps(order))

    def _spec(self, link: str, name: str = "") -> Spec:
        return Spec(
            name=name or f"t{uuid.uuid4().hex[:8]}",
            handlers=(self._handlers,),
            data_dir=str(self.directory),
            objects=f"file://{self.directory}/objects",
            shards=4,
            regions=(
                RegionSpec(name="near", leaders=1),
                RegionSpec(name="far", leaders=1, link=link),
            ),
            **self._settings,
        )

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _heard(self, begins: str) -> str:
        """The next line of the far side that begins so: Ray prints notices of its own."""
        assert self._process.stdout is not None
        said: list[str] = []
        for line in self._process.stdout:
            if line.startswith(begins):
                return line
            said.append(line)
        raise TimeoutError(f"the far region ended: {''.join(said)[-1000:]}")

    def up(self) -> None:
        """Bring both regions up. Raises TimeoutError, ChimeraError."""
        self._heard("ready")
        boot.up(self.spec, timeout_s=READY_S)
        self.client = chimera.connect(self.spec.name)

    def far_names(self) -> list[str]:
        """Actors in the far cluster."""
        self._tell("names")
        found: list[str] = json.loads(self._heard("["))
        return found

    def status(self) -> SwarmStatus:
        return boot.status(self.spec.name, timeout_s=10.0)

    def far_shards(self) -> tuple[int, ...]:
        return region_shards(self.spec, "far")

    def is_far(self, task_id: str) -> bool:
        """Whether a task lives in the far region."""
        return ids.parse_id(task_id).shard in self.far_shards()

    def down(self) -> None:
        """End both; the far cluster with its process."""
        try:
            boot.down(self.spec.name, timeout_s=END_S)
        finally:
            for one in self._relays:
                one.close()
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                self._process.wait(END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                raise


@contextlib.contextmanager
def wire() -> Iterator[Wire]:
    """A wire that is gone at the end. Needs what `needed` says."""
    made = Wire()
    try:
        yield made
    finally:
        made.remove()
