"""The coordinator's machine: failover, suspicion, terms, gradual return, convergence (G6, G8)."""

from __future__ import annotations

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from chimera.errors import ImpossibleStep
from chimera.swarm.coordinator import Coordinator
from chimera.swarm.coordinator.effects import (
    End,
    Make,
    Persist,
    Release,
    Survey,
    Take,
)
from chimera.swarm.coordinator.events import (
    Looked,
    Lost,
    Pulse,
    Surveyed,
    TakeAnswered,
    Tick,
)
from chimera.swarm.coordinator.state import LeaderState, SeatState
from chimera.swarm.reports import Owner, ShardInfo
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


def test_a_region_starts_evenly_spread_without_moving_anything(world):
    assert world.spread() == [4, 4]
    assert not kinds(world, Release)
    assert all(epoch == 1 for epoch, _ in world.journals.values())


def test_a_leader_is_not_given_all_shards_because_it_started_first():
    world = World(plan())
    world.make_fails[B] = "disk full"
    world.until(world.all_served)
    assert world.spread() == [8], "one that cannot be made is not waited for"


def test_shards_of_a_killed_leader_are_ordered_at_once_and_before_it_is_made_again(world):
    del world.acts[:]
    before = {shard: epoch for shard, (epoch, _) in world.journals.items()}
    workers = set(world.leaders[A].workers)
    world.kill(A)
    took = world.until(world.all_served, within=0.2)
    assert took < 0.1
    first_make = next(i for i, act in enumerate(world.acts) if isinstance(act, Make))
    orders = [act.order for act in world.acts[:first_make]]
    assert len(orders) == 4
    for order in orders:
        assert order.epoch == before[order.shard]
        assert workers <= {worker.name for worker in order.former_workers}
        assert set(order.adopt) == workers
        assert order.term == 1


def test_every_act_rests_on_a_persisted_audit_entry(world):
    world.kill(A)
    world.until(world.even)
    actions = {entry.action for entry in world.audits}
    assert {"make", "take", "leader_lost", "release", "configure"} <= actions
    assert all(entry.detail["term"] == 1 for entry in world.audits)


def test_a_leader_made_again_gets_its_share_back_one_shard_at_a_time(world):
    world.kill(A)
    world.until(world.all_served)
    assert world.spread() == [8]
    released = len(kinds(world, Release))
    world.until(lambda: kinds(world, Release)[released:])
    assert A in {leader.name for leader in world.living()}, "only after it is back"
    world.until(world.even)
    assert len(kinds(world, Release)) - released == 4, "the fewest moves"
    assert {act.leader for act in kinds(world, Release)[released:]} == {B}


def test_survivors_keep_adopted_workers_until_all_leaders_are_ready(world):
    adopted = set(world.leaders[A].workers)
    world.ready_at_start = False
    world.kill(A)
    world.until(lambda: world.leaders[B].config.workers == 2)
    assert adopted <= set(world.leaders[B].workers)
    world.until(lambda: not world.leaders[A].dead)
    world.run(5.0)
    assert world.leaders[B].config.workers == 2
    world.leaders[A].ready = True
    world.until(lambda: world.leaders[B].config.workers == 1)
    world.until(lambda: len(world.leaders[B].workers) == 1)


def test_workers_are_divided_among_those_who_take():
    world = World(plan(leaders=3, shards=9, workers=4))
    world.until(world.even)
    lost = set(world.leaders[A].workers)
    world.kill(A)
    world.until(world.all_served)
    shares = [lost & set(world.leaders[name].workers) for name in (B, C)]
    assert [len(share) for share in shares] == [2, 2]


def test_a_stopped_leader_is_suspected_and_its_shards_ordered_within_half_a_second(world):
    del world.acts[:]
    world.pause(A)
    took = world.until(lambda: len(kinds(world, Take)) == 4)
    assert 0.3 < took < 0.5
    world.until(world.all_served)
    assert world.ended == [A], "by the taker, who found it in the journal"
    world.until(world.even)


def test_a_suspect_that_works_is_given_time_to_speak_again(world):
    del world.acts[:]
    life = world.machine
    leader = world.leaders[A]
    leader.watcher = -1  # its reports no longer come, its process lives and works
    world.until(lambda: life.state.leaders[A].state is LeaderState.SUSPECT)
    world.run(1.5)
    assert not kinds(world, Take)
    world.tell(Pulse(A, life.state.leaders[A].serial, leader.report()))
    assert life.state.leaders[A].state is LeaderState.UP
    assert not world.ended


