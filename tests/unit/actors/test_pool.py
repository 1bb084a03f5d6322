"""A leader's workers, without Ray: how one is ended."""

from __future__ import annotations

import queue
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest

from chimera.actors import processes
from chimera.actors.pool import Pool
from chimera.swarm.leader import events
from chimera.swarm.reports import LeaderConfig, Owner, WorkerInfo

DEADLINE_S = 20.0


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as process:
        yield process
        process.kill()


class FakeCluster:
    def __init__(self) -> None:
        self.killed: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def kill(self, handle: Any, deadline_s: float = 5.0) -> None:
        self.killed.put(handle)


def pool(owner: Owner) -> tuple[Pool, FakeCluster, queue.SimpleQueue[Any]]:
    """One with a former owner's worker in it."""
    cluster, told = FakeCluster(), queue.SimpleQueue[Any]()
    config = cast("LeaderConfig", None)
    made = Pool(cast("Any", cluster), "leader/r/0", config, told.put, lambda _: None)
    made.adopt(WorkerInfo("w", owner, "its handle", ""), own=False)
    return made, cluster, told


def identity(process: subprocess.Popen[bytes]) -> Owner:
    stat = processes.look(process.pid)
    assert stat is not None
    return replace(processes.identity("w"), pid=process.pid, start_ticks=stat.start_ticks)


def test_a_former_owners_worker_is_known_to_be_dead_before_its_loss_is_told(sleeper):
    workers, cluster, told = pool(identity(sleeper))
    workers.kill("w")
    assert told.get(timeout=DEADLINE_S) == events.WorkerLost("w", None)
    assert sleeper.poll() is not None
    assert cluster.killed.empty()


def test_a_worker_of_another_machine_is_left_to_ray_and_lost_only_when_that_says_so(sleeper):
    elsewhere = replace(identity(sleeper), boot_id="another machine")
    workers, cluster, told = pool(elsewhere)
    workers.kill("w")
    assert cluster.killed.get(timeout=DEADLINE_S) == "its handle"
    assert sleeper.poll() is None
    assert told.empty()
