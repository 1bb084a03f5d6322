"""Regions as the orchestrator sees them: lost, back, and those in Ray clusters of their own."""

from __future__ import annotations

from chimera.swarm.orchestrator import events, view
from chimera.swarm.orchestrator.effects import Attach, Configure, End, Knock, Make, Retire
from chimera.swarm.orchestrator.state import ChildState
from chimera.swarm.reports import ChildInfo
from chimera.swarm.spec import RegionSpec
from tests.unit.swarm.test_orchestrator import World, actions, changed, only, report

TWO = changed(regions=(RegionSpec(name="eu"), RegionSpec(name="us", link="127.0.0.1:7443")))
LINKED = changed(regions=(RegionSpec(name="eu", link="127.0.0.1:7443"),))


def dead_region(world: World) -> World:
    """Its node is gone: nothing of it answers, and it cannot be made again."""
    world.tell(events.Lost("eu", world.serial, "its node died", dead=True))
    return world


def test_what_a_coordinator_said_last_holds_while_it_is_heard() -> None:
    world = World().up()
    name = "coordinator/eu"

    def child() -> ChildInfo:
        return view.children(world.machine, world.now)[name]

    def age(told: ChildInfo) -> float | None:
        return None if told.age_s is None else round(told.age_s, 3)

    world.pass_time(1.0)
    told = child()
    assert (told.state, told.holds, told.faults, age(told)) == ("up", True, (), 1.0)
    world.pass_time(1.5)
    told = child()
    assert (told.state, told.holds, age(told)) == ("silent", False, 2.5)
    assert "silent for 2" in told.faults[0]
    world.tell(events.Pulse("eu", world.serial, report(faults=("its leader's own",))))
    assert (child().holds, child().faults, age(child())) == (True, (), 0.0)
    world.tell(events.Lost("eu", world.serial, "killed", dead=True))
    assert (child().state, child().holds, age(child())) == ("making", False, None)


def test_a_region_is_lost_when_neither_coordinator_nor_leaders_are_heard() -> None:
    world = dead_region(World().up())
    effects = world.pass_time(4.8)
    knocks = only(effects, Knock)
    assert knocks
    assert set(knocks) == {Knock("eu", ("leader/eu/0", "leader/eu/1"))}
    assert len(knocks) <= 6, "leaders are not asked all the time"
    for _ in knocks:
        world.tell(events.Knocked("eu", answered=False))
    assert not world.child.lost
    assert "region_lost" in actions(world.pass_time(0.5))
    assert any("region eu is lost" in fault for fault in world.machine.faults())
    assert "region_lost" not in actions(world.pass_time(30)), "it is told once"


def test_a_region_whose_leaders_answer_is_not_lost() -> None:
    world = dead_region(World().up())
    for _ in range(30):
        world.pass_time(1)
        world.tell(events.Knocked("eu", answered=True))
    assert not world.child.lost
    assert not any("is lost" in fault for fault in world.machine.faults())


def test_a_region_that_comes_back_is_told_so() -> None:
    world = dead_region(World().up())
    world.pass_time(6)
    assert world.child.lost
    assert actions(world.pulse()) == ["region_back"]
    assert not world.child.lost
    assert world.child.state is ChildState.UP


def test_a_busy_observer_loses_no_region_that_speaks() -> None:
    world = World().up()
    for _ in range(100):
        world.pulse()
        world.tick(after=0.4)
    assert not world.child.lost


def test_a_linked_region_is_watched_and_never_made_or_ended() -> None:
    world = World(LINKED)
    effects = world.tell(events.Surveyed(()))
    assert only(effects, Attach)
    assert not only(effects, Make)
    assert world.child.state is ChildState.AWAY
    effects = world.pass_time(120)
    assert not only(effects, Make)
    assert not only(effects, End)
    assert not only(effects, Knock)
    world.pulse()
    assert world.child.state is ChildState.UP
    effects = world.pass_time(60)  # cut off
    assert world.child.state is ChildState.AWAY
    assert world.child.lost
    assert not only(effects, Make)
    assert not only(effects, End)
    world.pulse()
    assert world.child.state is ChildState.UP
    assert not world.child.lost


def test_a_linked_region_is_lost_as_soon_as_the_spec_says() -> None:
    world = World(changed(regions=LINKED.regions, region_timeout_s=1.0)).up()
    assert "region_lost" not in actions(world.pass_time(0.9))
    assert "region_lost" in actions(world.pass_time(0.3)), "before a coordinator counts as silent"
    assert world.child.state is ChildState.AWAY


def test_what_a_busy_observer_has_lost_is_no_silence_of_a_linked_region() -> None:
    world = World(changed(regions=LINKED.regions, region_timeout_s=1.0)).up()
    world.tick()
    world.pulse()
    assert "region_lost" not in actions(world.tick(after=1.3)), "the answer may wait to be read"
    assert "region_lost" in actions(world.pass_time(1.3))


def test_a_linked_region_that_is_back_is_told_the_spec_it_missed() -> None:
    world = World(LINKED).up()
    world.pass_time(10)
    newer = changed(regions=LINKED.regions, queue_bound=77)
    assert not only(world.tell(events.Apply(1, newer, "ann")), Configure), "nobody can be told"
    assert only(world.pulse(generation=1), Configure)
    world.pulse(generation=2)
    assert world.machine.ready


def test_a_watch_that_ends_is_made_anew_for_a_linked_region() -> None:
    world = World(LINKED).up()
    before = world.serial
    world.tell(events.Lost("eu", world.serial, "protocol error", dead=False))
    effects = world.pass_time(1)
    assert world.serial > before
    assert not only(effects, End)
    assert world.child.state is ChildState.AWAY


def test_a_stop_does_not_wait_for_a_region_out_of_reach() -> None:
    world = World(TWO)
    world.tell(events.Surveyed(()))
    world.pulse()
    effects = world.tell(events.Stop(7, "ann"))
    assert [retire.region for retire in only(effects, Retire)] == ["eu"]
    world.tell(events.Ended("eu", world.serial, gone=True))
    assert world.machine.is_stopped()
    assert "lives on" in world.machine.children["us"].fault


def test_the_swarm_waits_for_a_region_out_of_reach_and_says_so() -> None:
    world = World(TWO)
    world.tell(events.Surveyed(()))
    world.tell(events.Pulse("eu", world.serial, report(served=1)))
    assert world.machine.waiting_for() == "region us: its coordinator, which is away"
