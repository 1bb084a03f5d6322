"""What outlives a coordinator or changes under it: successors, terms, plans (P2, G8)."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from chimera.swarm import spec as specs
from chimera.swarm.coordinator import Coordinator
from chimera.swarm.coordinator.effects import (
    Attach,
    Configure,
    Make,
    Persist,
    Release,
    Retire,
    StepDown,
    Take,
)
from chimera.swarm.coordinator.events import Deposed, Planned, Pulse, Surveyed, Tick
from chimera.swarm.spec import PolicySpec, RegionSpec, Spec
from tests.unit.swarm.region_fakes import FakeLeader
from tests.unit.swarm.region_world import World, plan

A, B, C = "leader/local/0", "leader/local/1", "leader/local/2"


@pytest.fixture
def world():
    """Two leaders, eight shards, everything served."""
    world = World(plan())
    world.until(world.even)
    return world


def kinds(world, kind):
    return [act for act in world.acts if isinstance(act, kind)]


def test_the_journal_is_believed_over_the_coordinators_memory():
    world = World(plan())
    world.journals = dict.fromkeys(range(8), (7, None))
    world.until(world.even)
    assert all(epoch == 8 for epoch, _ in world.journals.values())
    assert world.machine.state.shards[0].epoch == 8


def test_a_new_coordinator_keeps_healthy_leaders_and_their_shards(world):
    del world.acts[:]
    leaders = dict(world.leaders)
    world.new_coordinator()
    world.run(10.0)
    assert world.leaders == leaders
    assert not kinds(world, Make)
    assert not kinds(world, Take)
    assert world.machine.report("c", leaders[A].process).ready


def test_a_new_coordinator_takes_over_for_a_leader_that_died_with_the_old_one(world):
    workers = set(world.leaders[A].workers)
    world.kill(A)
    world.new_coordinator()
    del world.acts[:]
    took = world.until(world.all_served)
    assert took < 0.5
    orders = [act.order for act in kinds(world, Take)]
    assert all(order.term == 2 for order in orders)
    assert all(workers <= {w.name for w in order.former_workers} for order in orders)
    world.until(world.even)


def test_a_new_coordinator_asks_the_workers_of_a_leader_that_gave_a_shard_up_meanwhile(world):
    """Its journal failed while nobody was in control: its workers still have what they finished."""
    loser = world.leaders[A]
    shard = min(loser.shards)
    workers = set(loser.workers)
    world.new_coordinator()
    del loser.shards[shard]
    world.journals[shard] = (world.journals[shard][0], None)
    world.until(world.all_served)
    (order,) = [
        act.order for act in world.acts if isinstance(act, Take) and act.order.shard == shard
    ][-1:]
    assert workers <= {worker.name for worker in order.former_workers}


def test_a_new_coordinator_waits_for_a_found_leader_before_it_gives_shards_away(world):
    world.pause(A)
    world.new_coordinator()
    del world.acts[:]
    assert world.until(lambda: kinds(world, Take)) > 1.9
    world.until(world.even)


def test_a_leader_found_while_it_still_starts_is_not_ended():
    world = World(plan())
    world.MAKE_S = 5.0
    world.until(lambda: len(kinds(world, Make)) == 2)
    world.run(1.0)
    world.new_coordinator()
    world.until(world.even)
    assert not world.ended


def test_orders_of_a_stale_term_are_refused_and_end_the_old_coordinator(world):
    for leader in world.leaders.values():
        leader.term = 9
    world.kill(A)
    world.until(lambda: world.deposed)
    assert world.machine.step(Deposed("newer"), world.now) == [StepDown("newer")]


def test_a_smaller_plan_drains_a_leader_before_it_is_retired():
    world = World(plan(leaders=3))
    world.until(world.even)
    world.wanted = plan(leaders=2, generation=2)
    del world.acts[:]
    world.tell(Planned(world.wanted))
    world.until(lambda: C not in world.machine.state.leaders)
    assert not world.leaders[C].shards
    assert not [act for act in kinds(world, Take) if act.leader == C]
    world.until(world.even)
    assert not world.ended


def test_a_larger_plan_makes_a_leader_and_gives_it_its_share(world):
    world.wanted = plan(leaders=3, generation=2)
    world.tell(Planned(world.wanted))
    world.until(world.even)
    assert world.spread() == [2, 3, 3]


def test_a_new_generation_reaches_one_leader_after_the_other(world):
    world.tell(Planned(plan(generation=2)))
    first = [act.leader for act in kinds(world, Configure) if act.config.generation == 2]
    assert first == [A]
    world.until(lambda: {leader.config.generation for leader in world.living()} == {2})


def test_an_older_generation_is_ignored(world):
    world.tell(Planned(plan(leaders=1, generation=0)))
    assert world.machine.state.plan.leaders == 2


# -- what workers are born with, and leaders that go ---------------------------------------------


def of_revision(world, revision, workers="old", generation=2):
    """Everything that leaders report, as it would be with workers of a revision."""
    for leader in world.leaders.values():
        for name, info in leader.workers.items():
            leader.workers[name] = replace(info, revision=workers)
    template = replace(world.wanted.template, revision=revision, generation=generation)
    return replace(world.wanted, generation=generation, template=template)


def configured(world):
    return [(act.leader, act.config.revision) for act in world.acts if isinstance(act, Configure)]


def test_a_new_revision_goes_to_the_next_leader_when_the_workers_of_one_are_replaced():
    world = World(plan())
    world.until(world.even)
    del world.acts[:]
    world.tell(Planned(of_revision(world, "new")))
    world.run(30.0)
    assert ("leader/local/0", "new") in configured(world)
    assert ("leader/local/1", "new") not in configured(world)
    first = world.leaders["leader/local/0"]
    for name, info in first.workers.items():
        first.workers[name] = replace(info, revision="new")
    world.run(5.0)
    assert ("leader/local/1", "new") in configured(world)


def test_another_policy_reaches_the_next_leader_when_the_workers_of_one_work_by_it():
    declared = Spec(handlers=("app",), data_dir="/d", objects="file:///o",
                    regions=(RegionSpec(name="local"),))  # fmt: skip
    policy = PolicySpec(types={"mail": {"max_attempts": 9}})
    newer = specs.region_plan(msgspec.structs.replace(declared, policy=policy), "local", 2)
    world = World(specs.region_plan(declared, "local", 1))
    world.until(world.even)
    of_revision(world, "", workers=world.wanted.template.revision)
    assert world.wanted.template.revision != newer.template.revision
    world.tell(Planned(newer))
    world.run(30.0)
    first, second = world.leaders[A], world.leaders[B]
    assert first.config.policies == {"mail": {"max_attempts": 9}}
    assert (second.config.generation, second.config.policies) == (2, {}), "the rest waits for none"
    for name, info in first.workers.items():
        first.workers[name] = replace(info, revision=newer.template.revision)
    world.until(lambda: second.config.policies == first.config.policies)
    assert not world.ended


def test_what_else_a_spec_says_waits_for_no_leaders_turn():
    world = World(plan())
    world.until(world.even)
    world.tell(Planned(of_revision(world, "new")))
    world.run(5.0)
    template = replace(world.machine.state.plan.template, generation=3, paused_types=("mail",))
    world.tell(Planned(replace(world.machine.state.plan, generation=3, template=template)))
    world.run(15.0)
    for leader in world.leaders.values():
        assert leader.config.paused_types == ("mail",)
    assert world.leaders["leader/local/1"].config.revision == ""


def test_a_leader_that_is_to_go_goes_when_its_workers_have_finished():
    world = World(plan())
    world.until(world.even)
    world.SURPLUS_S = 20.0  # they are at tasks of shards that were handed over
    del world.acts[:]
    world.tell(Planned(replace(world.wanted, generation=2, drained=("leader/local/1",))))
    world.until(lambda: not world.leaders["leader/local/1"].shards)
    world.run(15.0)
    assert not [act for act in world.acts if isinstance(act, Retire)]
    world.until(lambda: [act for act in world.acts if isinstance(act, Retire)])
    assert not world.leaders["leader/local/1"].workers


def test_what_waits_for_a_leader_to_be_ready_follows_from_the_report_that_says_so():
    first, second = FakeLeader(A, 1, plan().template), FakeLeader(B, 2, plan().template)
    first.shards = dict.fromkeys(range(8), (1, "serving"))
    second.ready = False
    machine = Coordinator(plan(), 1)
    begun = machine.step(Surveyed((A, B), ()), 0.0)
    serials = {one.leader: one.serial for one in begun if isinstance(one, Attach)}

    def told(leader, now):
        made = machine.step(Pulse(leader.name, serials[leader.name], leader.report()), now)
        return [act for one in made if isinstance(one, Persist) for act in one.then]

    for tenth in range(1, 30):
        for leader in (first, second):
            assert not [act for act in told(leader, tenth / 10) if isinstance(act, Release)]
        machine.step(Tick(), tenth / 10)
    second.ready = True
    assert [act for act in told(second, 3.0) if isinstance(act, Release)]
