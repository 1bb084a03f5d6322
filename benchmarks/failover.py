"""Kills under load: how long until shards are served, frames run and throughput is back."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray

from benchmarks import clients, handlers, leaders, rig
from benchmarks.budgets import judge
from benchmarks.common import Document, Settings, median, quantile
from benchmarks.traffic import BULK, Traffic
from chimera.errors import ChimeraError
from chimera.swarm.reports import Owner

#: what `--only` picks
PARTS = ("leaders", "workers", "control")
#: under which those above the leaders are killed: its name, tasks of a bulk, tasks a second. A new
#: process takes its share of two busy cores for a second or two, whatever it is for; at a moderate
#: rate only what waits for the killed one shows
LOADS = (("at 50 k/s", 5_000, 50_000.0), ("full load", BULK, float("inf")))
#: for traffic to flow at all
WINDOW_MAX_S = 60.0
#: of the frame that a worker dies with: so few tasks that all of them are in workers' hands
FRAME = 12
SLEEP_S = 0.005


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
    document: Document, swarm: rig.Swarm, settings: Settings, how: str, bulk: int, rate: float
) -> None:
    """Rates before and right after a kill, beside the same with nobody killed."""
    changes: dict[str, list[float]] = {"nobody": [], "coordinator": [], "orchestrator": []}
    window_s = 4 * settings.seconds
    rounds = max(settings.pairs // 12, settings.pick(5, 1))
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
    """Leaders, then workers, then those above them, each kind on a swarm of its own."""
    with rig.ray_cluster(settings.data_dir) as data_dir:
        if settings.has("leaders"):
            leaders.run(document, data_dir, settings)
        if settings.has("workers"):
            _workers(document, data_dir, settings)
        if settings.has("control"):
            with rig.swarm(data_dir) as swarm:
                for how, bulk, rate in LOADS[: settings.pick(len(LOADS), 1)]:
                    _control(document, swarm, settings, how, bulk, rate)
