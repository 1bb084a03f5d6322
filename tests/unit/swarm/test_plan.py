"""What is yet to be done, from spec and status alone; and conditions, which say the same."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from chimera.errors import SpecError
from chimera.swarm import spec as specs
from chimera.swarm.orchestrator import Orchestrator, events, view
from chimera.swarm.orchestrator.conditions import Conditions
from chimera.swarm.orchestrator.plan import Seen, Wanted, plan
from chimera.swarm.orchestrator.start import Declared
from chimera.swarm.orchestrator.state import ChildState
from chimera.swarm.reports import (
    Condition,
    LeaderReport,
    Owner,
    Reading,
    RegionReport,
    ShardInfo,
    WorkerInfo,
)
from chimera.swarm.slo import SloSpec
from chimera.swarm.spec import Operations, RegionSpec, Spec

PROCESS = Owner("p", "boot", 1, 4711, 99, "node")
SPEC = Spec(
    handlers=("app.tasks",), data_dir="/data", objects="file:///o", shards=2,
    regions=(RegionSpec(name="eu", leaders=2),),
)  # fmt: skip
REVISION = specs.worker_revision(SPEC)


def changed(**changes):
    return msgspec.structs.replace(SPEC, **changes)


def leader(index, *, shards=1, workers=1, generation=1, revision=REVISION, name="eu"):
    found = f"leader/{name}/{index}"
    has = tuple(ShardInfo(index + i, 1, "serving", 0) for i in range(shards))
    pool = tuple(
        WorkerInfo(f"worker/{name}/{index}/a-{i}", PROCESS, None, revision) for i in range(workers)
    )
    return LeaderReport(found, PROCESS, generation, True, has, pool, {}, revision=revision)


def region(*leaders, generation=1, ready=True):
    return RegionReport("coordinator/eu", "eu", 1, PROCESS, generation, ready, leaders, {}, 0)


def up(*leaders, **more):
    return {"eu": Seen(ChildState.UP, region(*leaders, **more))}


AS_DECLARED = up(leader(0), leader(1))


def planned(spec, seen, generation=1, **more):
    actions = plan(Wanted(spec, generation, **more), seen)
    return [(action.verb, action.subject) for action in actions]


def test_nothing_is_planned_for_a_swarm_that_is_as_declared():
    assert planned(SPEC, AS_DECLARED) == []


def test_a_coordinator_that_is_not_there_is_made_and_comes_first():
    assert planned(SPEC, {}) == [("make", "coordinator/eu")]


def test_a_new_generation_goes_to_all_that_are_behind():
    assert planned(SPEC, up(leader(0), leader(1, generation=2)), generation=2) == [
        ("configure", "coordinator/eu"),
        ("configure", "leader/eu/0"),
    ]


@pytest.mark.parametrize(
    ("spec", "seen", "expected"),
    [
        (SPEC, up(leader(0, shards=2)), [("make", "leader/eu/1")]),
        (
            changed(regions=(RegionSpec(name="eu", leaders=1),)),
            up(leader(0, shards=1), leader(1, shards=1)),
            [("drain", "leader/eu/1")],
        ),
        (
            changed(operations=Operations(drained=("leader/eu/0",))),
            up(leader(0, shards=0, workers=0), replace(leader(0, shards=2), leader="leader/eu/1")),
            [("retire", "leader/eu/0")],
        ),
        (
            changed(revision="v2"),
            AS_DECLARED,
            [("replace", "leader/eu/0"), ("replace", "leader/eu/1")],
        ),
        (
            changed(operations=Operations(drained=("worker/eu/0/a-0",))),
            AS_DECLARED,
            [("replace", "leader/eu/0"), ("add", "leader/eu/0")],
        ),
        (SPEC, up(leader(0, workers=0), leader(1)), [("add", "leader/eu/0")]),
        (SPEC, up(leader(0, workers=3), leader(1)), [("remove", "leader/eu/0")]),
        (SPEC, up(leader(0), leader(1, shards=0)), [("place", "coordinator/eu")]),
    ],
)  # fmt: skip
def test_what_differs_is_planned(spec, seen, expected):
    assert planned(spec, seen) == expected


def test_a_pool_between_its_bounds_is_as_declared():
    spec = changed(regions=(RegionSpec(name="eu", leaders=2, workers_max=4),))
    assert planned(spec, up(leader(0, workers=3), leader(1))) == []
    growing = replace(leader(0, workers=1), worker_target=3)
    assert planned(spec, up(growing, leader(1))) == [("add", "leader/eu/0")]


def test_of_a_swarm_that_stops_only_the_end_is_planned():
    assert planned(changed(revision="v2"), AS_DECLARED, stopping=True) == [
        ("retire", "coordinator/eu")
    ]


# -- conditions --------------------------------------------------------------------------------


class World:
    """A machine that heard of one region."""

    def __init__(self, spec=SPEC):
        self.machine = Orchestrator(Declared(spec, 1, new=True), 1, "up 1")
        self.machine.begin(0.0)
        self.machine.step(events.Surveyed(()), 0.0)

    def hear(self, report, now):
        serial = self.machine.children["eu"].serial
        self.machine.step(events.Pulse("eu", serial, report), now)
        self.machine.step(events.Tick(), now)
        self.machine.look(now)

    def told(self, subject, type):
        found = self.machine.conditions.told(100.0, 100_000)
        (one,) = [one for one in found if (one.subject, one.type) == (subject, type)]
        return one


def test_conditions_say_what_holds_and_why():
    world = World()
    world.hear(region(leader(0), leader(1)), 10.0)
    for subject in ("orchestrator", "coordinator/eu"):
        assert world.told(subject, "Ready").status == "True"
        assert world.told(subject, "Reconciled").status == "True"
    assert world.told("leader/eu/1", "Ready").reason == "WorkersReady"
    world.hear(region(leader(0), ready=False), 20.0)
    waiting = world.told("orchestrator", "Ready")
    assert (waiting.status, waiting.reason) == ("False", "Waiting")
    assert "1 of 2 shards" in waiting.message
    assert "make leader/eu/1" in world.told("orchestrator", "Reconciled").message


def test_a_condition_is_as_old_as_its_status():
    book = Conditions()
    for at, status, message in ((10.0, "True", ""), (20.0, "False", "a"), (30.0, "False", "b")):
        book.look([Condition("s", "Ready", status, "Why", message)], at)
    assert book.told(40.0, 1_000_000) == (
        Condition("s", "Ready", "False", "Why", "b", 1_000_000 - 20_000),
    )


def test_drains_and_pauses_show():
    spec = changed(operations=Operations(drained=("leader/eu/1",), paused_types=("mail",)))
    world = World(spec)
    world.hear(region(leader(0), leader(1)), 10.0)
    assert world.told("orchestrator", "Paused").message == "type mail"
    assert world.told("leader/eu/1", "Draining").message == "1 shards, 1 workers left"


def test_a_region_that_is_not_heard_is_unknown():
    world = World()
    world.machine.look(1.0)
    assert world.told("coordinator/eu", "Ready").status == "Unknown"
    assert view.observed_generation(world.machine) == 0


def test_an_objective_is_met_or_missed_and_unknown_without_data():
    slo = SloSpec(name="ends-well", indicator="success", objective=0.9)
    world = World(changed(slos=(slo,)))
    counted = [{}, {"succeeded": 18, "failed": 2}, {"succeeded": 19, "failed": 6}]
    found = []
    for number, counters in enumerate(counted, start=1):
        tally = (Reading("leader/eu/0", 1, number, counters, {}),)
        world.hear(replace(region(leader(0), leader(1)), tally=tally), 10.0 * number)
        one = world.told("slo/ends-well", "SloMet")
        found.append((one.status, one.reason, one.message.partition(" in the last")[0]))
    assert found == [
        ("Unknown", "NoData", "no tasks"),
        ("True", "Met", "90 % of 20 tasks ended well"),
        ("False", "Missed", "76 % of 25 tasks ended well"),
    ]
    assert world.told("orchestrator", "Ready").status == "True", "a fault of tasks, not of parts"


# -- previews ----------------------------------------------------------------------------------


def test_a_preview_tells_changes_and_what_follows_and_changes_nothing():
    world = World()
    world.hear(region(leader(0), leader(1)), 10.0)
    told = view.preview(world.machine, changed(revision="v2"))
    assert (told.generation, [change.key for change in told.changes]) == (2, ["revision"])
    assert any(action.startswith("replace leader/eu/0") for action in told.actions)
    assert world.machine.spec == SPEC
    assert view.preview(world.machine, SPEC) == view.Preview(1, (), ())
    with pytest.raises(SpecError, match="shards is fixed"):
        view.preview(world.machine, changed(shards=9))
