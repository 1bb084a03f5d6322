"""Tasks a second in pairs with plain Ray: no-op, short, ruled, large; one client or eight."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from benchmarks import clients, rig
from benchmarks.budgets import judge
from benchmarks.clients import Span, Work
from benchmarks.common import Document, Settings, median, ratios

#: tasks of one measurement, at most: what is recorded stays on the disk until the end
COUNT_MAX = 400_000
CLIENTS = 8
#: as a part of the usual first runs, those of a quick look
FEW = 10
#: the first gate of the budget, and where it stops to grow with plain Ray's own rate
RATIO = 200.0
RATE = 200_000.0

NOOP = Work("bench.noop")
CONTEXT = Work("bench.context")
NAP = Work("bench.nap", echoes=False)
SIZED = {
    "10 KiB": Work("bench.size", ("x" * 10_000,), echoes=False),
    "1 MiB": Work("bench.size", ("x" * (1 << 20),), echoes=False),
}

#: what `--only` picks; no-op is measured always, for others are compared with it
PARTS = ("not-read", "context", "ruled", "1ms", "10KiB", "1MiB", "clients")

Measure = Callable[[int], Span]


@dataclass
class Side:
    """One of the things that are compared: how it is done, and how many tasks take long enough."""

    do: Measure
    first: int  #: tasks of the first run, which warms it up
    count_max: int = COUNT_MAX
    count: int = 0

    def calibrate(self, settings: Settings) -> None:
        """Find how many tasks take `seconds`: once to warm up, once to know."""
        first = max(self.first // settings.pick(1, FEW), 10)
        span = self.do(first)
        for _ in range(2):
            self.count = min(max(int(span.rate * settings.seconds), 10), self.count_max)
            span = self.do(min(self.count, 5 * first))


@dataclass
class Case:
    """Chimera beside plain Ray tasks and plain calls of actors."""

    name: str
    ours: Side
    tasks: Side
    calls: Side

    def __post_init__(self) -> None:
        self.rates: list[float] = []
        self.task_rates: list[float] = []
        self.call_rates: list[float] = []
        self.spans: list[Span] = []

    def calibrate(self, settings: Settings) -> None:
        for side in (self.tasks, self.calls, self.ours):
            side.calibrate(settings)

    def pair(self) -> None:
        """Measure each, one right after the other."""
        self.task_rates.append(self.tasks.do(self.tasks.count).rate)
        self.call_rates.append(self.calls.do(self.calls.count).rate)
        self.spans.append(self.ours.do(self.ours.count))
        self.rates.append(self.spans[-1].rate)

    def report(self, document: Document, suffix: str) -> None:
        name = f"{self.name}{suffix}"
        document.add(f"{name}: Chimera", "/s", self.rates)
        document.add(f"{name}: plain Ray tasks", "/s", self.task_rates)
        document.add(f"{name}: plain actor calls", "/s", self.call_rates)
        document.add(f"{name}: × plain Ray tasks", "×", ratios(self.rates, self.task_rates))
        document.add(f"{name}: × plain actor calls", "×", ratios(self.rates, self.call_rates))
        for key in self.spans[0].more:
            document.add(f"{name}: {key}", "/s", [span.more[key] for span in self.spans])


def nap(swarm: Any, count: int) -> Span:
    """Short tasks: `ideal` is what two workers that do nothing else would have reached."""
    payloads = NAP.batch(count)
    began = time.monotonic()
    slept_s = list(swarm.submit_many(NAP.task, payloads).results(timeout_s=300))
    ended = time.monotonic()
    clients.check(NAP, iter(slept_s), payloads)
    return Span(count, began, ended, ideal=2 * count / sum(slept_s))


def cases(swarm: rig.Swarm, actors: Sequence[Any], many: Sequence[Any]) -> dict[str, Case]:
    """Everything that is measured on one swarm, by part."""
    one = swarm.client()

    def tasks(work: Work, first: int = 500, count_max: int = COUNT_MAX) -> Side:
        return Side(lambda count: clients.plain_tasks(work, count), first, count_max)

    def calls(work: Work, first: int = 500, count_max: int = COUNT_MAX) -> Side:
        return Side(lambda count: clients.plain_calls(actors, work, count), first, count_max)

    def ours(work: Work, first: int = 20_000, count_max: int = COUNT_MAX) -> Side:
        return Side(lambda count: clients.submit_and_read(one, work, count), first, count_max)

    def each(verb: Callable[[Any, int], Any], first: int) -> Side:
        def do(count: int) -> Span:
            share = max(count // len(many), 1)
            return clients.together(ray.get([verb(client, share) for client in many]))

        return Side(do, first)

    waiting = Side(lambda count: clients.submit_and_wait(one, NOOP, count), 20_000)
    ruled = Side(lambda count: clients.submit_ruled(swarm.client, count), 24_000)
    small, large = SIZED["10 KiB"], SIZED["1 MiB"]
    return {
        "no-op": Case("no-op", ours(NOOP), tasks(NOOP), calls(NOOP)),
        "not-read": Case("no-op, results not read", waiting, tasks(NOOP), calls(NOOP)),
        "context": Case("no-op with a context", ours(CONTEXT), tasks(NOOP), calls(NOOP)),
        "ruled": Case("ruled", ruled, tasks(NOOP), calls(NOOP)),
        "1ms": Case("1 ms", Side(lambda count: nap(one, count), 1000), tasks(NAP), calls(NAP)),
        "10KiB": Case("10 KiB", ours(small, 1000, 20_000), tasks(small), calls(small)),
        "1MiB": Case("1 MiB", ours(large, 16, 100), tasks(large, 16, 100), calls(large, 16, 100)),
        "clients": Case(
            f"no-op, {len(many)} clients",
            each(lambda client, count: client.read.remote(NOOP, count), 40_000),
            each(lambda client, count: client.tasks.remote(NOOP, count), 800),
            each(lambda client, count: client.calls.remote(list(actors), NOOP, count), 800),
        ),
    }  # fmt: skip


def _measure(document: Document, data_dir: Path, fsync: bool, settings: Settings) -> None:
    suffix = ", fsync" if fsync else ""
    with rig.swarm(data_dir, fsync=fsync) as swarm:
        actors = [clients.Plain.remote() for _ in range(2)]
        many = [
            clients.Client.remote(swarm.name)
            for _ in range(settings.pick(CLIENTS, 2))
            if settings.has("clients")
        ]
        ray.get([client.__ray_ready__.remote() for client in many])
        every = cases(swarm, actors, many)
        found = {
            part: case for part, case in every.items() if part == "no-op" or settings.has(part)
        }
        for case in found.values():
            case.calibrate(settings)
        for _ in range(settings.pairs):
            for case in found.values():
                case.pair()
        for case in found.values():
            case.report(document, suffix)
        for actor in (*many, *actors):
            ray.kill(actor)
    _judge(document, found, "fsync" if fsync else "no fsync")


def _judge(document: Document, found: dict[str, Case], how: str) -> None:
    noop = found["no-op"]
    asked = [min(RATIO * plain, RATE) for plain in noop.task_rates]
    judge(
        document,
        "noop",
        how,
        median(ratios(noop.rates, asked)),
        f"{median(noop.rates):,.0f}/s, {median(ratios(noop.rates, noop.task_rates)):,.0f} × plain "
        f"tasks, {median(ratios(noop.rates, noop.call_rates)):,.0f} × plain actor calls",
    )
    if ruled := found.get("ruled"):
        _judge_ruled(document, ruled, noop, how)
    if short := found.get("1ms"):
        _judge_short(document, short, how)


def _judge_ruled(document: Document, ruled: Case, noop: Case, how: str) -> None:
    judge(
        document,
        "ruled",
        how,
        100 * median(ratios(ruled.rates, noop.rates)),
        f"{median(ruled.rates):,.0f}/s beside {median(noop.rates):,.0f}/s",
    )


def _judge_short(document: Document, short: Case, how: str) -> None:
    ideal = median([span.more["ideal"] for span in short.spans])
    slept = 100 * median([span.rate / span.more["ideal"] for span in short.spans])
    judge(
        document,
        "short",
        f"{how}, of 2,000/s",
        median(short.rates) / 20.0,
        f"{median(short.rates):,.0f}/s",
    )
    judge(
        document,
        "short",
        f"{how}, of what time.sleep allows",
        slept,
        f"{median(short.rates):,.0f}/s of {ideal:,.0f}/s: a sleep of 1 ms took "
        f"{2000 / ideal:.2f} ms in this run",
    )


def run(document: Document, settings: Settings) -> None:
    """Measure it all in pairs, for each durability on a swarm of its own."""
    with rig.ray_cluster(settings.data_dir) as data_dir:
        for fsync in settings.fsyncs:
            _measure(document, data_dir, fsync, settings)
