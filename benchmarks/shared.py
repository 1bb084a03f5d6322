"""A region cut off whose shards another may take over: Kafka with a node down, and PostgreSQL."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks import ledger, rig, two_clusters
from benchmarks.budgets import judge
from benchmarks.common import Document, Settings, median, quantile
from benchmarks.regions import begun
from benchmarks.two_clusters import TwoRegions
from chimera.bus.connect import connect
from chimera.client.options import ShardByKey
from chimera.errors import OutcomeUnknown, Unavailable
from chimera.store.audit import AuditEntry
from chimera.store.control import ControlStore
from chimera.traffic.topics import topics

#: tasks of a bulk, how long each takes, and how often there are two bulks, seconds: what one
#: region's worker can do alone, for else a backlog would be measured
BULK, SLEEP_S, EVERY_S = 12, 0.005, 0.25
PATIENCE_S = 100.0
PROVISION_S = 60.0
#: for what passed the wire before it was cut, milliseconds
UNDER_WAY_MS = 500
#: of the swarm: without a word for so long, a region is lost
REGION_TIMEOUT_S = 1.5


@dataclass(frozen=True)
class Loss:
    """One cut, seconds from it until …"""

    lost: float  #: the orchestrator says so
    ordered: float  #: the other region's leader is told to take the last shard of those lost
    recorded: float  #: it has recorded an outcome of a task of each of them
    served: float  #: a client that submits to one of them has its result
    back: float  #: after the healing: the region has its shards again
    fenced: int  #: writes of the region that was cut off that were refused


class Load:
    """Bulks of tasks, one with keys of the far region and one without, again and again."""

    def __init__(self, swarm: TwoRegions) -> None:
        self._swarm = swarm
        choose = ShardByKey("default", swarm.spec.shards)
        far = [f"k{n}" for n in range(200) if choose(f"k{n}") in swarm.far_shards()]
        self.far_keys, self.other_keys = far[:20], far[20:]  #: the others have no tasks waiting
        self.bulks: list[Any] = []
        self._next = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def payload(self, sleep_s: float = 0.0) -> dict[str, Any]:
        """Of a task with a number of its own."""
        with self._lock:
            self._next += 1
            return {
                "dir": str(self._swarm.directory / "begun"),
                "i": self._next,
                "sleep_s": sleep_s,
            }

    def _run(self) -> None:
        submit = self._swarm.client.submit_many
        while not self._stop.wait(EVERY_S):
            keys = [self.far_keys[n % len(self.far_keys)] for n in range(BULK)]
            for given in (keys, None):
                payloads = [self.payload(SLEEP_S) for _ in range(BULK)]
                with contextlib.suppress(OutcomeUnknown, Unavailable):
                    self.bulks.append(submit("bench.begin", payloads, key=given))

    @contextlib.contextmanager
    def going_on(self) -> Iterator[None]:
        """While it goes on."""
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join(PATIENCE_S)

    def more(self, bulks: int) -> None:
        """Wait until so many more were submitted."""
        enough = len(self.bulks) + bulks
        rig.until(lambda: len(self.bulks) >= enough, PATIENCE_S, "load")


class Log:
    """What the orchestrator and the near coordinator write down before they do it."""

    def __init__(self, swarm: TwoRegions) -> None:
        spec = swarm.spec
        self._stores = [
            ControlStore.of(spec.store, spec.name, part, spec.data_dir)
            for part in ("control", "coordinator-near")
        ]

    def since(self, at_ms: int) -> list[AuditEntry]:
        """Entries from then on."""
        found: list[AuditEntry] = []
        for store in self._stores:
            after = 0
            while entries := store.audit_entries(after, 500):
                found += [one for one in entries if one.at >= at_ms]
                after = entries[-1].seq
        return sorted(found, key=lambda one: one.at)


def _serve(swarm: TwoRegions, load: Load) -> float:
    """Seconds until a task of a far key is done."""
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE_S:
        with contextlib.suppress(OutcomeUnknown):
            task = swarm.client.submit(
                "bench.begin", load.payload(), key=load.other_keys[0], timeout_s=20.0,
                priority="critical",
            )  # fmt: skip
            if not swarm.is_far(task.id):
                raise AssertionError(f"{task.id} is not of the far region")
            task.result(timeout_s=30.0)
            return time.monotonic() - began
    raise TimeoutError("nobody serves the far region's shards")


def _fenced(swarm: TwoRegions) -> int:
    leaders = swarm.status().regions["far"].leaders
    return sum(one.counters.get("fenced", 0) for one in leaders)


def lose(
    swarm: TwoRegions, load: Load, log: Log, node: Any,
    while_cut: Callable[[], None] = lambda: None,
) -> Loss:  # fmt: skip
    """Kill a node of Kafka, cut the far region off, and mend both.

    `while_cut` is called when its shards are served elsewhere.
    """
    load.more(6)
    node.kill()
    load.more(4)
    fenced = _fenced(swarm)
    cut_ms = time.time_ns() // 1_000_000
    swarm.wire.cut()
    try:
        served = _serve(swarm, load)
        load.more(2)
        while_cut()
    finally:
        swarm.wire.heal()
    healed = time.monotonic()
    rig.until(lambda: _is_back(swarm), PATIENCE_S, "far region with its shards", 0.1)
    back = time.monotonic() - healed
    node.start()
    told = log.since(cut_ms)
    lost = next(one.at for one in told if one.action == "region_lost")
    homes = {f"shard {shard}" for shard in swarm.far_shards()}
    takes = [one.at for one in told if one.action == "take" and one.subject in homes]
    # what the far region wrote just before the cut may be recorded a moment after it
    recorded = [
        ledger.first_outcome(swarm.spec.store, swarm.spec.name, shard, cut_ms + UNDER_WAY_MS)
        for shard in swarm.far_shards()
    ]
    after = [(at - cut_ms) / 1000 for at in (lost, max(takes), max(recorded))]
    return Loss(*after, served, back, _fenced(swarm) - fenced)


def _is_back(swarm: TwoRegions) -> bool:
    status = swarm.status()
    return status.ready and not status.spec["operations"]["homes"]


def run(document: Document, settings: Settings) -> None:
    """Lose the far region again and again, on one swarm; then count what became of every task."""
    if missing := two_clusters.needed():
        raise click.ClickException(missing)
    found: list[Loss] = []
    with contextlib.ExitStack() as stack:
        data_dir = stack.enter_context(rig.ray_cluster(settings.data_dir))
        kafka, postgres = stack.enter_context(_servers())
        directory = data_dir / "shared"
        stack.callback(shutil.rmtree, directory, True)
        swarm = stack.enter_context(two_regions(directory, kafka, postgres))
        load = Load(swarm)
        log = Log(swarm)
        with load.going_on():
            for _ in range(settings.pairs):
                found.append(lose(swarm, load, log, kafka.nodes[0]))
                print(f"region lost: {found[-1]}", flush=True)
        for bulk in load.bulks:
            bulk.wait(timeout_s=PATIENCE_S)
        counts = ledger.outcomes_in_database(swarm.spec.store, swarm.spec.name, swarm.spec.shards)
        again = begun(swarm)
    _tell(document, found, counts, again)


@contextlib.contextmanager
def two_regions(directory: Path, kafka: Any, postgres: Any) -> Iterator[TwoRegions]:
    """Two regions on these servers, up; tasks note their begin in `directory`."""
    (directory / "begun").mkdir(parents=True)
    ports = [int(one.rpartition(":")[2]) for one in kafka.bootstrap.split(",")]
    with two_clusters.wire() as wire:
        swarm = TwoRegions(
            wire, directory, "benchmarks.handlers", (postgres.port, *ports),
            bus=f"kafka://{kafka.bootstrap}", store=postgres.database(),
            region_timeout_s=REGION_TIMEOUT_S,
        )  # fmt: skip
        try:
            bus = connect(swarm.spec.bus)
            bus.provision(tuple(topics(swarm.spec.name, swarm.spec.shards)), PROVISION_S)
            bus.close(PROVISION_S)
            swarm.up()
            yield swarm
        finally:
            wire.heal()
            swarm.down()


@contextlib.contextmanager
def _servers() -> Iterator[tuple[Any, Any]]:
    """Three nodes of Kafka, and a PostgreSQL."""
    from tests.servers.kafka import Kafka
    from tests.servers.postgres import fresh

    with contextlib.ExitStack() as stack:
        kafka = Kafka(Path(tempfile.mkdtemp(prefix="chimera-kafka-")), nodes=3)
        stack.callback(kafka.stop)
        kafka.start()
        yield kafka, stack.enter_context(contextlib.contextmanager(fresh)())


def _tell(document: Document, found: list[Loss], counts: Counter[int], begun: Counter[int]) -> None:
    what = "shards on shared storage, region cut off"
    served = [one.served for one in found]
    document.add(f"{what}: until it is lost", "s", [one.lost for one in found])
    document.add(f"{what}: until they are ordered elsewhere", "s", [one.ordered for one in found])
    document.add(f"{what}: outcomes of each by a new owner", "s", [one.recorded for one in found])
    document.add(f"{what}: until a client has a result", "s", served)
    document.add("region healed: until it has its shards again", "s", [one.back for one in found])
    detail = (
        f"p50 {median(served):.2f} s, slowest {max(served):.2f} s of {len(served)} times;"
        f" {sum(one.fenced for one in found)} writes of the region that was cut off refused"
    )
    judge(document, "shared", "Kafka with a node killed", quantile(served, 0.99), detail)
    tasks = f"{sum(counts.values()):,} tasks and {len(found)} losses"
    judge(document, "region_lost", "shared storage", float(counts[0]), tasks)
    doubled = float(sum(count for times, count in counts.items() if times > 1))
    again = sum(times > 1 for times in begun.values())
    judge(document, "region_doubled", "shared storage", doubled, tasks)
    document.note(
        f"Of {sum(begun.values()):,} begun tasks {again} were begun twice: those in hand."
    )
