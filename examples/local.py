"""A swarm on this machine for as long as a program needs it: started, used, gone without trace."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
from rich.console import Console

import chimera
from chimera.config import make_spec
from chimera.swarm.reports import SwarmStatus
from chimera.swarm.spec import Spec

#: Ray's sockets lie below; Unix allows their paths 107 bytes, of which Ray needs about 80
TMP_LENGTH_MAX = 24
#: Ray's processes end by themselves after it was shut down, within seconds
STRAGGLERS_S = 15.0
#: for a broker to make topics, seconds
PROVISION_S = 60.0
#: read by Ray when it is imported, which is why that is done late
QUIET = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a word on GPUs
    "RAY_USAGE_STATS_ENABLED": "0",  # a word on usage statistics
    # a paragraph for each process that is killed, which is what chaos is about
    "RAY_DEDUP_LOGS_SKIP_REGEX": "A worker died or was killed",
}


@dataclass(frozen=True)
class LocalSwarm:
    """A running swarm and a client of it."""

    name: str
    client: Any

    def status(self) -> SwarmStatus:
        from chimera.actors import boot

        return boot.status(self.name)

    def counters(self) -> dict[str, int]:
        """What leaders and coordinator have counted since they began, all together."""
        total: Counter[str] = Counter()
        for region in self.status().regions.values():
            total["failovers"] += region.failovers
            for leader in region.leaders:
                total.update(leader.counters)
        return dict(total)


@contextmanager
def local_swarm(handlers: Sequence[str], console: Console, **settings: str) -> Iterator[LocalSwarm]:
    """Two leaders and about one worker a core, on a Ray of its own. Ends all of it.

    `settings` are further ones of its spec, e.g. `bus` and `store`.
    """
    # what a broker or a database keeps of it must not meet what it keeps of the next one
    name = f"example-{secrets.token_hex(3)}"
    _end_on_sigterm()
    with ExitStack() as after:
        base = tempfile.gettempdir()
        directory = Path(
            tempfile.mkdtemp(prefix="ch", dir=base if len(base) <= TMP_LENGTH_MAX else "/tmp")
        )
        after.callback(_remove, directory)
        _prepare(directory)
        import ray

        from chimera.actors import boot

        with console.status("starting Ray"):
            dashboard = _start_ray(directory)
        after.callback(ray.shutdown)
        console.print(f"Ray's dashboard, while this runs: {dashboard}")
        if token := os.environ.get("RAY_AUTH_TOKEN_PATH"):
            console.print(f"It asks for the token in {token}")
        spec = make_spec(
            {
                "name": name,
                "handlers": list(handlers),
                "data_dir": str(directory / "data"),
                "regions": [{"leaders": 2, "workers": max(1, (os.cpu_count() or 2) // 2)}],
                **settings,
            }
        )
        if spec.bus:
            _provision(spec)
        after.callback(_down, name, console)
        with console.status("starting the swarm") as status:
            ready = boot.up(spec, on_progress=lambda step: status.update(f"swarm: {step}"))
        console.print(f"Swarm ready: {ready.summary}")
        with chimera.connect(name) as client:
            yield LocalSwarm(name, client)


def _prepare(directory: Path) -> None:
    """What Ray must find in the environment."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    # the address book that other programs read must not lead them to this short-lived cluster
    os.environ["RAY_TMPDIR"] = str(directory)
    if "RAY_AUTH_MODE" not in os.environ:
        # Ray listens beyond this machine; by itself it would leave a token in the user's home
        token = directory / "auth_token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token))


def _start_ray(directory: Path) -> str:
    import ray

    context = ray.init(
        address="local",
        include_dashboard=True,
        object_store_memory=200_000_000,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _temp_dir=str(directory),
    )
    return f"http://{context.dashboard_url}" if context.dashboard_url else "not available"


def _provision(spec: Spec) -> None:
    """Make the swarm's topics on its broker."""
    from chimera.bus.connect import connect
    from chimera.traffic.topics import topics

    bus = connect(spec.bus)
    try:
        bus.provision(tuple(topics(spec.name, spec.shards)), PROVISION_S)
    finally:
        bus.close(PROVISION_S)


def _down(name: str, console: Console) -> None:
    from chimera.actors import boot

    with console.status("ending the swarm"):
        boot.down(name)


def _remove(directory: Path) -> None:
    """Wait for Ray's last processes, which would make the directory anew, then remove it."""
    until = time.monotonic() + STRAGGLERS_S
    while time.monotonic() < until and any(
        str(directory) in " ".join(process.info["cmdline"] or ())
        for process in psutil.process_iter(["cmdline"])
    ):
        time.sleep(0.1)
    shutil.rmtree(directory, ignore_errors=True)


def _end_on_sigterm() -> None:
    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
