"""How long it takes from nothing to a swarm that serves, and back to nothing."""

from __future__ import annotations

import time

from benchmarks import clients, rig
from benchmarks.budgets import judge
from benchmarks.common import Document, Settings, quantile


def run(document: Document, settings: Settings) -> None:
    """Up, the first task's result, and down, again and again on one Ray."""
    up: list[float] = []
    first: list[float] = []
    down: list[float] = []
    with rig.ray_cluster(settings.data_dir) as data_dir:
        for _ in range(settings.pairs):
            began = time.monotonic()
            with rig.swarm(data_dir) as swarm:
                up.append(time.monotonic() - began)
                swarm.client().call("bench.noop", clients.PAYLOADS[0], 60)
                first.append(time.monotonic() - began)
                began = time.monotonic()
            down.append(time.monotonic() - began)
    document.add("up: every shard is served", "s", up)
    document.add("up, and the first task's result", "s", first)
    document.add("down: nothing is left", "s", down)
    judge(document, "startup", "Ray runs already", quantile(up, 0.99), f"slowest of {len(up)}")
