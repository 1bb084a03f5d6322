"""Limits of a type hold in the whole swarm, whatever way its tasks came and wherever they are."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.guarantees.kit import notes, payloads

pytestmark = pytest.mark.cluster


def _most_at_once(log: Path) -> int:
    inside = most = 0
    for one in notes(log):
        inside += 1 if one.event == "began" else -1
        most = max(most, inside)
    return most


@pytest.mark.parametrize(("type", "limit"), [("narrow", 3), ("wide", 10)])
def test_no_more_tasks_run_at_once_than_the_limit_says(swarm, type, limit):
    log = swarm.dir / "log"
    spread = [
        swarm.client.submit_many(type, payloads(30, log, ms=15)),
        swarm.client.submit_many(type, payloads(30, log, ms=15)),
        swarm.client.submit_many(type, payloads(60, log, ms=15), key=[str(n) for n in range(60)]),
        swarm.client.submit_many(
            type, payloads(30, log, ms=15), idempotency_key=[str(n) for n in range(30)]
        ),
    ]
    one = swarm.client.submit(type, payloads(1, log, ms=15)[0])
    assert swarm.client.call(type, payloads(1, log, ms=15)[0], timeout_s=60) == 0
    for bulk in spread:
        assert bulk.wait(timeout_s=60).succeeded == len(bulk)
    assert one.result(timeout_s=60) == 0
    assert len(notes(log)) == 2 * 152
    assert 1 < _most_at_once(log) <= limit


@pytest.mark.parametrize(("type", "rate", "burst", "tasks"), [
    ("paced", 40, 4, 80), ("slow_paced", 5, 1, 8),
])  # fmt: skip
def test_no_more_tasks_start_a_second_than_the_limit_says(swarm, type, rate, burst, tasks):
    log = swarm.dir / "log"
    begun = time.monotonic()
    bulks = [swarm.client.submit_many(type, payloads(tasks // 2, log)) for _ in range(2)]
    for bulk in bulks:
        assert bulk.wait(timeout_s=60).succeeded == tasks // 2
    last = max(one.at for one in notes(log)) / 1e9
    assert last - begun >= (tasks - burst) / rate - 0.1