def test_a_suspect_whose_process_cannot_be_seen_is_condemned(world):
    serial = world.machine.state.leaders[A].serial
    world.leaders[A].watcher = -1
    world.leaders[A].ever_paused = True
    world.until(lambda: world.machine.state.leaders[A].state is LeaderState.SUSPECT)
    world.tell(Looked(A, serial, here=False, state=None, cpu_ticks=0))
    assert world.machine.state.leaders[A].state is LeaderState.CONDEMNED


def test_a_zombie_that_comes_back_reports_no_shards_and_keeps_none(world):
    world.pause(A)
    shards = dict(world.leaders[A].shards)
    life = world.machine
    # the takers cannot end it: it is resumed after they have raised the epochs
    zombie = world.leaders[A]
    for shard in shards:
        world.journals[shard] = (world.journals[shard][0], None)
    world.until(world.all_served)
    world.resume(A)
    assert not zombie.shards
    world.until(lambda: life.state.leaders[A].state is LeaderState.UP)
    assert not [act for act in kinds(world, End) if act.leader == A]
    world.until(world.even)
    assert world.leaders[A] is zombie


def test_a_late_report_of_a_former_owner_changes_nothing(world):
    life, zombie = world.machine, world.leaders[A]
    old = zombie.report()
    world.kill(A)
    world.until(world.even)
    placed = dict(life.report("c", zombie.process).placement)
    world.tell(Pulse(A, life.state.leaders[A].serial, old))
    for shard, leader in placed.items():
        if leader == B:
            assert life.state.shards[shard].owner == B


def test_when_the_only_leader_stops_it_is_ended_and_made_again():
    world = World(plan(leaders=1))
    world.until(world.even)
    world.pause(A)
    world.until(world.even)
    assert world.ended == [A]


def test_a_condemned_leader_that_the_takers_could_not_end_is_ended_in_the_end(world):
    world.pause(A)
    for shard in world.leaders[A].shards:
        world.journals[shard] = (world.journals[shard][0], None)
    assert world.until(lambda: world.ended == [A]) > 5.0
    world.until(world.even)


def test_a_leader_whose_constructor_fails_is_a_fault_and_is_retried_with_growing_waits(world):
    world.make_fails[A] = "No space left on device"
    del world.acts[:]
    world.kill(A)
    world.run(60.0)
    tries = len(kinds(world, Make))
    assert 5 < tries < 20
    report = world.machine.report("c", world.leaders[B].process)
    assert "No space left on device" in report.faults[0]
    assert report.own_faults == ()
    assert (report.children[A].state, report.children[A].holds) == ("missing", False)
    assert report.children[A].faults == report.faults
    assert (report.children[B].holds, report.children[B].faults) == (True, ())
    assert world.all_served()
    del world.make_fails[A]
    world.until(world.even)
    report = world.machine.report("c", world.leaders[B].process)
    assert not report.faults
    assert report.children[A].holds


def test_a_constructor_that_hangs_is_ended_and_retried():
    world = World(plan())
    world.MAKE_S = 1e9
    world.until(lambda: kinds(world, End), within=40.0)
    world.MAKE_S = 1.0
    world.until(world.even, within=90.0)


def test_an_order_that_is_never_answered_goes_to_another_leader():
    world = World(plan(leaders=3, shards=3))
    world.until(world.even)
    deaf = world.leaders[B]
    take, world._take = world._take, lambda leader, *rest: leader is deaf or take(leader, *rest)
    world.kill(A)
    world.until(world.all_served, within=8.0)


def test_a_shard_dropped_by_its_leader_is_given_out_again(world):
    shard = min(world.leaders[A].shards)
    del world.leaders[A].shards[shard]
    world.journals[shard] = (world.journals[shard][0], None)
    world.until(world.all_served, within=2.0)
    world.until(world.even)


def test_a_shard_that_lost_its_tail_stays_with_its_leader_and_is_a_fault(world):
    shard = min(world.leaders[A].shards)
    epoch, _ = world.leaders[A].shards[shard]
    world.leaders[A].shards[shard] = (epoch, "lost_tail")
    world.run(5.0)
    report = world.machine.report("c", world.leaders[A].process)
    assert report.placement[shard] == A
    assert not report.ready
    assert "accept_lost_tail" in report.faults[0]


def test_workers_that_nobody_adopts_are_ended_after_their_lease():
    world = World(plan(shards=1))
    world.LEASE_S = 1e9  # they hang, and do not end by themselves
    world.until(world.even)
    [idle] = [leader for leader in world.living() if not leader.shards]
    lost = set(idle.workers)
    world.kill(idle.name)
    assert world.until(lambda: not lost & world.workers.keys()) > 30.0
    assert {entry.subject for entry in world.audits if entry.action == "reap"} == lost
    world.until(lambda: not world.machine.state.orphans)


