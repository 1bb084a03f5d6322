"""P21: an ObjectRef given to a user is owned by the user's own call, never by an actor that may
die: `ray.get` and `ray.wait` work on it, through deaths of the results actor and of leaders."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
import ray
from ray.exceptions import RayTaskError

from chimera import names
from chimera.errors import TaskFailed
from tests.guarantees.kit import Lines, World, open_gate, payloads, until

pytestmark = pytest.mark.cluster


def _results_pid(world: World) -> int:
    handle = world.cluster.find(names.RESULTS)
    pid: int = world.cluster.call(handle.__ray_call__.remote(lambda _: os.getpid()), 60)
    return pid


def test_refs_of_results_are_rays_own(swarm):
    gate = swarm.dir / "gate"
    slow = swarm.client.submit("work", {"log": str(swarm.dir / "log"), "gate": str(gate), "n": 1})
    # so many keys that some of them are not served by the worker that is kept busy
    quick = [swarm.client.submit("echo", n, key=f"elsewhere-{n}") for n in range(24)]
    refs = [slow.ref, *(one.ref for one in quick)]
    ready, pending = ray.wait(refs, num_returns=1, timeout=60)
    assert ray.get(ready[0], timeout=60) in range(24)
    assert refs[0] in pending
    open_gate(gate)
    assert ray.get(refs, timeout=60) == [1, *range(24)]

    failed = swarm.client.submit("picky", {"log": str(swarm.dir / "log"), "raises": "permanent"})
    with pytest.raises((TaskFailed, RayTaskError), match="it never will"):
        ray.get(failed.ref, timeout=60)


def test_pending_refs_outlive_the_results_actor_and_a_leader(swarm):
    log, gate = swarm.dir / "log", swarm.dir / "gate"
    bulk = swarm.client.submit_many("work", payloads(3000, log, gate=str(gate)))
    until(lambda: Lines(log)() >= 2)
    refs: list[Any] = [bulk[0].ref, bulk[2999].ref, *bulk.refs()]
    assert ray.wait(refs, timeout=0)[0] == []
    former = _results_pid(swarm)
    os.kill(former, signal.SIGKILL)
    swarm.kill(swarm.region().leaders[0].process)
    open_gate(gate)

    first, last, *parts = ray.get(refs, timeout=100)
    assert (first, last) == (0, 2999)
    assert [value for part in parts for value in part] == list(range(3000))
    assert _results_pid(swarm) != former
