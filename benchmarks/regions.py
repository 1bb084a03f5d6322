"""A region cut off in its network namespace: where new work goes, and what became of the old."""

from __future__ import annotations

import shutil
import struct
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import click

from benchmarks import clients, handlers, ledger, rig, two_clusters
from benchmarks.budgets import judge
from benchmarks.common import Document, Settings, median, quantile
from benchmarks.two_clusters import TwoRegions
from chimera.client.options import ShardByKey
from chimera.errors import OutcomeUnknown

#: tasks that the far region has accepted when it is cut off, and how long each takes
ACCEPTED = 400
SLEEP_S = 0.005
#: new work is served again when so many submits in a row were, none of them unknown
IN_A_ROW = 8
#: what a submit may take: one that was sent to the lost region is then reported as unknown (P13)
SUBMIT_S = 1.0
PATIENCE_S = 60.0


@dataclass(frozen=True)
class _Loss:
    """What one loss of the far region brought about."""

    served_s: float  #: from the cut to the first of `IN_A_ROW` submits that were served
    unknown: list[int]  #: numbers of the submits that were sent there, and not answered
    told_s: float  #: from the cut until the orchestrator says that it is lost
    read_s: float  #: from the healing until every outcome of its accepted work is read
    back_s: float  #: from the healing until new work goes there again


class _Numbers:
    """Numbers for tasks: each is used once, so that a note says whose it is."""

    def __init__(self) -> None:
        self.next = 0

    def take(self, count: int) -> range:
        self.next += count
        return range(self.next - count, self.next)


def _payload(swarm: TwoRegions, number: int, sleep_s: float = 0.0) -> dict[str, Any]:
    return {"dir": str(swarm.directory / "begun"), "i": number, "sleep_s": sleep_s}


def _accept(swarm: TwoRegions, numbers: range) -> Any:
    """Work with keys of the far region: accepted there, and begun when this returns."""
    choose = ShardByKey("default", swarm.spec.shards)
    keys = [key for key in map(str, range(100)) if choose(key) in swarm.far_shards()]
    payloads = [_payload(swarm, number, SLEEP_S) for number in numbers]
    bulk = swarm.client.submit_many(
        "bench.begin", payloads, key=[keys[number % len(keys)] for number in numbers]
    )
    first = set(numbers)
    rig.until(lambda: first & set(begun(swarm)), PATIENCE_S, "task begun in the far region")
    return bulk


def begun(swarm: TwoRegions) -> Counter[int]:
    """How often each task was begun."""
    found: Counter[int] = Counter()
    for path in (swarm.directory / "begun").iterdir():
        data = path.read_bytes()
        whole = len(data) // handlers.BEGUN.size * handlers.BEGUN.size
        found.update(one[0] for one in struct.iter_unpack(handlers.BEGUN.format, data[:whole]))
    return found


def _serve(swarm: TwoRegions, numbers: _Numbers) -> tuple[float, list[int]]:
    """Submit one after the other; when those began that were served, and which are unknown."""
    unknown: list[int] = []
    row: list[float] = []
    end = time.monotonic() + PATIENCE_S
    while len(row) < IN_A_ROW:
        began = time.monotonic()
        if began > end:
            raise TimeoutError(f"new work is not served within {PATIENCE_S:g} s")
        (number,) = numbers.take(1)
        try:
            task = swarm.client.submit(
                "bench.begin", _payload(swarm, number), priority="critical", timeout_s=SUBMIT_S
            )
        except OutcomeUnknown:
            unknown.append(number)
            row.clear()
            continue
        if task.result(timeout_s=PATIENCE_S) != number:
            raise clients.WrongResult(f"task {number}")
        row.append(began)
    return row[0], unknown


