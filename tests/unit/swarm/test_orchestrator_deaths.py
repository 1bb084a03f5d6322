"""The orchestrator dies between any two steps of whatever it does: the spec is brought about."""

from __future__ import annotations

import msgspec
import pytest

from chimera.swarm import spec as specs
from chimera.swarm.orchestrator import events
from chimera.swarm.orders import Drain, Pause, Scale
from chimera.swarm.spec import RegionSpec, Spec
from tests.unit.swarm.orchestrator_world import World

FIRST = Spec(
    name="s", handlers=("app.tasks",), data_dir="/data", objects="file:///o", shards=4,
    regions=(RegionSpec(name="eu", leaders=2), RegionSpec(name="us", leaders=2)),
)  # fmt: skip
WIDER = msgspec.structs.replace(FIRST, queue_bound=7, revision="v2")


def live(kill_at: int | None) -> World:
    """A life: up, another spec, three orders, each after the one before."""
    world = World(FIRST, kill_at)
    world.ordered = ("leader/eu/1", "coordinator/us")
    world.run()
    world.ask(lambda cause: events.Apply(cause, WIDER, "ada"), 1)
    orders = (
        Scale("us", leaders=3), Drain("leader/eu/1"), Pause(types=("mail",)),
        Drain("coordinator/us"),
    )  # fmt: skip
    for cause, order in enumerate(orders, start=2):
        answer = world.ask(lambda cause, order=order: events.Operate(cause, order, "ada"), cause)
        assert answer.error is None
    world.run()
    return world


MOMENTS = live(None).moments


def test_a_life_without_a_death_has_many_moments_to_die_at():
    assert MOMENTS > 20


@pytest.mark.parametrize("kill_at", range(MOMENTS))
def test_killed_at_any_moment_it_converges_to_what_was_declared(kill_at):
    world = live(kill_at)
    assert world.deaths == 1
    assert world.left() == []
    spec = world.store.spec
    assert spec == world.machine.spec
    assert (spec.queue_bound, spec.region("us").leaders) == (7, 3)
    assert spec.operations.drained == ("coordinator/us", "leader/eu/1")
    assert specs.region_shards(spec, "eu") == (0, 1, 2, 3)
    assert spec.operations.paused_types == ("mail",)
    assert world.store.generation == 8, "an order, or a step of the hand-over, was taken twice"
    assert {one.generation for one in world.coordinators.values()} == {8}
    assert world.unaudited == []


def test_a_region_gets_its_shards_back_when_its_drain_is_undone():
    world = live(None)
    order = Drain("coordinator/us", undo=True)
    world.ask(lambda cause: events.Operate(cause, order, "ada"), 9)
    world.run()
    assert world.left() == []
    assert specs.region_shards(world.store.spec, "us") == (1, 3)
    assert world.store.spec.operations.homes == {}


def test_no_shard_is_given_while_a_region_is_not_heard():
    world = live(None)
    order = Drain("coordinator/us", undo=True)
    world.tell(events.Operate(9, order, "ada"))
    for _ in range(3):  # eu says nothing: it may have what it had
        world.tell(events.Pulse("us", world.serials["us"], world.coordinators["us"].report()))
    assert specs.region_shards(world.store.spec, "us") == ()
    assert world.left()


def test_killed_as_it_stops_it_stops_when_it_is_told_again():
    for kill_at in range(MOMENTS, MOMENTS + 12):
        world = live(None)
        world.kill_at = kill_at
        world.ask(lambda cause: events.Stop(cause, "ada"), 9)
        world.run(2.0)
        if not world.machine.stopping:  # it was acknowledged and then it died
            world.ask(lambda cause: events.Stop(cause, "ada"), 10)
            world.run(2.0)
        assert not world.coordinators


def test_an_order_for_another_generation_changes_nothing():
    world = live(None)
    pause = Pause(types=("mail", "post"))
    known = world.store.generation
    late = world.ask(lambda cause: events.Operate(cause, pause, "ada", (known - 1,)), 9)
    assert late.error.code == "precondition_failed"
    assert late.error.details["generation"] == known == world.store.generation
    assert world.store.spec.operations.paused_types == ("mail",)
    taken = world.ask(lambda cause: events.Operate(cause, pause, "ada", (known - 1, known)), 10)
    assert taken.value.generation == known + 1
