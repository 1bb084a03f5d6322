"""The orchestrator's machine, event by event: no cluster, no clock."""

from __future__ import annotations

import random

import msgspec
import pytest

from chimera.errors import ImpossibleStep, NotReady, SpecError
from chimera.swarm.orchestrator import Orchestrator, events
from chimera.swarm.orchestrator.effects import (
    Answer,
    Attach,
    Configure,
    End,
    Make,
    Persist,
    Retire,
    Survey,
)
from chimera.swarm.orchestrator.start import Declared
from chimera.swarm.orchestrator.state import ChildState, Patience
from chimera.swarm.orders import Ordered
from chimera.swarm.reports import LeaderReport, Owner, RegionReport, ShardInfo
from chimera.swarm.spec import Change, RegionSpec, Spec

PROCESS = Owner("coordinator/eu", "boot", 1, 4711, 99, "node")
SPEC = Spec(
    handlers=("app.tasks",),
    data_dir="/data",
    objects="file:///data/objects",
    shards=2,
    regions=(RegionSpec(name="eu"),),
)


def changed(**changes):
    return msgspec.structs.replace(SPEC, **changes)


def report(generation=1, ready=True, served=2, faults=(), region="eu", workers=True):
    shards = tuple(ShardInfo(shard, 1, "serving", 0) for shard in range(served))
    name = f"leader/{region}/0"
    leader = LeaderReport(name, PROCESS, generation, workers, shards, (), {}, faults)
    return RegionReport(
        f"coordinator/{region}", region, 1, PROCESS, generation, ready, (leader,), {}, 0
    )


class World:
    """A machine with its time, and what it has asked for."""

    def __init__(self, spec=SPEC, new=True, term=3):
        self.machine = Orchestrator(Declared(spec, 1, new), term, "up 1")
        self.now = 100.0
        self.first = self.machine.begin(self.now)

    def tell(self, event, after=0.0):
        """Effects of one event; what a Persist carries comes after it."""
        self.now += after
        effects = self.machine.step(event, self.now)
        self.machine.check()
        return [one for e in effects for one in ([e, *e.then] if isinstance(e, Persist) else [e])]

    def tick(self, after=0.1):
        return self.tell(events.Tick(), after)

    def pass_time(self, seconds):
        """Tick on; returns all effects."""
        return [one for _ in range(round(seconds * 10)) for one in self.tick()]

    child = property(lambda self: self.machine.children["eu"])
    serial = property(lambda self: self.child.serial)

    def pulse(self, **more):
        return self.tell(events.Pulse("eu", self.serial, report(**more)), 0.1)

    def up(self, **more):
        self.tell(events.Surveyed(()))
        self.pulse(**more)
        assert self.child.state is ChildState.UP
        return self


def only(effects, kind):
    return [effect for effect in effects if isinstance(effect, kind)]


def actions(effects):
    return [note.action for persist in only(effects, Persist) for note in persist.audit]


# -- boot --------------------------------------------------------------------------------------


def test_a_new_spec_is_durable_and_audited_before_anything_is_looked_at():
    boot, survey = World().first
    assert (boot.spec, boot.by) == ((1, SPEC), "up 1")
    assert [note.action for note in boot.audit] == ["boot"]
    assert boot.audit[0].detail == {"term": 3, "generation": 1}
    assert survey == Survey()
    assert World(new=False).first[0].spec is None


def test_nothing_is_made_before_it_is_known_who_lives():
    world = World()
    assert world.pass_time(1) == []
    effects = world.tell(events.Surveyed(("orchestrator", "leader/eu/0")))
    assert actions(effects) == ["make"]
    assert only(effects, Make) == [Make("eu", world.serial, SPEC, 1)]


def test_a_living_coordinator_is_watched_and_not_made():
    world = World()
    assert world.tell(events.Surveyed(("coordinator/eu",))) == [Attach("eu", world.serial)]
    assert world.pulse() == []
    assert world.machine.ready


def test_who_lives_is_taken_in_once():
    world = World().up()
    assert world.tell(events.Surveyed(())) == []
    assert world.child.state is ChildState.UP


def test_each_region_gets_its_coordinator():
    regions = (RegionSpec(name="eu"), RegionSpec(name="us"))
    world = World(changed(regions=regions))
    effects = world.tell(events.Surveyed(("coordinator/us",)))
    assert [make.region for make in only(effects, Make)] == ["eu"]
    assert [attach.region for attach in only(effects, Attach)] == ["us"]


# -- coordinators that die, fall silent or do not come -----------------------------------------


def test_a_dead_coordinator_is_made_again_at_once():
    world = World().up()
    former = world.serial
    effects = world.tell(events.Lost("eu", former, "killed", dead=True))
    assert actions(effects) == ["coordinator_lost", "make"]
    assert world.serial == former + 1
    assert not world.machine.ready
    assert world.machine.faults() == ("coordinator/eu: killed",)
    world.pulse()
    assert world.machine.ready
    assert world.machine.faults() == ()