def _lose(swarm: TwoRegions, numbers: _Numbers) -> _Loss:
    """Cut the far region off while it has work, then heal it."""
    accepted = numbers.take(ACCEPTED)
    bulk = _accept(swarm, accepted)
    swarm.wire.cut()
    cut = time.monotonic()
    try:
        served, unknown = _serve(swarm, numbers)
        rig.until(lambda: _is_lost(swarm), PATIENCE_S, "word that the region is lost", 0.05)
        told = time.monotonic()
    finally:
        swarm.wire.heal()
    healed = time.monotonic()
    if list(bulk.results(timeout_s=PATIENCE_S)) != list(accepted):
        raise clients.WrongResult("accepted work of the lost region")
    read = time.monotonic()
    rig.until(lambda: _goes_far(swarm, numbers), PATIENCE_S, "new work in the far region")
    back = time.monotonic()
    rig.until(lambda: swarm.status().ready, PATIENCE_S, "ready swarm", 0.1)
    return _Loss(served - cut, unknown, told - cut, read - healed, back - healed)


def _is_lost(swarm: TwoRegions) -> bool:
    return any("region far is lost" in fault for fault in swarm.status().faults)


def _goes_far(swarm: TwoRegions, numbers: _Numbers) -> bool:
    """Whether a task without a key is given to the far region, and done there."""
    (number,) = numbers.take(1)
    task = swarm.client.submit("bench.begin", _payload(swarm, number))
    if task.result(timeout_s=PATIENCE_S) != number:
        raise clients.WrongResult(f"task {number}")
    return swarm.is_far(task.id)


def run(document: Document, settings: Settings) -> None:
    """Lose the far region again and again, on one swarm; then count what became of every task."""
    if missing := two_clusters.needed():
        raise click.ClickException(missing)
    found: list[_Loss] = []
    numbers = _Numbers()
    with rig.ray_cluster(settings.data_dir) as data_dir, two_clusters.wire() as wire:
        directory = data_dir / "regions"
        (directory / "begun").mkdir(parents=True)
        swarm = TwoRegions(wire, directory, "benchmarks.handlers")
        try:
            swarm.up()
            for _ in range(settings.pairs):
                found.append(_lose(swarm, numbers))
                print(f"region lost: {found[-1]}", flush=True)
            counts = rig.until(
                lambda: ledger.settled(directory), PATIENCE_S, "outcomes of all that was accepted"
            )
            times = begun(swarm)
        finally:
            swarm.down()
            shutil.rmtree(directory, ignore_errors=True)
    _tell(document, found)
    _judge_tasks(document, found, numbers.next, counts, times)


def _tell(document: Document, found: list[_Loss]) -> None:
    served = [one.served_s for one in found]
    document.add("region cut off: until new work is served elsewhere", "s", served)
    document.add("region cut off: until it is told to be lost", "s", [one.told_s for one in found])
    document.add("region healed: until its outcomes are read", "s", [one.read_s for one in found])
    document.add("region healed: until it has new work again", "s", [one.back_s for one in found])
    document.add(
        "region cut off: submits that were sent there and are unknown", "",
        [float(len(one.unknown)) for one in found],
    )  # fmt: skip
    judge(
        document, "region", "cut off in its network namespace", quantile(served, 0.99),
        f"p50 {median(served):.2f} s, slowest {max(served):.2f} s of {len(served)} times",
    )  # fmt: skip


def _judge_tasks(
    document: Document, found: list[_Loss], tasks: int, counts: Counter[int], begun: Counter[int]
) -> None:
    """None lost, none with two outcomes, none begun twice; an unknown one is done once or never."""
    unknown = {number for one in found for number in one.unknown}
    lost = sum(not begun[number] for number in range(tasks) if number not in unknown)
    doubled = sum(count for times, count in counts.items() if times > 1)
    again = sum(times > 1 for times in begun.values())
    detail = f"{tasks:,} tasks and {len(found)} losses; {len(unknown)} submits ended unknown"
    judge(document, "region_lost", "after healing", float(lost + counts[0]), detail)
    judge(document, "region_doubled", "after healing", float(doubled), detail)
    judge(document, "region_rerun", "after healing", float(again), detail)
