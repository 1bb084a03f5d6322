"""A swarm that is changed, drained, paused and scaled while tasks flow, on real Ray: none is lost,
none fails, and none is run twice."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import chimera
from chimera import names
from chimera.actors import boot, operate
from chimera.errors import HandlerLoadError, InvalidRequest, NotFound, TaskFailed
from chimera.swarm import orders
from chimera.swarm import spec as specs
from chimera.swarm.reports import SwarmStatus
from tests.guarantees import chronicle
from tests.guarantees.kit import Lines, World, notes, open_gate, payloads, until

pytestmark = pytest.mark.cluster

LEADER, OTHER = names.leader("local", 0), names.leader("local", 1)
WITHIN_S = 100.0


@pytest.fixture(scope="module")
def shared(ray_cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(f"o{uuid.uuid4().hex[:8]}", tmp_path_factory.mktemp("swarm"), shards=4)
    world.up()
    yield world
    world.down()


@pytest.fixture
def swarm(shared: World, tmp_path: Path) -> Iterator[World]:
    """The shared swarm, as its spec declares it before and after."""
    view = shared.for_tenant(f"t-{uuid.uuid4().hex[:8]}", tmp_path)
    yield view
    open_gate(tmp_path / "gate")
    view.client.close()
    ordered = specs.from_dict(boot.status(view.name).spec).operations
    for name in ordered.drained:
        if names.tier(name) == "leader":
            operate.order(view.name, orders.Drain(name, undo=True))
    if ordered.paused_types or ordered.paused_tenants:
        operate.order(view.name, orders.Resume(ordered.paused_types, ordered.paused_tenants))
    applied(view, view.spec)


def applied(world: World, spec: specs.Spec) -> SwarmStatus:
    return operate.wait(world.name, operate.apply(spec), WITHIN_S)


def ordered(world: World, order: orders.Order) -> SwarmStatus:
    return operate.wait(world.name, operate.order(world.name, order).generation, WITHIN_S)


def workers(status: SwarmStatus) -> dict[str, int]:
    """Processes by name."""
    leaders = status.regions["local"].leaders
    return {worker.name: worker.process.pid for leader in leaders for worker in leader.workers}


class Load:
    """Tasks that keep coming while something else happens, each of a few milliseconds."""

    EACH, PAUSE_S = 60, 0.25

    def __init__(self, world: World, ms: int = 4) -> None:
        self.world, self.ms, self.log = world, ms, world.dir / "log"
        self.bulks: list[Any] = []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._submit)
        self.thread.start()
        until(Lines(self.log))

    def _submit(self) -> None:
        while not self.ended.wait(self.PAUSE_S):
            found = payloads(self.EACH, self.log, ms=self.ms)
            self.bulks.append(self.world.client.submit_many("work", found))

    def stop(self) -> None:
        self.ended.set()
        self.thread.join()

    def check_each_ran_once(self) -> None:
        """No task was lost or failed, and none was executed twice."""
        self.stop()
        for bulk in self.bulks:
            assert list(bulk.results(timeout_s=WITHIN_S)) == list(range(self.EACH))
        assert chronicle.violations(self.world.kept(), self.bulks, [self.log]) == []
        runs = Counter(note.task_id for note in notes(self.log))
        assert len(runs) == self.EACH * len(self.bulks)
        assert set(runs.values()) == {1}, "some were run again"


@pytest.fixture
def load(swarm: World) -> Iterator[Load]:
    made = Load(swarm)
    yield made
    made.stop()


def test_leaders_and_workers_are_scaled_up_and_down_under_load(swarm: World, load: Load) -> None:
    status = ordered(swarm, orders.Scale("local", leaders=3, workers=2))
    assert len(status.regions["local"].leaders) == 3
    assert len(workers(status)) == 6
    status = ordered(swarm, orders.Scale("local", leaders=1, workers=1))
    assert [leader.leader for leader in status.regions["local"].leaders] == [LEADER]
    assert len(workers(status)) == 1
    load.check_each_ran_once()
    swarm.check_one_outcome_each()


def test_a_leader_is_drained_under_load_and_comes_back(swarm: World, load: Load) -> None:
    status = ordered(swarm, orders.Drain(LEADER))
    assert [leader.leader for leader in status.regions["local"].leaders] == [OTHER]
    assert set(status.regions["local"].placement.values()) == {OTHER}
    with pytest.raises(InvalidRequest, match="last leader of region local"):
        operate.order(swarm.name, orders.Drain(OTHER))
    load.check_each_ran_once()
    status = ordered(swarm, orders.Drain(LEADER, undo=True))
    assert {leader.leader for leader in status.regions["local"].leaders} == {LEADER, OTHER}
    swarm.check_one_outcome_each()


def test_a_worker_is_drained_under_load_and_replaced(swarm: World, load: Load) -> None:
    name = next(iter(swarm.workers()))
    status = ordered(swarm, orders.Drain(name))
    assert name not in workers(status)
    assert len(workers(status)) == 2
    load.check_each_ran_once()
    with pytest.raises(NotFound, match=name):
        operate.order(swarm.name, orders.Drain(name))


def test_other_handlers_and_then_other_policies_replace_each_worker_while_tasks_flow(
    swarm: World, load: Load
) -> None:
    before = workers(operate.wait(swarm.name, 0, WITHIN_S))
    newer = msgspec.structs.replace(
        swarm.spec, handlers=(*swarm.spec.handlers, "tests.swarm.client_handlers")
    )
    told = operate.preview(newer)
    assert [change.key for change in told.changes] == ["handlers"]
    assert any(action.startswith(f"replace {LEADER}") for action in told.actions)
    after = workers(applied(swarm, newer))
    assert len(after) == len(before)
    assert not after.keys() & before.keys()
    assert swarm.client.submit("client.echo", 7).result(WITHIN_S) == 7
    policy = specs.PolicySpec(types={"client.fail": {"max_attempts": 2}})
    again = workers(applied(swarm, msgspec.structs.replace(newer, policy=policy)))
    assert len(again) == len(before)
    assert not again.keys() & after.keys()
    failing = swarm.client.submit("client.fail", 0)
    with pytest.raises(TaskFailed):
        failing.result(WITHIN_S)
    assert failing.status().attempts == 2, "its handler asks for one"
    load.check_each_ran_once()


def test_handlers_that_do_not_load_stop_at_the_first_leader_and_cost_nothing(
    swarm: World, load: Load
) -> None:
    before = workers(operate.wait(swarm.name, 0, WITHIN_S))
    wrong = msgspec.structs.replace(swarm.spec, handlers=("tests.swarm.no_such_handlers",))
    with pytest.raises(HandlerLoadError, match="no_such_handlers"):
        operate.wait(swarm.name, operate.apply(wrong), WITHIN_S)
    leaders = swarm.leaders()
    assert {leader.revision for leader in leaders.values()} == {
        specs.worker_revision(wrong), specs.worker_revision(swarm.spec)
    }  # fmt: skip
    assert before.keys() <= swarm.workers().keys()
    load.check_each_ran_once()


def test_a_paused_type_waits_through_a_failover_until_it_is_resumed(swarm: World) -> None:
    ordered(swarm, orders.Pause(types=("work",)))
    waiting = swarm.client.submit_many("work", payloads(40, swarm.dir / "log"))
    until(lambda: sum(s.open for one in swarm.leaders().values() for s in one.shards) == 40)
    swarm.kill(swarm.leaders()[LEADER].process)
    status = operate.wait(swarm.name, 0, WITHIN_S)
    paused = next(one for one in status.conditions if one.type == "Paused")
    assert (paused.status, paused.message) == ("True", "type work")
    assert not notes(swarm.dir / "log")
    operate.order(swarm.name, orders.Resume(types=("work",)))
    assert list(waiting.results(timeout_s=WITHIN_S)) == list(range(40))


def test_an_orchestrator_that_dies_again_and_again_brings_the_spec_about(
    swarm: World, load: Load
) -> None:
    wanted = msgspec.structs.replace(
        swarm.spec, regions=(specs.RegionSpec(name="local", leaders=3, workers=1),), revision="k9"
    )
    generation = operate.apply(wanted)
    terms = set()
    for _ in range(3):  # each time as soon as the last one has begun
        status = until(lambda: _of_another_term(swarm, terms))
        terms.add(status.term)
        swarm.kill(status.process)
    status = operate.wait(swarm.name, generation, WITHIN_S)
    assert status.generation == generation
    assert len(status.regions["local"].leaders) == 3
    assert {w.revision for leader in status.regions["local"].leaders for w in leader.workers} == {
        specs.worker_revision(wanted)
    }
    load.check_each_ran_once()


def _of_another_term(world: World, terms: set[int]) -> SwarmStatus | None:
    status = world.status()
    return status if status is not None and status.term not in terms else None


def test_a_pool_grows_under_load_and_shrinks_after_it(swarm: World) -> None:
    region = specs.RegionSpec(
        name="local", leaders=1, workers=1, workers_max=3, grow_wait_s=0.5, shrink_after_s=3.0
    )
    applied(swarm, msgspec.structs.replace(swarm.spec, regions=(region,)))
    load = Load(swarm, ms=10)  # more than two workers get done
    try:
        until(lambda: len(swarm.workers()) == 3)
    finally:
        load.stop()
    load.check_each_ran_once()
    until(lambda: len(swarm.workers()) == 1)
    assert swarm.counter("worker_deaths") == 0


def test_a_region_is_drained_under_load_and_has_its_shards_back(
    ray_cluster: Any, tmp_path: Path
) -> None:
    size = {"leaders": 1, "workers": 1}
    regions = [{"name": "local", **size}, {"name": "other", **size}]
    world = World(f"o{uuid.uuid4().hex[:8]}", tmp_path, shards=4, regions=regions)
    try:
        boot.up(world.spec, timeout_s=WITHIN_S)
        world.client = chimera.connect(world.name, timeout_s=WITHIN_S)
        load = Load(world, ms=20)  # more than its workers get done: all have something in hand
        try:
            status = ordered(world, orders.Drain("coordinator/other"))
            assert sorted(status.regions["local"].placement) == [0, 1, 2, 3]
            assert not status.regions["other"].placement
            status = ordered(world, orders.Drain("coordinator/other", undo=True))
            assert sorted(status.regions["other"].placement) == [1, 3]
        finally:
            load.stop()
        load.check_each_ran_once()
        world.check_one_outcome_each(load.EACH * len(load.bulks))
    finally:
        world.down()
