"""One edge under load, in a process of its own: Serve reads its mode from the environment once.

`python -m benchmarks.http_edge SETTINGS`: prints what it measured as a line of JSON. HAProxy
listens on every interface, so that it is run in a network namespace only.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import psutil
from fastapi import FastAPI, Request
from ray import serve

from benchmarks import http_load, rig
from benchmarks.common import Settings
from benchmarks.http_load import Load
from chimera.serve import deployment
from chimera.swarm.spec import HttpSpec

#: how this edge is told from the swarm behind it: by the names of its processes
EDGE = ("ServeReplica", "ProxyActor", "HAProxyManager", "haproxy")
LINES = 2000  #: of a bulk
AT_ONCE = {"single": (1, 32), "bulk": (1, 4)}
#: between two looks of Prometheus, as in configs/prometheus.yml, seconds
SCRAPE_S = 5.0
#: and in this benchmark, where a look each five seconds would be lost in the noise
OFTEN_S = 0.5
#: for which the processor is watched while nothing is asked of anybody, seconds
REST_S = 4
#: for routes to be known everywhere, seconds
READY_S = 60.0

_TASK = b'{"type": "bench.noop", "payload": {"n": 12345678, "text": "%s"}}' % (b"x" * 64)
WIRES = {
    "empty": http_load.request("POST", "/empty/", _TASK),
    "read": http_load.request("POST", "/empty/read", _TASK),
    "single": http_load.request("POST", "/v1/tasks", _TASK),
    "bulk": http_load.request(
        "POST", "/v1/tasks:batch", LINES * (_TASK + b"\n"), "application/x-ndjson"
    ),
    "metrics": http_load.request("GET", "/metrics"),
}
STATUS = {"empty": 202, "read": 202, "single": 202, "bulk": 200, "metrics": 200}

_empty = FastAPI()


@_empty.post("/", status_code=202)
async def _nothing() -> dict[str, str]:
    return {}


@_empty.post("/read", status_code=202)
async def _read(request: Request) -> dict[str, str]:
    await request.body()
    return {}


@serve.ingress(_empty)
class _Empty:
    """What Serve itself costs."""


class Measured(msgspec.Struct, kw_only=True):
    """One stretch of load."""

    #: `empty`, `read`: an empty route that reads its body, `single`, `bulk`; `paced`: `read`, asked
    #: as often as tasks were submitted just before; `scraped`: a bulk while metrics are looked at
    what: str
    connections: int
    rate: float  #: requests a second
    latency_ms: float  #: median
    cpu_ms: float  #: of the edge's processes, a request, beyond what they take at rest
    swarm_ms: float  #: likewise of all others: leaders, workers, Ray
    lines_per_s: float = 0.0
    ended_per_s: float = 0.0  #: from the first line to the last outcome recorded


class Report(msgspec.Struct, kw_only=True):
    """All that was measured of one edge."""

    measured: list[Measured]
    scrape_ms: float  #: processor time of all processes, a look at /metrics
    refused: int  #: lines of bulks, for a full queue


class Spent(NamedTuple):
    """Seconds of processor: of the edge, and of the swarm and Ray behind it."""

    edge: float
    swarm: float

    def since(self, before: Spent) -> Spent:
        return Spent(self.edge - before.edge, self.swarm - before.swarm)


def _cpu() -> Spent:
    """What processes of this run took so far, the one that makes the load aside."""
    edge = swarm = 0.0
    for process in rig.marked():
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):
            name = process.cmdline()[0]
            times = process.cpu_times()
            if any(one in name for one in EDGE):
                edge += times.user + times.system
            elif process.pid != os.getpid():
                swarm += times.user + times.system
    return Spent(edge, swarm)


class Edge:
    """The gateway and an empty route, in front of a swarm."""

    def __init__(self, swarm: rig.Swarm, port: int, settings: Settings) -> None:
        self._swarm = swarm
        self._port = port
        self._settings = settings
        self.refused = 0
        self._rest = Spent(0.0, 0.0)  #: a second, while nothing is asked

    def _load(self, what: str, connections: int, seconds: float, rate: float = 0.0) -> Load:
        return http_load.run(self._port, WIRES[what], STATUS[what], connections, seconds, rate)

    def open_tasks(self) -> int:
        """Tasks that have no outcome yet."""
        leaders = self._swarm.region().leaders
        return sum(shard.open for leader in leaders for shard in leader.shards)

    def calm(self) -> None:
        """Wait until everything has ended."""
        rig.until(lambda: self.open_tasks() == 0, 120.0, "end of all tasks", 0.05)

    def measure(self, what: str, connections: int, rate: float = 0.0) -> Measured:
        """One stretch of load, from a swarm at rest to one at rest."""
        self.calm()
        before, began = _cpu(), time.monotonic()
        wire = {"scraped": "bulk", "paced": "read"}.get(what, what)
        with self._scraped() if what == "scraped" else contextlib.nullcontext():
            load = self._load(wire, connections, self._settings.seconds, rate)
        self.calm()
        ended = time.monotonic() - began
        spent = _cpu().since(before)
        self.refused += load.refused
        return Measured(
            what=what,
            connections=connections,
            rate=load.requests / load.seconds,
            latency_ms=sorted(load.latencies_ms)[load.requests // 2],
            cpu_ms=1000 * max(spent.edge - self._rest.edge * ended, 0.0) / load.requests,
            swarm_ms=1000 * max(spent.swarm - self._rest.swarm * ended, 0.0) / load.requests,
            lines_per_s=load.lines / load.seconds,
            ended_per_s=load.lines / ended,
        )

    def scrape_ms(self) -> float:
        """What a look at /metrics costs, beside as long a time at rest."""
        self.calm()
        before = _cpu()
        load = self._load("metrics", 1, 2 * self._settings.seconds)
        spent = sum(_cpu().since(before)) - sum(self._rest) * load.seconds
        return max(1000 * spent / load.requests, 0.0)

    def rest(self) -> None:
        """See what is taken while nothing is asked, which no request shall be charged with."""
        self.calm()
        rest_s = self._settings.pick(REST_S, 1)
        before = _cpu()
        time.sleep(rest_s)
        spent = _cpu().since(before)
        self._rest = Spent(spent.edge / rest_s, spent.swarm / rest_s)

    @contextlib.contextmanager
    def _scraped(self) -> Iterator[None]:
        """Metrics are looked at meanwhile."""
        ended = threading.Event()

        def look() -> None:
            while not ended.is_set():
                self._load("metrics", 1, 0.001)
                ended.wait(OFTEN_S)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _run(settings: Settings) -> Report:
    with (
        rig.ray_cluster(settings.data_dir) as data_dir,
        rig.swarm(data_dir, fsync=False) as swarm,
    ):
        port = _free_port()
        deployment.up(swarm.name, HttpSpec(port=port))
        made: Any = serve.deployment(
            _Empty, name="empty", max_ongoing_requests=1000, logging_config=deployment.LOGGING,
            ray_actor_options=deployment.actor_options(),
        )  # fmt: skip
        serve.run(made.bind(), name="empty", route_prefix="/empty")
        edge = Edge(swarm, port, settings)
        for what in WIRES:
            _await(port, what)
        measured = []
        try:
            edge.rest()
            for _ in range(settings.pairs):
                for connections in AT_ONCE["single"]:
                    measured += [
                        edge.measure(one, connections) for one in ("empty", "read", "single")
                    ]
                    rate = measured[-1].rate
                    measured.append(edge.measure("paced", connections, rate))
                measured += [edge.measure("bulk", one) for one in AT_ONCE["bulk"]]
                measured.append(edge.measure("scraped", AT_ONCE["bulk"][-1]))
            scrape_ms = edge.scrape_ms()
        finally:
            serve.shutdown()  # type: ignore[no-untyped-call]  # Serve's
        return Report(measured=measured, scrape_ms=scrape_ms, refused=edge.refused)


def _await(port: int, what: str) -> None:
    """Wait for the edge: a new one answers 404 or nothing until it has heard of its routes."""
    end = time.monotonic() + READY_S
    while True:
        try:
            http_load.run(port, WIRES[what], STATUS[what], 1, 0.05)
            return
        except (http_load.BadAnswer, OSError, EOFError) as fault:
            if time.monotonic() > end:
                raise TimeoutError(f"{what}: {fault!r} after {READY_S:g} s") from fault
        time.sleep(0.2)


def main() -> None:
    settings = msgspec.json.decode(sys.argv[1], type=Settings)
    print(msgspec.json.encode(_run(settings)).decode(), flush=True)


if __name__ == "__main__":
    main()
