"""Kills under load: how long until shards are served, frames run and throughput is back."""

from __future__ import annotations

import os
import shutil
import struct
import threading
import time
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

import chimera
from benchmarks import clients, handlers, rig
from benchmarks.budgets import judge
from benchmarks.common import Document, Settings, median, quantile
from chimera.errors import ChimeraError
from chimera.store.control import ControlStore
from chimera.swarm.reports import LeaderReport, Owner

SHARDS = 8
#: tasks of one bulk of the traffic
BULK = 20_000
#: for a submit to be durable somewhere after a kill
SERVED_S = 60.0
#: for traffic to flow at all
WINDOW_MAX_S = 60.0
#: of the frame that a worker dies with: so few tasks that all of them are in workers' hands
FRAME = 12
SLEEP_S = 0.005


@ray.remote(num_cpus=0, max_concurrency=2)
class Traffic:
    """A client in a process of its own that submits bulks and reads them until it is stopped."""

    def __init__(self, swarm: str) -> None:
        self._swarm = chimera.connect(swarm)
        self._stop = threading.Event()
        #: (when, how many) on the machine's monotonic clock
        self._read: list[tuple[float, int]] = []

    def tally(self, directory: str, first: int) -> int:
        """Numbered tasks that note their end in files; returns the number after the last one."""
        at = first
        while not self._stop.is_set():
            numbers = range(at, at + BULK)
            payloads = [{"dir": directory, "i": i} for i in numbers]
            bulk = self._swarm.submit_many("bench.tally", payloads)
            if list(bulk.results(timeout_s=120)) != list(numbers):
                raise clients.WrongResult("a bulk of the traffic came back wrong")
            at += BULK
            self._read.append((time.monotonic(), BULK))
        self._stop.clear()
        return at

    def noop(self, bulk: int, rate: float) -> None:
        """No-op tasks, up to so many a second."""
        due = time.monotonic()
        while not self._stop.is_set():
            span = clients.submit_and_read(self._swarm, clients.Work("bench.noop"), bulk)
            self._read.append((span.ended, bulk))
            # what was missed is not made up for: that would hide a pause
            due = max(due + bulk / rate, time.monotonic())
            self._stop.wait(due - time.monotonic())
        self._stop.clear()

    def read(self) -> list[tuple[float, int]]:
        """When how many tasks were read, since this was last asked."""
        found, self._read = self._read, []
        return found

    def stop(self) -> None:
        self._stop.set()


# -- leaders -----------------------------------------------------------------------------------


class Audit:
    """What the coordinator wrote down, with its times."""

    def __init__(self, swarm: rig.Swarm) -> None:
        self._store = ControlStore.open(swarm.data_dir / "coordinator-local.sqlite")
        self._seen = 0
        self.lost_at("")

    def lost_at(self, leader: str) -> float | None:
        """When the loss of a leader was recorded, Unix seconds, among entries not seen before."""
        found = None
        while entries := self._store.audit_entries(self._seen):
            self._seen = entries[-1].seq
            for entry in entries:
                if entry.action == "leader_lost" and entry.subject == leader:
                    found = entry.at / 1000
        return found

    def close(self) -> None:
        self._store.close()


def _probe_shards(swarm: rig.Swarm, leader: LeaderReport) -> tuple[list[float], float]:
    """Kill a leader; then submit at once to each of its shards, as independent callers would.

    Returns after how many seconds each submit was durable, and when the kill was (Unix seconds).
    """
    client = swarm.client()
    shards = [shard.shard for shard in leader.shards]
    killed = threading.Event()
    taken: dict[int, float] = {}
    faults: list[BaseException] = []
    began = [0]

    def submit(shard: int, key: str) -> None:
        killed.wait()
        try:
            client.submit("bench.noop", shard, key=key, timeout_s=SERVED_S)
            taken[shard] = (time.monotonic_ns() - began[0]) / 1e9
        except ChimeraError as fault:
            faults.append(fault)

    threads = [
        threading.Thread(target=submit, args=(shard, swarm.key_of(shard, SHARDS)))
        for shard in shards
    ]
    for thread in threads:
        thread.start()
    at = time.time()
    began[0] = rig.kill(leader.process)
    killed.set()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    return list(taken.values()), at


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
class _Failover:
    """What one kill of a leader brought about."""

    served_s: list[float]  #: a shard of it each
    noticed_ms: float  #: until its loss was recorded
    whole_s: float  #: until both leaders had their share of the shards again
    again: int  #: finished tasks that were run again
    tasks: int  #: of the traffic