def test_news_of_a_former_incarnation_is_refused(world):
    serial = world.machine.state.leaders[A].serial
    assert not world.machine.step(Lost(A, serial - 1, "late", dead=True), world.now)
    assert world.machine.state.leaders[A].state is LeaderState.UP
    shard = world.machine.state.shards[0]
    answer = TakeAnswered(shard.owner, serial, 0, shard.epoch, "late", actual=99)
    world.tell(answer)
    assert shard.epoch == 1


def test_a_watch_that_breaks_condemns_and_ends_the_leader(world):
    world.leaders[A].ever_paused = True
    serial = world.machine.state.leaders[A].serial
    world.tell(Lost(A, serial, "AttributeError", dead=False))
    world.until(lambda: world.ended == [A])
    world.until(world.even)


def test_a_report_of_another_owner_at_a_higher_epoch_moves_the_belief(world):
    shard = next(s for s in world.machine.state.shards.values() if s.owner == A)
    world.leaders[B].shards[shard.number] = (shard.epoch + 1, "serving")
    world.journals[shard.number] = (shard.epoch + 1, world.leaders[B])
    world.until(lambda: shard.owner == B)
    assert shard.epoch == 2


def test_an_impossible_step_tells_its_story(world):
    state = world.machine.state
    with pytest.raises(ImpossibleStep, match=r"cannot go from up to making.*spoke"):
        state.become(state.leaders[A], LeaderState.MAKING, world.now, "test")
    with pytest.raises(ImpossibleStep, match="shard 0 cannot go"):
        state.seat(state.shards[0], SeatState.ORDERED, "", world.now, "test")


def test_check_sees_a_shard_with_a_leader_that_is_gone(world):
    world.machine.state.shards[0].owner = "leader/local/9"
    with pytest.raises(ImpossibleStep, match="unknown"):
        world.machine.check()


def test_a_machine_starts_by_asking_who_lives():
    machine = Coordinator(plan(leaders=1, shards=1), term=3)
    assert machine.begin() == [Survey()]
    assert not machine.step(Tick(), 0.0), "before it knows, it does nothing"
    [persist] = machine.step(Surveyed((), ()), 0.0)
    assert isinstance(persist, Persist)
    assert [type(act) for act in persist.then] == [Make]
    assert not machine.report("c", Owner("c", "", 0, 0, 0, "")).ready


def test_a_former_owner_that_repeats_itself_does_not_end_an_order(world):
    state = world.machine.state
    world.kill(A)
    world.until(lambda: any(s.state is SeatState.ORDERED for s in state.shards.values()))
    shard = next(s for s in state.shards.values() if s.state is SeatState.ORDERED)
    report = world.leaders[B].report()
    again = ShardInfo(shard.number, shard.epoch, "serving", 0)
    shard.answered = False
    reported = type(report)(
        **{f: getattr(report, f) for f in report.__slots__} | {"shards": (*report.shards, again)}
    )
    world.tell(Pulse(B, state.leaders[B].serial, reported))
    assert shard.state is SeatState.ORDERED


faults = st.lists(
    st.tuples(
        st.sampled_from(["kill", "pause", "resume", "coordinator", "kill_worker"]),
        st.integers(0, 2),
        st.floats(0.0, 4.0),
    ),
    max_size=12,
)


@settings(max_examples=30, phases=(Phase.reuse, Phase.generate, Phase.shrink))
@given(faults)
def test_whatever_happens_the_region_converges_when_it_stops(schedule):
    world = World(plan(leaders=3, shards=7, workers=2))
    world.until(world.even)
    for fault, index, wait in schedule:
        leader = world.leaders[f"leader/local/{index}"]
        if fault == "coordinator":
            world.new_coordinator()
        elif not leader.dead and fault == "kill_worker" and leader.workers:
            world.end_worker(next(iter(leader.workers)))
        elif not leader.dead and fault in ("kill", "pause", "resume"):
            getattr(world, fault)(leader.name)
        world.run(wait)
    for leader in world.living():
        if leader.paused:
            world.resume(leader.name)
    world.until(world.even, within=120.0)
    world.until(lambda: world.workers.keys() == world.owned_workers(), within=60.0)
    world.until(lambda: all(len(leader.workers) == 2 for leader in world.living()))
    world.until(lambda: not world.machine.state.orphans)
    assert world.even()
