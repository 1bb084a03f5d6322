"""What a handler keeps for each key follows the key from worker to worker, with its outcomes."""

from __future__ import annotations

import pytest

from tests.guarantees.kit import Lines, payloads, until

pytestmark = pytest.mark.cluster

KEYS = ["a", "b", "c", "d"]
EACH = 60


def test_the_state_of_a_key_survives_its_worker(swarm):
    log = swarm.dir / "log"
    tasks = payloads(len(KEYS) * EACH, log, ms=3)
    keys = [KEYS[n % len(KEYS)] for n in range(len(tasks))]
    for n in range(0, len(tasks), 31):
        tasks[n]["fails"] = 1  # what it did to the state is undone
    bulk = swarm.client.submit_many("tally", tasks, key=keys)
    until(lambda: Lines(log)() > len(tasks) // 3)
    for worker in swarm.workers().values():
        swarm.kill(worker.process)

    # each task has counted once, after all those before it
    assert list(bulk.results(timeout_s=100)) == [n // len(KEYS) + 1 for n in range(len(tasks))]


def test_a_tenants_state_is_its_own(swarm):
    assert swarm.client.call("tally", {}, key="mine", timeout_s=60) == 1
    assert swarm.client.call("tally", {}, key="mine", timeout_s=60) == 2
    other = swarm.for_tenant("somebody-else", swarm.dir)
    try:
        assert other.client.call("tally", {}, key=f"mine-{swarm.client.tenant}", timeout_s=60) == 1
    finally:
        other.client.close()