def _kill_leader(
    swarm: rig.Swarm, traffic: Any, audit: Audit, victim: LeaderReport, directory: Path
) -> _Failover:
    directory.mkdir()
    running = traffic.tally.remote(str(directory), 0)
    rig.until(lambda: ray.get(traffic.read.remote()), 60, "traffic", look_s=0.1)
    served, at = _probe_shards(swarm, victim)
    ray.get(traffic.stop.remote())
    tasks = ray.get(running)
    swarm.leaders()
    whole_s = time.time() - at
    lost_at = rig.until(lambda: audit.lost_at(victim.leader), 10, "entry of the loss")
    again = _run_again(directory, tasks)
    shutil.rmtree(directory)
    return _Failover(served, 1000 * (lost_at - at), whole_s, again, tasks)


def _leaders(document: Document, data_dir: Path, settings: Settings) -> None:
    """Kill one leader after the other while traffic flows; all are there again in between."""
    found: list[_Failover] = []
    with rig.swarm(data_dir, shards=SHARDS) as swarm:
        traffic = Traffic.remote(swarm.name)
        audit = Audit(swarm)
        for turn in range(settings.pairs):
            leaders = swarm.leaders()
            victim = leaders[turn % len(leaders)]
            found.append(_kill_leader(swarm, traffic, audit, victim, data_dir / f"tally-{turn}"))
            print(f"{victim.leader} killed: {found[-1]}", flush=True)
        audit.close()
        ray.kill(traffic)
    slowest = [max(one.served_s) for one in found]
    document.add("leader killed: until its loss is recorded", "ms", [o.noticed_ms for o in found])
    document.add(
        "leader killed: until a shard of it is served", "s", [s for o in found for s in o.served_s]
    )
    document.add("leader killed: until all of its shards are served", "s", slowest)
    whole = [one.whole_s for one in found]
    document.add("leader killed: until both leaders have their share", "s", whole)
    judge(
        document,
        "leader",
        "under full load",
        quantile(slowest, 0.99),
        f"p50 {median(slowest):.2f} s, slowest {max(slowest):.2f} s of {len(slowest)} kills",
    )
    judge(
        document,
        "rerun",
        "under full load",
        sum(one.again for one in found),
        f"of {sum(one.tasks for one in found):,} tasks in {len(found)} kills",
    )


# -- workers -----------------------------------------------------------------------------------


def _begun(directory: Path) -> list[tuple[int, int, int]]:
    """(number, process, when in ns) of each task begun, in that order."""
    found = []
    for path in directory.iterdir():
        data = path.read_bytes()
        whole = len(data) // handlers.BEGUN.size * handlers.BEGUN.size
        found += list(struct.iter_unpack(handlers.BEGUN.format, data[:whole]))
    return sorted(found, key=lambda one: one[2])


def _kill_worker(swarm: rig.Swarm, directory: Path) -> tuple[float, float] | None:
    """Kill a worker in the middle of a frame; None if the frame was over before that.

    Returns after how many seconds the task that it was in ran elsewhere, and the last one of the
    frame was begun.
    """
    client = swarm.client()
    workers = {w.process.pid: w.process for one in swarm.leaders() for w in one.workers}
    # of unknown length, so that it is not dealt out to both leaders
    tasks = ({"dir": str(directory), "i": i, "sleep_s": SLEEP_S} for i in range(FRAME))
    bulk = client.submit_many("bench.begin", tasks)
    first = rig.until(lambda: _begun(directory)[:1], 30, "task begun", look_s=0.001)[0]
    at = rig.kill(workers[first[1]])
    counts = bulk.wait(timeout_s=60)
    if counts.succeeded != FRAME:
        raise clients.WrongResult(f"{counts}")
    begun = _begun(directory)
    in_hand = max((one for one in begun if one[1] == first[1]), key=lambda one: one[2])[0]
    after = [one for one in begun if one[2] > at and one[1] != first[1]]
    again = [when for number, _, when in after if number == in_hand]
    return ((again[0] - at) / 1e9, (after[-1][2] - at) / 1e9) if again else None


