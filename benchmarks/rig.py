"""A Ray cluster of the benchmark's own and swarms on it; nothing is left when they end."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil
import ray

import chimera
from chimera import config, names
from chimera.actors import boot
from chimera.actors.cluster import Cluster
from chimera.client.options import ShardByKey
from chimera.errors import ChimeraError
from chimera.swarm.reports import LeaderReport, Owner, RegionReport, SwarmStatus

T = TypeVar("T")

#: inherited by every process of a run, so that one left behind can be told
MARK = "CHIMERA_BENCHMARK"
#: names of Ray's sockets take about 80 of the 107 bytes that Unix allows
TMP_LENGTH_MAX = 24
READY_S = 120.0
#: processes that end by themselves get this long to do so
STRAGGLERS_S = 10.0
LOOK_S = 0.01

ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",  # else Ray writes a token into the user's home
    "RAY_USAGE_STATS_ENABLED": "0",
    # plain Ray and Chimera alike: what runs at nice 15 measures the rest of the machine
    "RAY_worker_niceness": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # of calls that nobody waits for any more
}


def until(condition: Callable[[], T], deadline_s: float, what: str, look_s: float = LOOK_S) -> T:
    """Wait for a condition to be true; returns its value. Raises TimeoutError."""
    end = time.monotonic() + deadline_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() >= end:
            raise TimeoutError(f"no {what} within {deadline_s:g} s")
        time.sleep(look_s)


@contextlib.contextmanager
def ray_cluster(where: str | None = None) -> Iterator[Path]:
    """A Ray of this machine, with this process as its driver; gives a directory for data.

    `where` is the directory to make that in; None: that of temporary files.
    """
    os.environ.update(ENVIRONMENT)
    os.environ[MARK] = uuid.uuid4().hex
    os.environ.pop("RAY_ADDRESS", None)
    root = str(Path(__file__).parent.parent)
    kept = [
        one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one not in ("", root)
    ]
    os.environ["PYTHONPATH"] = os.pathsep.join([root, *kept])
    base = tempfile.gettempdir()
    temp_dir = tempfile.mkdtemp(prefix="cb", dir="/tmp" if len(base) > TMP_LENGTH_MAX else base)
    data_dir = tempfile.mkdtemp(prefix="chimera-benchmark-", dir=where)
    # Ray's address book for `auto` lies there: ours must not lead anybody else astray
    os.environ["RAY_TMPDIR"] = temp_dir
    try:
        ray.init(
            address="local",
            include_dashboard=False,
            object_store_memory=300_000_000,
            log_to_driver=False,
            logging_level="warning",
            namespace="benchmark",
            _temp_dir=temp_dir,
        )
        signal.signal(signal.SIGTERM, _leave)  # after Ray, which has a handler of its own
        yield Path(data_dir)
    finally:
        ray.shutdown()
        _end_stragglers()
        shutil.rmtree(temp_dir, ignore_errors=True)
        shutil.rmtree(data_dir, ignore_errors=True)


def _leave(*_: object) -> None:
    raise SystemExit("ended by a signal")


def marked() -> list[psutil.Process]:
    """Living processes of this run, this one aside."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if (
                process.pid != os.getpid()
                and process.status() != psutil.STATUS_ZOMBIE
                and process.environ().get(MARK) == os.environ[MARK]
            ):
                found.append(process)
    return found


def _end_stragglers() -> None:
    end = time.monotonic() + STRAGGLERS_S
    while (left := marked()) and time.monotonic() < end:
        time.sleep(0.05)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            print(f"ended what was left: {process.pid} {process.name()}", file=sys.stderr)
            process.kill()


class Swarm:
    """A swarm that is up, as a benchmark sees it."""

    def __init__(self, name: str, data_dir: Path) -> None:
        self.name = name
        self.data_dir = data_dir
        self._cluster = Cluster(names.namespace(name))
        self._clients: dict[str, chimera.client.Swarm] = {}

    def client(self, tenant: str = "default") -> Any:
        """A connection, the same one each time."""
        if tenant not in self._clients:
            self._clients[tenant] = chimera.connect(self.name, tenant)
        return self._clients[tenant]

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    def status(self) -> SwarmStatus:
        """What the orchestrator observes."""
        return boot.status(self.name)

    def region(self) -> RegionReport:
        """What the coordinator reports just now."""
        report: RegionReport = self._cluster.call(self._coordinator().status.remote(), 10.0)
        return report

    def owners(self) -> dict[int, str]:
        """Which leader has which shard, as the coordinator says."""
        found = self._cluster.call(self._coordinator().placement.remote(), 10.0)
        return dict(found.shards)

    def _coordinator(self) -> Any:
        handle = self._cluster.find(names.coordinator("local"))
        if handle is None:
            raise ChimeraError("there is no coordinator just now")
        return handle

    def is_whole(self, leaders: int) -> LeadersReport | None:
        """The leaders, if all of them have workers and their share of the shards."""
        try:
            report = self.region()
        except ChimeraError:
            return None
        ready = [one for one in report.leaders if one.ready]
        has = [len(one.shards) for one in ready]
        calm = all(shard.state == "serving" for one in ready for shard in one.shards)
        whole = report.ready and len(has) == leaders and max(has) - min(has) <= 1
        return tuple(ready) if whole and calm else None

    def leaders(self, count: int = 2, deadline_s: float = READY_S) -> LeadersReport:
        """The leaders' reports, once all of them have workers and their share of the shards."""
        found = until(lambda: self.is_whole(count), deadline_s, f"{count} leaders that serve", 0.1)
        assert found is not None
        return found

    def key_of(self, shard: int, shards: int = 8, tenant: str = "default") -> str:
        """A key whose tasks live in that shard."""
        choose = ShardByKey(tenant, shards)
        return next(key for key in map(str, range(100_000)) if choose(key) == shard)


LeadersReport = tuple[LeaderReport, ...]


def kill(owner: Owner) -> int:
    """End a process of ours without a word; returns when, on the monotonic clock, ns."""
    before = time.monotonic_ns()
    os.kill(owner.pid, signal.SIGKILL)
    return before


@contextlib.contextmanager
def swarm(
    data_dir: Path,
    *,
    fsync: bool = False,
    leaders: int = 2,
    workers: int = 1,
    before: Callable[[str], None] = lambda name: None,
    **settings: Any,
) -> Iterator[Swarm]:
    """A swarm of its own, down again at the end. `settings` are further keys of the spec.

    `before` is called with its name before it is brought up.
    """
    name = f"bench-{uuid.uuid4().hex[:6]}"
    before(name)
    place = data_dir / name
    lines = [
        f"name: {name}",
        "handlers: [benchmarks.handlers]",
        f"data_dir: {place}",
        f"durability: {'fsync' if fsync else 'os'}",
        f"regions: [{{name: local, leaders: {leaders}, workers: {workers}}}]",
        *(f"{key}: {value}" for key, value in settings.items()),
    ]
    boot.up(config.parse_spec("\n".join(lines), "benchmark"), timeout_s=READY_S)
    made = Swarm(name, place)
    try:
        yield made
    finally:
        made.close()
        boot.down(name)
        shutil.rmtree(place, ignore_errors=True)