def test_one_that_dies_again_and_again_is_made_ever_more_slowly_but_always():
    world = World().up()
    waits = []
    for _ in range(8):
        world.tell(events.Lost("eu", world.serial, "killed", dead=True))
        waits.append(max(world.child.retry_at - world.now, 0.0))
        world.pass_time(waits[-1] + 0.2)
        assert world.child.state is ChildState.MAKING
    assert waits[:3] == pytest.approx([0.0, 0.2, 0.4])
    assert waits[-1] == pytest.approx(10.0)
    world.tell(events.Lost("eu", world.serial, "killed", dead=True))
    assert "died too often" in world.machine.faults()[0]


def test_news_of_a_former_incarnation_changes_nothing():
    world = World().up()
    former = world.serial
    world.tell(events.Lost("eu", former, "killed", dead=True))
    assert world.tell(events.Lost("eu", former, "killed again", dead=True)) == []
    world.tell(events.Pulse("eu", former, report()))
    assert world.child.state is ChildState.MAKING


def test_a_silent_coordinator_is_ended_after_an_audit_entry():
    world = World().up()
    effects = world.pass_time(2.5)
    assert actions(effects) == ["end"]
    assert only(effects, End) == [End("eu", world.serial, PROCESS)]
    assert "silent for 2" in world.machine.faults()[0]
    effects = world.tell(events.Ended("eu", world.serial, gone=True))
    assert actions(effects) == ["coordinator_lost", "make"]


def test_one_that_speaks_again_is_spared():
    world = World().up()
    world.pass_time(2.5)
    world.pulse()
    world.tell(events.Ended("eu", world.serial, gone=False, fault="busy"))
    assert world.child.state is ChildState.UP
    assert world.machine.faults() == ()


def test_one_that_cannot_be_ended_is_tried_again_and_shown():
    world = World().up()
    world.pass_time(2.5)
    world.tell(events.Ended("eu", world.serial, gone=False, fault="elsewhere"))
    assert world.machine.faults() == ("coordinator/eu: cannot be ended: elsewhere",)
    assert len(only(world.pass_time(10.5), End)) == 1


def test_the_observers_own_pause_condemns_nobody():
    world = World().up()
    world.tick()
    assert only(world.tick(after=20.0), End) == []
    world.pulse()
    assert world.child.state is ChildState.UP


def test_one_that_never_says_a_word_is_ended():
    world = World()
    world.tell(events.Surveyed(()))
    effects = world.pass_time(Patience().make_s + 0.2)
    assert only(effects, End) == [End("eu", world.serial, None)]
    found = World()
    found.tell(events.Surveyed(("coordinator/eu",)))
    assert len(only(found.pass_time(Patience().found_s + 0.2), End)) == 1


def test_one_that_refuses_the_watch_is_ended():
    world = World().up()
    effects = world.tell(events.Lost("eu", world.serial, "a bug", dead=False))
    assert len(only(effects, End)) == 1
    assert world.tell(events.Lost("eu", world.serial, "a bug", dead=False)) == []


def test_one_whose_name_is_taken_is_watched():
    world = World()
    world.tell(events.Surveyed(()))
    failed = events.MakeFailed("eu", world.serial, "lives", taken=True)
    assert world.tell(failed) == [Attach("eu", world.serial)]
    assert world.tell(failed) == []


def test_one_whose_constructor_fails_is_made_again_with_its_fault_shown():
    world = World()
    world.tell(events.Surveyed(()))
    effects = world.tell(events.MakeFailed("eu", world.serial, "no disk", taken=False))
    assert len(only(effects, Make)) == 1
    assert world.machine.faults() == ("coordinator/eu: no disk",)


# -- applying a spec ---------------------------------------------------------------------------


def test_a_spec_is_durable_before_it_is_told_and_acknowledged():
    world = World().up()
    new = changed(queue_bound=7)
    (persist,) = world.machine.step(events.Apply(9, new, "ada"), world.now)
    assert (persist.spec, persist.by) == ((2, new), "ada")
    assert persist.audit[0].detail["changes"] == {"queue_bound": [500_000, 7]}
    done = Ordered(2, (Change("queue_bound", 500_000, 7),))
    assert persist.then == (Configure("eu", world.serial, new, 2), Answer(9, done))
    assert world.machine.waiting_for() == ("region eu: its coordinator to take in the new spec")
    world.pulse(generation=2)
    assert world.machine.ready


def test_a_spec_that_changes_nothing_or_too_much_is_answered_at_once():
    world = World().up()
    assert world.tell(events.Apply(9, SPEC, "ada")) == [Answer(9, Ordered(1, ()))]
    (answer,) = world.tell(events.Apply(9, changed(shards=4), "ada"))
    assert isinstance(answer.error, SpecError)
    assert world.machine.generation == 1


def test_a_coordinator_that_missed_a_spec_is_told_again():
    world = World().up()
    world.tell(events.Apply(9, changed(queue_bound=7), "ada"))
    told = []
    for _ in range(30):
        told += only(world.pulse(generation=1), Configure)
    assert [one.generation for one in told] == [2]
    world.pulse(generation=2)
    assert only(world.pass_time(1), Configure) == []