def _workers(document: Document, data_dir: Path, settings: Settings) -> None:
    in_hand: list[float] = []
    frame: list[float] = []
    tries = 0
    with rig.swarm(data_dir, workers=2) as swarm:
        while len(frame) < settings.pairs and tries < 3 * settings.pairs:
            directory = data_dir / f"begun-{tries}"
            directory.mkdir()
            tries += 1
            rig.until(lambda: _all_workers(swarm, 4), 60, "four workers", look_s=0.1)
            found = _kill_worker(swarm, directory)
            if found:
                print(f"a worker killed: {found[1]:.3f} s", flush=True)
                in_hand.append(found[0])
                frame.append(found[1])
    if not frame:
        raise TimeoutError("no worker was hit in the middle of a frame")
    document.add("worker killed: until the task in its hands runs elsewhere", "s", in_hand)
    document.add("worker killed: until the last task of the frame is begun", "s", frame)
    judge(
        document,
        "worker",
        "one idle worker beside it",
        quantile(frame, 0.99),
        f"p50 {median(frame):.2f} s of {len(frame)} kills; the task in hand waits its back-off of "
        f"up to 0.2 s, and a frame takes {FRAME * SLEEP_S * 1000:.0f} ms by itself",
    )


def _all_workers(swarm: rig.Swarm, count: int) -> bool:
    report = swarm.region()
    alive = [w for one in report.leaders for w in one.workers if _lives(w.process)]
    return len(alive) == count and all(one.ready for one in report.leaders)


def _lives(owner: Owner) -> bool:
    return os.path.exists(f"/proc/{owner.pid}")


# -- coordinator and orchestrator --------------------------------------------------------------


def _rate(traffic: Any, seconds: float) -> float:
    """Tasks read a second from now on, over so long a time and three bulks at least."""
    ray.get(traffic.read.remote())
    began = time.monotonic()
    ends: list[tuple[float, int]] = []

    def is_enough() -> bool:
        ends.extend(one for one in ray.get(traffic.read.remote()) if one[0] >= began)
        return len(ends) > 3 and time.monotonic() - began >= seconds

    rig.until(is_enough, WINDOW_MAX_S, "traffic", look_s=seconds / 4)
    # from the end of one bulk to the end of another: what is cut off at the edges is no matter
    return sum(count for _, count in ends[1:]) / (ends[-1][0] - ends[0][0])


def _victims(swarm: rig.Swarm) -> Iterator[tuple[str, Owner | None]]:
    yield "nobody", None
    yield "coordinator", swarm.region().process
    yield "orchestrator", swarm.status().process


def _control(
    document: Document, data_dir: Path, settings: Settings, how: str, bulk: int, rate: float
) -> None:
    """Rates before and right after a kill, beside the same with nobody killed."""
    changes: dict[str, list[float]] = {"nobody": [], "coordinator": [], "orchestrator": []}
    window_s = 4 * settings.seconds
    rounds = max(settings.pairs // 4, settings.pick(5, 1))
    with rig.swarm(data_dir) as swarm:
        traffic = Traffic.remote(swarm.name)
        running = traffic.noop.remote(bulk, rate)
        _rate(traffic, window_s)
        for _ in range(rounds):
            for name, owner in _victims(swarm):
                before = _rate(traffic, window_s)
                if owner is not None:
                    rig.kill(owner)
                after = _rate(traffic, window_s)
                changes[name].append(100 * (after / before - 1))
                print(f"{name} killed, {how}: {before:,.0f}/s, then {after:,.0f}/s", flush=True)
                rig.until(lambda: _is_ready(swarm), 60, "ready swarm", look_s=0.2)
        ray.get(traffic.stop.remote())
        ray.get(running)
        ray.kill(traffic)
    for name, found in changes.items():
        document.add(f"{name} killed, {how}: change over {window_s:.1f} s", "%", found)
    calm = median(changes["nobody"])
    for name in ("coordinator", "orchestrator"):
        lost = abs(min(median(changes[name]), 0.0))
        detail = f"{median(changes[name]):+.1f} %, and {calm:+.1f} % with nobody killed"
        judge(document, "control", f"{name}, {how}", lost, detail)


def _is_ready(swarm: rig.Swarm) -> bool:
    try:
        return swarm.status().ready and swarm.is_whole(2) is not None
    except ChimeraError:
        return False


def run(document: Document, settings: Settings) -> None:
    """Leaders, then workers, then those above them, each on a swarm of its own."""
    with rig.ray_cluster(settings.data_dir) as data_dir:
        _leaders(document, data_dir, settings)
        _workers(document, data_dir, settings)
        # a new process takes its share of two busy cores for a second or two, whatever it is for;
        # at a moderate rate only what waits for the killed one shows
        _control(document, data_dir, settings, "at 50 k/s", 5_000, 50_000)
        _control(document, data_dir, settings, "full load", BULK, float("inf"))
