"""One durable task after the other, beside actor calls, and the machine's own jitter."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from benchmarks import clients, machine, rig
from benchmarks.budgets import judge
from benchmarks.common import Document, Settings, median, quantile, ratios

#: samples of each kind in one block; blocks of all kinds take turns
BLOCK = 100
#: the budget wants at least so many samples
SAMPLES = 2000
WARM_UP = 50
PAYLOAD = clients.PAYLOADS[0]

CALL = "swarm.call"
TWO = "submit, then result"
ACTOR = "one actor call"


def timed_ms(verb: Callable[[], Any], count: int) -> list[float]:
    """How long each of `count` calls took."""
    found = []
    for _ in range(count):
        began = time.perf_counter()
        verb()
        found.append(1000 * (time.perf_counter() - began))
    return found


def _verbs(client: Any, actor: Any) -> dict[str, Callable[[], Any]]:
    return {
        ACTOR: lambda: ray.get(actor.run.remote("bench.noop", PAYLOAD)),
        CALL: lambda: client.call("bench.noop", PAYLOAD, 60),
        TWO: lambda: client.submit("bench.noop", PAYLOAD).result(60),
    }


def _measure(document: Document, data_dir: Path, fsync: bool, settings: Settings) -> None:
    suffix = ", fsync" if fsync else ""
    blocks = max(settings.pairs, settings.pick(-(-SAMPLES // BLOCK), 1))
    size = settings.pick(BLOCK, 30)
    probes: dict[str, Callable[[], list[float]]] = {
        "probe: sleep of 1 ms too long by": lambda: machine.sleep_overshoot_ms(size),
        "probe: byte to a thread and back": lambda: machine.handoff_ms(size),
    }
    if fsync:
        probes["probe: append and fdatasync"] = lambda: machine.fdatasync_ms(str(data_dir), size)
    with rig.swarm(data_dir, fsync=fsync) as swarm:
        actor = clients.Plain.remote()
        verbs = _verbs(swarm.client(), actor)
        for verb in verbs.values():
            timed_ms(verb, settings.pick(WARM_UP, 5))
        found: dict[str, list[float]] = {name: [] for name in (*verbs, *probes)}
        middles: dict[str, list[float]] = {name: [] for name in verbs}
        for _ in range(blocks):
            for name, verb in verbs.items():
                block = timed_ms(verb, size)
                found[name] += block
                middles[name].append(median(block))
            for name, probe in probes.items():
                found[name] += probe()
        ray.kill(actor)
    for name, values in found.items():
        document.add(f"{name}{suffix}", "ms", values)
    for name in (CALL, TWO):
        document.add(f"{name}{suffix}: × {ACTOR}", "×", ratios(middles[name], middles[ACTOR]))
    _judge(document, found, middles, fsync)


def _judge(
    document: Document,
    found: dict[str, list[float]],
    middles: dict[str, list[float]],
    fsync: bool,
) -> None:
    ours, plain = found[CALL], found[ACTOR]
    ratio = median(ratios(middles[CALL], middles[ACTOR]))
    judge(
        document,
        "single_fsync" if fsync else "single",
        "fsync" if fsync else "no fsync",
        ratio,
        f"p50 {median(ours):.2f} ms beside {median(plain):.2f} ms, n={len(ours)}",
    )
    if not fsync:
        p50, p99 = median(ours), quantile(ours, 0.99)
        own = quantile(plain, 0.99) / median(plain)
        judge(
            document,
            "single_tail",
            "no fsync",
            p99 / p50,
            f"p99 {p99:.2f} ms, p50 {p50:.2f} ms, n={len(ours)}; plain actor calls: {own:.1f} ×",
        )


def run(document: Document, settings: Settings) -> None:
    """Blocks of each kind in turn, for each durability on a swarm of its own."""
    with rig.ray_cluster(settings.data_dir) as data_dir:
        for fsync in settings.fsyncs:
            _measure(document, data_dir, fsync, settings)
