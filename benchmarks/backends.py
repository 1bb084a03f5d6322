"""Each broker and database beside the embedded defaults: bulks and single tasks, in one run."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import buses, clients, rig
from benchmarks.clients import Work
from benchmarks.common import Document, Settings, median, ratios
from benchmarks.latency import timed_ms
from chimera.bus.connect import connect
from chimera.traffic.topics import topics

EMBEDDED = "embedded"
#: name → servers that it needs; each part is a swarm of its own in each round
BACKENDS = {
    EMBEDDED: (),
    "postgresql": ("store",),
    "kafka": ("kafka",),
    "rabbitmq": ("rabbitmq",),
    "kafka + postgresql": ("kafka", "store"),
    "rabbitmq + postgresql": ("rabbitmq", "store"),
}
PARTS = tuple(BACKENDS)
NOOP = Work("bench.noop")
#: tasks of a bulk that warms up; single tasks of one block
WARM_UP = 5_000
BLOCK = 100
COUNT_MAX = 200_000
PROVISION_S = 60.0
SHARDS = 8


@contextlib.contextmanager
def _kafka() -> Iterator[str]:
    from tests.servers.kafka import Kafka

    server = Kafka(Path(tempfile.mkdtemp(prefix="chimera-kafka-")))
    try:
        server.start()
        yield f"kafka://{server.bootstrap}"
    finally:
        server.stop()


@contextlib.contextmanager
def _rabbitmq() -> Iterator[str]:
    from tests.servers.rabbitmq import RabbitMQ

    server = RabbitMQ(Path(tempfile.mkdtemp(prefix="chimera-rabbitmq-")))
    try:
        server.start()
        yield server.url
    finally:
        server.stop()


@contextlib.contextmanager
def _postgresql() -> Iterator[Callable[[], str]]:
    from tests.servers.postgres import fresh

    with contextlib.contextmanager(fresh)() as server:
        yield server.database


class _Servers:
    """What the chosen parts need, started once for all rounds."""

    def __init__(self, names: set[str], stack: contextlib.ExitStack) -> None:
        self._buses: dict[str, str] = {}
        if "kafka" in names:
            self._buses["kafka"] = stack.enter_context(_kafka())
        if "rabbitmq" in names:
            self._buses["rabbitmq"] = stack.enter_context(_rabbitmq())
        self._database = stack.enter_context(_postgresql()) if "store" in names else None

    def buses(self, directory: str) -> dict[str, str]:
        """The embedded bus and the chosen brokers, by name."""
        return {EMBEDDED: f"embedded:{directory}", **self._buses}

    def settings(self, backend: str) -> dict[str, Any]:
        """Settings of a swarm's spec, with a database of its own."""
        found: dict[str, Any] = {"shards": SHARDS}
        for name in BACKENDS[backend]:
            if name == "store":
                assert self._database is not None
                found["store"] = self._database()
            else:
                found["bus"] = self._buses[name]
        return found


class _Measured:
    """One backend's figures, a value a round."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.accepted: list[float] = []
        self.singles: list[float] = []
        self.middles: list[float] = []

    def add(self, client: Any, settings: Settings) -> None:
        """Measure on a swarm that is up."""
        warm = clients.submit_and_read(client, NOOP, settings.pick(WARM_UP, 200))
        count = min(max(int(warm.rate * settings.seconds), 500), COUNT_MAX)
        span = clients.submit_and_read(client, NOOP, count)
        self.rates.append(span.rate)
        self.accepted.append(span.more["accepted"])
        payload = clients.PAYLOADS[0]
        size = settings.pick(BLOCK, 10)
        timed_ms(lambda: client.call(NOOP.task, payload, 60), size // 5)
        block = timed_ms(lambda: client.call(NOOP.task, payload, 60), size)
        self.singles += block
        self.middles.append(median(block))


def _up(data_dir: Path, settings: dict[str, Any]) -> contextlib.AbstractContextManager[rig.Swarm]:
    bus = settings.get("bus")

    def provision(name: str) -> None:
        if bus is not None:
            client = connect(bus)
            client.provision(tuple(topics(name, SHARDS)), PROVISION_S)
            client.close(PROVISION_S)

    return rig.swarm(data_dir, before=provision, **settings)


def run(document: Document, settings: Settings) -> None:
    """Rounds of all backends in turn, each on a swarm of its own."""
    chosen = [name for name in BACKENDS if settings.has(name) or name == EMBEDDED]
    found = {name: _Measured() for name in chosen}
    with contextlib.ExitStack() as stack:
        servers = _Servers({one for name in chosen for one in BACKENDS[name]}, stack)
        data_dir = stack.enter_context(rig.ray_cluster(settings.data_dir))
        for _ in range(settings.pairs):
            for name, measured in found.items():
                with _up(data_dir, servers.settings(name)) as swarm:
                    measured.add(swarm.client(), settings)
        for name, url in servers.buses(str(data_dir / "bus")).items():
            buses.measure(document, name, url, settings.seconds, settings.pick(BLOCK, 10))
    beside = found[EMBEDDED]
    for name, measured in found.items():
        document.add(f"{name}: no-op bulk, results read", "/s", measured.rates)
        document.add(f"{name}: the same, until accepted", "/s", measured.accepted)
        document.add(f"{name}: one task after the other", "ms", measured.singles)
        if name != EMBEDDED:
            document.add(f"{name}: bulk × embedded", "×", ratios(measured.rates, beside.rates))
            document.add(
                f"{name}: single × embedded", "×", ratios(measured.middles, beside.middles)
            )
    document.note(
        "One node of each server on this machine, which shares its processors with the swarm; every"
        " result also goes out as an event where there is a broker. PostgreSQL syncs each commit;"
        " the embedded journals are those of `durability: os`."
    )
