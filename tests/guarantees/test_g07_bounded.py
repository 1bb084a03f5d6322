"""G7: every queue has a bound; past it submit answers `Overloaded`. Memory does not grow with
backlog."""

from __future__ import annotations

import itertools
import threading

import psutil
import pytest

from chimera.errors import Overloaded
from tests.guarantees.kit import Lines, open_gate, payloads, until

pytestmark = pytest.mark.cluster

BOUND = 100_000
TEXT = "x" * 600


def test_a_full_queue_refuses_then_recovers_and_costs_no_memory(make_swarm):
    world = make_swarm(leaders=1, shards=2, queue_bound=BOUND)
    log, gate = world.dir / "log", world.dir / "gate"
    world.client.submit_many("work", payloads(8, log, gate=str(gate)))
    until(Lines(log))
    leader = psutil.Process(world.region().leaders[0].process.pid)
    # as much as is kept in memory, and then some: from here on nothing is
    backlog = world.client.submit_many("echo", itertools.repeat(TEXT, 11 * BOUND // 10))
    before = leader.memory_info().rss

    with pytest.raises(Overloaded) as refused:
        world.client.submit_many("echo", itertools.repeat(TEXT, 2 * BOUND), block=False)
    assert refused.value.retry_after > 0
    grown = leader.memory_info().rss - before
    accepted = refused.value.details["accepted"]
    assert accepted > BOUND // 2
    assert accepted + len(backlog) + 8 <= 2 * BOUND  # both shards took their share
    assert grown < accepted * len(TEXT) / 4, f"{grown >> 10} KiB for {accepted} tasks"
    accepted += len(backlog)

    # a caller that may wait does, and gets in when there is room again
    patient: list[str] = []
    waiting = threading.Thread(
        target=lambda: patient.extend(
            world.client.submit_many("echo", [TEXT] * 10_000, timeout_s=100).results(100)
        ),
        daemon=True,
    )
    waiting.start()
    open_gate(gate)
    waiting.join(100)
    assert patient == [TEXT] * 10_000
    until(lambda: world.counter("succeeded") == accepted + 8 + 10_000)
    assert world.client.call("echo", "one more", timeout_s=60) == "one more"
    world.check_one_outcome_each(accepted + 8 + 10_000 + 1)
