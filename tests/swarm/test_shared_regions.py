"""Two real Ray clusters on one Kafka and one PostgreSQL: the shards of the one that is cut off are
served by the other, and given back when it is there again."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import two_clusters
from benchmarks.ledger import outcomes_in_database
from benchmarks.two_clusters import TwoRegions
from chimera.bus.connect import connect
from chimera.client.options import ShardByKey
from chimera.errors import OutcomeUnknown, Unavailable
from chimera.frames import ids
from chimera.traffic.topics import topics
from tests.guarantees.kit import HANDLERS, notes, times_run, until
from tests.servers.kafka import Kafka
from tests.servers.postgres import Postgres

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(500)]

#: tasks of a burst, and how long each takes
BURST, MS = 40, 5


@pytest.fixture
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """Three nodes; one of them may die."""
    server = Kafka(tmp_path_factory.mktemp("kafka3"), nodes=3)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def swarm(
    ray_cluster: Any, brokers: Kafka, postgres: Postgres, tmp_path: Path
) -> Iterator[TwoRegions]:
    if missing := two_clusters.needed():
        pytest.skip(missing)
    reach = tuple(int(one.rpartition(":")[2]) for one in brokers.bootstrap.split(","))
    with two_clusters.wire() as wire:
        made = TwoRegions(
            wire, tmp_path, HANDLERS, (postgres.port, *reach), bus=f"kafka://{brokers.bootstrap}",
            store=postgres.database(), region_timeout_s=1.5,
        )  # fmt: skip
        try:
            bus = connect(made.spec.bus)
            bus.provision(tuple(topics(made.spec.name, made.spec.shards)), 60.0)
            bus.close(5.0)
            made.up()
            yield made
        finally:
            wire.heal()
            made.down()


class Load:
    """Bursts of tasks, one with keys of the far region and one without, again and again."""

    def __init__(self, swarm: TwoRegions) -> None:
        self._swarm = swarm
        choose = ShardByKey("default", swarm.spec.shards)
        self.far_keys = [f"k{n}" for n in range(60) if choose(f"k{n}") in swarm.far_shards()]
        self.bulks: list[Any] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def payload(self, n: int, **more: Any) -> dict[str, Any]:
        return {"log": str(self._swarm.directory / "log"), "n": n, **more}

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            payloads = [self.payload(n, ms=MS) for n in range(BURST)]
            keys = [self.far_keys[n % len(self.far_keys)] for n in range(BURST)]
            submit = self._swarm.client.submit_many
            with contextlib.suppress(OutcomeUnknown, Unavailable):
                self.bulks += [submit("work", payloads, key=keys), submit("work", payloads)]

    @contextlib.contextmanager
    def going_on(self) -> Iterator[None]:
        self._thread.start()
        yield
        self._stop.set()
        self._thread.join(60.0)


def far_leader(swarm: TwoRegions) -> Any:
    return next(iter(swarm.status().regions["far"].leaders))


def serve_a_far_key(swarm: TwoRegions, load: Load) -> float:
    """Seconds until a task of a far key is done."""
    began = time.monotonic()
    end = began + 60.0
    while time.monotonic() < end:
        with contextlib.suppress(OutcomeUnknown):
            payload = load.payload(-1)
            task = swarm.client.submit("work", payload, key=load.far_keys[0], timeout_s=20.0)
            assert ids.parse_id(task.id).shard in swarm.far_shards()
            task.result(timeout_s=30.0)
            return time.monotonic() - began
    raise AssertionError("nobody serves the far region's shards")


def test_a_region_that_is_cut_off_is_replaced_and_nothing_is_lost_or_done_twice(
    swarm: TwoRegions, brokers: Kafka
) -> None:
    load = Load(swarm)
    with load.going_on():
        until(lambda: len(load.bulks) >= 5)
        first = list(load.bulks)
        assert all(len(list(bulk.results(timeout_s=60))) == BURST for bulk in first)
        done = {task_id for bulk in first for task_id in bulk.ids()}
        brokers.nodes[0].kill()
        until(lambda: len(load.bulks) >= 8)
        fenced = far_leader(swarm).counters.get("fenced", 0)
        swarm.wire.cut()
        served = serve_a_far_key(swarm, load)
        homes = swarm.status().spec["operations"]["homes"]
        assert set(homes.values()) == {"near"}
        until(lambda: len(load.bulks) >= 12)
        swarm.wire.heal()
        brokers.nodes[0].start()
        until(lambda: far_leader(swarm).counters.get("fenced", 0) > fenced)
        until(lambda: swarm.status().ready and not swarm.status().spec["operations"]["homes"])
    for bulk in load.bulks:
        assert sorted(bulk.results(timeout_s=100)) == list(range(BURST))
    placement = swarm.status().regions["far"].placement
    assert set(placement) == set(swarm.far_shards()), "drained back"
    found = outcomes_in_database(swarm.spec.store, swarm.spec.name, swarm.spec.shards)
    assert set(found) == {1}, f"tasks by outcomes: {dict(found)}"
    ran = times_run(notes(swarm.directory / "log", "ran"))
    assert {ran[task] for task in done} == {1}, "what was recorded before the cut was run again"
    print(f"a shard of the region that was cut off was served after {served:.2f} s")
