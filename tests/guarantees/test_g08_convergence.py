"""G8: when faults heal, status converges to spec without a human."""

from __future__ import annotations

import pytest

from chimera import names
from chimera.actors import boot
from chimera.swarm.spec import RegionSpec
from tests.guarantees import chronicle
from tests.guarantees.kit import Lines, payloads, until

pytestmark = pytest.mark.cluster


def test_whatever_is_killed_at_once_the_swarm_becomes_what_its_spec_says(make_swarm):
    world = make_swarm()
    bulk = world.client.submit_many("work", payloads(2000, world.dir / "log", ms=1))
    until(Lines(world.dir / "log"))
    status = world.settle()
    leader, other = status.regions["local"].leaders
    for process in (
        status.process, status.regions["local"].process, leader.process, other.workers[0].process,
    ):  # fmt: skip
        world.kill(process)

    assert list(bulk.results(timeout_s=100)) == list(range(2000))
    status = world.settle()
    workers = [worker.name for one in status.regions["local"].leaders for worker in one.workers]
    assert set(world.cluster.names()) == {
        names.ORCHESTRATOR, names.RESULTS, names.coordinator("local"),
        names.leader("local", 0), names.leader("local", 1), *workers,
    }  # fmt: skip
    assert {one.pid for one in world.living()} == {
        status.process.pid, *(one.pid for one in status.processes())
    }  # fmt: skip
    world.check_one_outcome_each(2000)
    assert chronicle.violations(world.kept(), [bulk], [world.dir / "log"]) == []


def test_a_spec_of_another_size_is_reached_while_tasks_flow(make_swarm):
    world = make_swarm(leaders=1)
    bulks = [world.client.submit_many("work", payloads(2000, world.dir / "log", ms=1))]
    for leaders, workers in ((3, 1), (1, 1)):
        world.spec = _sized(world.spec, leaders, workers)
        boot.up(world.spec, timeout_s=100)
        bulks.append(world.client.submit_many("work", payloads(2000, world.dir / "log", ms=1)))
        status = world.settle()
        assert len(status.regions["local"].leaders) == leaders
        until(lambda status=status: world.status().generation == status.generation)
    for bulk in bulks:
        assert list(bulk.results(timeout_s=100)) == list(range(2000))
    world.check_one_outcome_each(6000)
    assert chronicle.violations(world.kept(), bulks, [world.dir / "log"]) == []


def _sized(spec, leaders, workers):
    import msgspec

    region = RegionSpec(name="local", leaders=leaders, workers=workers)
    return msgspec.structs.replace(spec, regions=(region,))
