"""Leaders killed and paused under load: until their shards serve, and what became of every task."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from array import array
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from benchmarks import clients, handlers, ledger, rig
from benchmarks.budgets import judge
from benchmarks.common import Document, Settings, median, quantile
from benchmarks.traffic import Traffic
from chimera.errors import ChimeraError
from chimera.store.control import ControlStore
from chimera.swarm.reports import LeaderReport

SHARDS = 8
#: for a submit to be durable somewhere after a fault
SERVED_S = 60.0
#: what is done to a leader, by the word for it
SIGNALS = {"killed": signal.SIGKILL, "paused": signal.SIGSTOP}


class Audit:
    """What the coordinator wrote down, with its times."""

    def __init__(self, swarm: rig.Swarm) -> None:
        self._store = ControlStore.open(swarm.data_dir / "coordinator-local.sqlite")
        self._seen = 0
        self.lost_at("")

    def lost_at(self, leader: str) -> float | None:
        """When the loss of a leader, or its condemnation, was recorded first, Unix seconds.

        Among entries not seen before.
        """
        found: float | None = None
        while entries := self._store.audit_entries(self._seen):
            self._seen = entries[-1].seq
            for entry in entries:
                told = entry.action in ("leader_lost", "leader_condemned")
                if told and entry.subject == leader and found is None:
                    found = entry.at / 1000
        return found

    def close(self) -> None:
        self._store.close()


@dataclass(frozen=True)
class _Probes:
    """Submits to the shards of a leader right after a fault, as independent callers would make."""

    durable_s: list[float]  #: until each was durable
    outcome_s: list[float]  #: until the outcome of each was recorded, by the new owner, and read
    at: float  #: when the fault was, Unix seconds


def _probe_shards(swarm: rig.Swarm, leader: LeaderReport, fault: str) -> _Probes:
    client = swarm.client()
    shards = [shard.shard for shard in leader.shards]
    happened = threading.Event()
    durable: list[float] = []
    outcome: list[float] = []
    faults: list[BaseException] = []
    began = [0]

    def submit(shard: int, key: str) -> None:
        happened.wait()
        try:
            task = client.submit("bench.noop", shard, key=key, timeout_s=SERVED_S)
            durable.append((time.monotonic_ns() - began[0]) / 1e9)
            task.result(timeout_s=SERVED_S)
            outcome.append((time.monotonic_ns() - began[0]) / 1e9)
        except ChimeraError as error:
            faults.append(error)

    threads = [
        threading.Thread(target=submit, args=(shard, swarm.key_of(shard, SHARDS)))
        for shard in shards
    ]
    for thread in threads:
        thread.start()
    at = time.time()
    began[0] = time.monotonic_ns()
    os.kill(leader.process.pid, SIGNALS[fault])
    happened.set()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    return _Probes(durable, outcome, at)


def _run_again(directory: Path, count: int) -> int:
    """How many numbers below `count` the workers' files have more than once.

    Raises WrongResult if one is missing: its result was read.
    """
    done = array("Q")
    for path in directory.iterdir():
        data = path.read_bytes()
        done.frombytes(data[: len(data) // handlers.TALLY.size * handlers.TALLY.size])
    times = Counter(done)
    if len(times) != count:
        raise clients.WrongResult(f"{len(times)} of {count} tasks left a note")
    return sum(times.values()) - len(times)


@dataclass(frozen=True)
class _Fault:
    """What one fault of a leader brought about."""

    served_s: list[float]  #: until each of its shards took work again
    first_s: float  #: until the first outcome recorded by a new owner
    noticed_ms: float  #: until it was recorded that the leader is lost
    whole_s: float  #: until both leaders had their share of the shards again
    tasks: int  #: of the traffic
    again: int  #: of them, finished ones that were run again


def _hit(
    swarm: rig.Swarm, traffic: Any, audit: Audit, victim: LeaderReport, directory: Path, fault: str
) -> _Fault:
    directory.mkdir()
    running = traffic.tally.remote(str(directory), 0)
    rig.until(lambda: ray.get(traffic.read.remote()), 60, "traffic", look_s=0.1)
    probes = _probe_shards(swarm, victim, fault)
    ray.get(traffic.stop.remote())
    tasks = ray.get(running)
    swarm.leaders()
    whole_s = time.time() - probes.at
    lost_at = rig.until(lambda: audit.lost_at(victim.leader), 10, "entry of the loss")
    again = _run_again(directory, tasks)
    shutil.rmtree(directory)
    noticed_ms = 1000 * (lost_at - probes.at)
    return _Fault(probes.durable_s, min(probes.outcome_s), noticed_ms, whole_s, tasks, again)


def run(document: Document, data_dir: Path, settings: Settings) -> None:
    """Hit one leader after the other while traffic flows; all are there again in between.

    `settings.pairs` of them are killed; and of ten, three more are paused for good.
    """
    pauses = -(-settings.pairs * 3 // 10)
    found: dict[str, list[_Fault]] = {"killed": [], "paused": []}
    with rig.swarm(data_dir, shards=SHARDS) as swarm:
        traffic = Traffic.remote(swarm.name)
        audit = Audit(swarm)
        turns = ["killed"] * settings.pairs + ["paused"] * pauses
        for turn, fault in enumerate(turns):
            leaders = swarm.leaders()
            victim = leaders[turn % len(leaders)]
            tally = data_dir / f"tally-{turn}"
            found[fault].append(_hit(swarm, traffic, audit, victim, tally, fault))
            print(f"{victim.leader} {fault}: {found[fault][-1]}", flush=True)
        audit.close()
        ray.kill(traffic)
        counts = rig.until(
            lambda: ledger.settled(swarm.data_dir), 60, "outcomes of all that was accepted"
        )
    for fault, ones in found.items():
        _tell(document, fault, ones)
    every = [one for ones in found.values() for one in ones]
    _judge_tasks(document, every, counts)


def _tell(document: Document, fault: str, found: list[_Fault]) -> None:
    slowest = [max(one.served_s) for one in found]
    first = [one.first_s for one in found]
    noticed = [one.noticed_ms for one in found]
    document.add(f"leader {fault}: until its loss is recorded", "ms", noticed)
    document.add(
        f"leader {fault}: until a shard of it is served",
        "s",
        [s for o in found for s in o.served_s],
    )
    document.add(f"leader {fault}: until all of its shards are served", "s", slowest)
    document.add(f"leader {fault}: until the first outcome by a new owner", "s", first)
    whole = [one.whole_s for one in found]
    document.add(f"leader {fault}: until both leaders have their share", "s", whole)
    detail = f"p50 {median(slowest):.2f} s, slowest {max(slowest):.2f} s of {len(slowest)} times"
    judge(document, "leader", f"{fault}, under full load", quantile(slowest, 0.99), detail)
    detail = f"p50 {median(first):.2f} s, slowest {max(first):.2f} s of {len(first)} times"
    judge(document, "outcome", f"{fault}, under full load", quantile(first, 0.99), detail)


def _judge_tasks(document: Document, found: list[_Fault], counts: Counter[int]) -> None:
    """None lost, none with two outcomes, none run again that was finished."""
    tasks = sum(one.tasks for one in found)
    detail = f"of {tasks:,} tasks in {len(found)} faults"
    again = sum(one.again for one in found)
    judge(document, "rerun", "under full load", again, detail)
    detail = f"of {counts.total():,} accepted tasks, counted in the journals"
    judge(document, "lost", "under full load", counts[0], detail)
    doubled = sum(n for times, n in counts.items() if times > 1)
    judge(document, "doubled", "under full load", doubled, detail)