def test_a_coordinator_ahead_of_the_store_is_a_fault_to_show():
    world = World().up(generation=4)
    assert "was an old copy brought back?" in world.machine.faults()[0]


# -- stopping ----------------------------------------------------------------------------------


def test_a_stop_ends_what_is_below_and_is_acknowledged_after_it():
    world = World().up()
    effects = world.tell(events.Stop(5, "ada"))
    assert actions(effects) == ["stop", "retire"]
    assert only(effects, Retire) == [Retire("eu", world.serial, PROCESS)]
    assert world.machine.waiting_for() == "the end"
    assert world.tell(events.Lost("eu", world.serial, "retired", dead=True)) == []
    assert world.tell(events.Ended("eu", world.serial, gone=True))[1:] == [Answer(5)]
    assert world.machine.is_stopped()
    assert world.pass_time(20) == []
    assert only(world.tell(events.Stop(6, "ada")), Answer) == [Answer(6)]


def test_while_it_is_stopped_no_spec_is_applied():
    world = World().up()
    world.tell(events.Stop(5, "ada"))
    (answer,) = world.tell(events.Apply(9, changed(queue_bound=7), "ada"))
    assert isinstance(answer.error, NotReady)


def test_a_region_that_does_not_retire_is_ended():
    world = World().up()
    world.tell(events.Stop(5, "ada"))
    effects = world.pass_time(Patience().retire_s + 0.2)
    assert len(only(effects, End)) == 1
    assert only(world.tell(events.Ended("eu", world.serial, gone=True)), Answer) == [Answer(5)]


def test_one_that_has_retired_but_lives_on_is_ended():
    world = World().up()
    world.tell(events.Stop(5, "ada"))
    assert world.tell(events.Ended("eu", world.serial, gone=False, fault="busy")) == []
    assert world.machine.faults()[0] == "coordinator/eu: cannot be ended: busy"
    assert len(only(world.pass_time(10.5), End)) == 1


def test_one_that_is_just_being_made_is_retired_when_it_speaks():
    world = World()
    world.tell(events.Stop(5, "ada"))
    assert world.tell(events.Surveyed(("coordinator/eu",))) == [Attach("eu", world.serial)]
    assert len(only(world.pulse(), Retire)) == 1


# -- what is missing ---------------------------------------------------------------------------


def test_what_it_waits_for_is_said():
    world = World()
    wait = world.machine.waiting_for
    assert wait() == "region eu: its coordinator, which is missing"
    world.tell(events.Surveyed(()))
    assert wait() == "region eu: its coordinator, which is making"
    world.pulse(ready=False, workers=False)
    assert wait() == "region eu: workers to load their handlers"
    world.pulse(ready=False, served=1)
    assert wait() == "region eu: 1 of 2 shards are served"
    world.pulse()
    assert wait() == ""
    assert (world.machine.ready, world.machine.ready_since) == (True, world.now)


def test_faults_of_leaders_are_shown_with_their_names():
    world = World().up(faults=("handler_load_error: no module",))
    assert world.machine.faults() == ("leader/eu/0: handler_load_error: no module",)


# -- what must never be ------------------------------------------------------------------------


def test_an_impossible_step_tells_what_came_before():
    world = World().up()
    with pytest.raises(ImpossibleStep, match=r"from up to making .* before: .*making → up: spoke"):
        world.machine._become(world.child, ChildState.MAKING, world.now, "a bug")


def test_invariants_that_do_not_hold_are_all_named():
    world = World().up()
    world.child.report = None
    world.machine.children["us"] = world.child
    world.machine._audit("x", "y")
    with pytest.raises(ImpossibleStep, match=r"without a report.*differ.*left behind"):
        world.machine.check()


# -- whatever comes ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(200))
def test_it_converges_after_any_news(seed):
    """Nothing that it may be told breaks it, and when the news end it is ready (G8)."""
    rng = random.Random(seed)
    world = World()
    world.tell(events.Surveyed(rng.choice([(), ("coordinator/eu",)])))
    for _ in range(100):
        serial = world.serial - rng.choice([0, 0, 0, 1])
        event = rng.choice(
            [
                events.Pulse("eu", serial, report(world.machine.generation)),
                events.Lost("eu", serial, "x", dead=rng.random() < 0.5),
                events.MakeFailed("eu", serial, "x", taken=rng.random() < 0.5),
                events.Ended("eu", serial, gone=rng.random() < 0.5),
                events.Apply(1, changed(queue_bound=rng.randint(1, 3)), "x"),
                events.Tick(),
            ]
        )
        world.tell(event, after=rng.choice([0.0, 0.1, 3.0, 100.0]))
    for _ in range(300):
        state = world.child.state
        if state in (ChildState.MAKING, ChildState.FOUND, ChildState.UP):
            world.pulse(generation=world.machine.generation)
        elif state is ChildState.SILENT:
            world.tell(events.Ended("eu", world.serial, gone=True))
        world.tick()
    assert world.machine.ready
