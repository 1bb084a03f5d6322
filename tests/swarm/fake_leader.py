"""A leader with the control surface of the real one, journals that are one small file each, and a
log of what it was told: for tests of coordinators."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray

from chimera import names
from chimera.actors import processes
from chimera.actors.cluster import Cluster, own_name
from chimera.errors import StaleEpoch, StaleTerm
from chimera.swarm.reports import (
    Hello,
    LeaderConfig,
    LeaderReport,
    OrchestratorPulse,
    Owner,
    ShardInfo,
    TakeOrder,
    WorkerInfo,
)
from chimera.swarm.rosters import Known


def log(directory: Path, **entry: Any) -> None:
    """Append an entry to the log that all fakes of a region share."""
    with open(directory / "log", "a") as file:
        file.write(json.dumps({"at": time.monotonic(), **entry}) + "\n")


def read_log(directory: Path, what: str) -> list[dict[str, Any]]:
    """The entries of one kind, oldest first."""
    path = directory / "log"
    if not path.exists():
        return []
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    return [entry for entry in entries if entry["what"] == what]


@contextmanager
def journal(directory: Path, shard: int) -> Iterator[dict[str, Any]]:
    """A shard's epoch and owner, to read and write alone."""
    with open(directory / names.journal(shard), "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        content = json.loads(file.read() or '{"epoch": 0, "owner": null}')
        yield content
        file.seek(0)
        file.truncate()
        file.write(json.dumps(content))


@ray.remote(concurrency_groups={"ctl": 2})
class FakeWorker:
    """Lives, and says who it is."""

    @ray.method(concurrency_group="ctl")
    def hello(self) -> Hello:
        name = own_name()
        return Hello(name, processes.identity(name), "", ())


@ray.remote(concurrency_groups={"ctl": 4, "watch": 2}, enable_task_events=False)
class FakeLeader:
    """Takes and releases shards as ordered. A file `fail` in its directory fails constructors."""

    def __init__(self, config: LeaderConfig, coordinator: str) -> None:
        self._name = own_name()
        self._directory = Path(config.data_dir)
        if (self._directory / "fail").exists():
            raise OSError(28, "No space left on device")
        self._process = processes.identity(self._name)
        self._config = config
        self._term = 0
        self._lock = threading.Lock()
        self._shards: dict[int, ShardInfo] = {}
        self._workers: dict[str, WorkerInfo] = {}
        self._cluster = Cluster(names.namespace(config.swarm))
        log(self._directory, what="made", leader=self._name, pid=os.getpid())
        for index in range(config.workers):
            name = names.worker(self._name, f"{os.getpid()}-{index}")
            handle = self._cluster.create(FakeWorker, name)
            hello = self._cluster.call(handle.hello.remote(), 30.0)
            self._workers[name] = WorkerInfo(name, hello.process, handle)

    def _check(self, term: int) -> None:
        if term < self._term:
            raise StaleTerm(f"term {term} is below {self._term}")
        self._term = term

    @ray.method(concurrency_group="watch")
    def watch(
        self, coordinator: str, term: int, hold_s: float, known: Known | None = None
    ) -> LeaderReport:
        self._check(term)
        time.sleep(hold_s)
        with self._lock:
            return LeaderReport(
                leader=self._name,
                process=self._process,
                generation=self._config.generation,
                ready=True,
                shards=tuple(self._shards.values()),
                workers=tuple(self._workers.values()),
                counters={},
            )

    @ray.method(concurrency_group="ctl")
    def take(self, order: TakeOrder) -> str:
        self._check(order.term)
        with journal(self._directory, order.shard) as content:
            if content["epoch"] != order.epoch:
                raise StaleEpoch("another epoch", epoch=content["epoch"])
        log(
            self._directory, what="take", leader=self._name, shard=order.shard, term=order.term,
            former=[worker.name for worker in order.former_workers], adopt=order.adopt,
        )  # fmt: skip
        self._set(order.shard, 0, "taking")
        threading.Thread(target=self._take, args=(order,), daemon=True).start()
        return "ok"

    def _take(self, order: TakeOrder) -> None:
        with journal(self._directory, order.shard) as content:
            owner = content["owner"]
        if owner and owner["pid"] != os.getpid():
            log(self._directory, what="ended", name=owner["name"])
            processes.end(Owner(**owner))
        with journal(self._directory, order.shard) as content:
            if content["epoch"] != order.epoch:
                with self._lock:
                    del self._shards[order.shard]
                return
            content.update(epoch=order.epoch + 1, owner=asdict(self._process))
        with self._lock:
            for worker in order.former_workers:
                if worker.name in order.adopt:
                    self._workers[worker.name] = worker
        self._set(order.shard, order.epoch + 1, "serving")

    def _set(self, shard: int, epoch: int, state: str) -> None:
        with self._lock:
            self._shards[shard] = ShardInfo(shard, epoch, state, 0)

    @ray.method(concurrency_group="ctl")
    def release(self, term: int, shard: int, finish: bool = False) -> None:
        self._check(term)
        log(self._directory, what="release", leader=self._name, shard=shard)
        with journal(self._directory, shard) as content:
            content["owner"] = None
        with self._lock:
            self._shards.pop(shard, None)

    @ray.method(concurrency_group="ctl")
    def configure(self, term: int, config: LeaderConfig) -> None:
        self._check(term)
        self._config = config
        for name in list(self._workers)[config.workers :]:  # they have nothing in hand
            self._cluster.kill(self._workers.pop(name).handle)

    @ray.method(concurrency_group="ctl")
    def retire(self, term: int) -> None:
        self._check(term)
        log(self._directory, what="retire", leader=self._name)


@ray.remote(max_restarts=-1, concurrency_groups={"watch": 4})
class FakeOrchestrator:
    """Answers the watch of coordinators."""

    def __init__(self) -> None:
        self._watched: set[str] = set()

    def watched_by(self) -> set[str]:
        return self._watched

    @ray.method(concurrency_group="watch")
    def watch(self, coordinator: str, hold_s: float) -> Any:
        time.sleep(min(hold_s, 0.2))
        self._watched.add(coordinator)
        return OrchestratorPulse(1, processes.identity(own_name()))
