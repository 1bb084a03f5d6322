"""The coordinator's rarer news: refusals, breakages, late and odd reports, broken invariants."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chimera.errors import ImpossibleStep
from chimera.swarm.coordinator import Coordinator
from chimera.swarm.coordinator.effects import Attach, Configure, End, Release, Take
from chimera.swarm.coordinator.events import (
    ConfigureRefused,
    Looked,
    Lost,
    MakeFailed,
    Planned,
    Pulse,
    Reaped,
    ReleaseRefused,
    Surveyed,
    TakeAnswered,
    Tick,
)
from chimera.swarm.coordinator.state import LeaderState, Orphan, SeatState
from chimera.swarm.health import Scrutiny
from chimera.swarm.reports import ShardInfo
from tests.unit.swarm.region_fakes import FakeLeader
from tests.unit.swarm.region_world import World, plan

A, B = "leader/local/0", "leader/local/1"


@pytest.fixture
def world():
    """Two leaders, eight shards, everything served."""
    world = World(plan())
    world.until(world.even)
    return world


@pytest.fixture
def state(world):
    return world.machine.state


def serial(world, name):
    return world.machine.state.leaders[name].serial


def kinds(world, kind):
    return [act for act in world.acts if isinstance(act, kind)]


def all_heard(world):
    return world.machine.report("c", world.leaders[B].process).ready


def held_by(state, name):
    return next(shard for shard in state.shards.values() if shard.owner == name)


def test_a_refused_take_goes_elsewhere_and_waits_longer_each_time(world, state):
    world.kill(A)
    world.until(lambda: any(s.state is SeatState.ORDERED for s in state.shards.values()))
    shard = next(s for s in state.shards.values() if s.state is SeatState.ORDERED)
    refused = TakeAnswered(B, serial(world, B), shard.number, shard.epoch, "disk full")
    world.tell(refused)
    assert shard.state is SeatState.FREE
    assert shard.not_before > world.now
    assert shard.avoid == {B}
    assert "take_refused" in {entry.action for entry in world.audits}
    world.tell(refused)
    assert shard.tries == 1, "an answer counts once"
    world.until(world.even)
    assert not shard.avoid


@pytest.mark.parametrize(("by", "waits"), [("", True), (A, True), ("leader/far/0", False)])
def test_who_may_have_raised_an_epoch_is_heard_first_if_it_is_one_of_ours(
    world, state, by: str, waits: bool
):
    world.kill(A)
    world.until(lambda: any(s.state is SeatState.ORDERED for s in state.shards.values()))
    shard = next(s for s in state.shards.values() if s.state is SeatState.ORDERED)
    stale = TakeAnswered(B, serial(world, B), shard.number, shard.epoch, "stale", 9, by)
    world.tell(stale)
    assert shard.epoch == 9
    assert (shard.state is SeatState.FREE) == waits, "else it is ordered at once, by that epoch"


def test_a_refused_release_leaves_the_shard_where_it_is(world, state):
    world.tell(Planned(plan(leaders=3, generation=2)))
    world.until(lambda: any(s.state is SeatState.RELEASING for s in state.shards.values()))
    shard = next(s for s in state.shards.values() if s.state is SeatState.RELEASING)
    owner = shard.owner
    world.tell(ReleaseRefused(owner, serial(world, owner) - 1, shard.number, "late"))
    assert shard.state is SeatState.RELEASING
    world.tell(ReleaseRefused(owner, serial(world, owner), shard.number, "busy"))
    assert (shard.state, shard.owner) == (SeatState.HELD, owner)


def test_a_release_that_is_not_heard_is_said_again(world):
    world._release = lambda *_: None
    world.tell(Planned(plan(leaders=3, generation=2)))
    world.until(lambda: len(kinds(world, Release)) == 2)
    first, second = kinds(world, Release)
    assert first == second


def test_a_refused_configuration_is_sent_again(world):
    world._configure = lambda *_: None
    world.tell(Planned(plan(generation=2)))
    world.tell(ConfigureRefused(A, serial(world, A), "busy"))
    world.tell(ConfigureRefused("leader/local/9", 1, "unknown"))
    sent = len(kinds(world, Configure))
    world.until(lambda: any(act.leader == A for act in kinds(world, Configure)[sent:]))


def test_a_leader_that_does_not_follow_does_not_hold_up_the_others_for_ever(world):
    configure = world._configure
    world._configure = lambda leader, config: leader.name == A or configure(leader, config)
    world.tell(Planned(plan(generation=2)))
    assert world.until(lambda: world.leaders[B].config.generation == 2) > 5.0


def test_a_leader_that_is_made_but_cannot_be_watched_is_ended_and_made_again(world):
    world.MAKE_S = 1e9
    world.kill(A)
    world.until(lambda: world.machine.state.leaders[A].state is LeaderState.MAKING)
    del world.acts[:]
    world.tell(Lost(A, serial(world, A), "no method watch", dead=False))
    assert next(type(act) for act in world.acts if act.leader == A) is End
    assert "no method watch" in world.machine.state.leaders[A].fault


def test_a_name_that_is_taken_is_attached_to(world, state):
    world.kill(A)
    world.until(lambda: state.leaders[A].state is LeaderState.MAKING)
    first = serial(world, A)
    effects = world.machine.step(MakeFailed(A, first, "taken", taken=True), world.now)
    assert Attach(A, first + 1) in effects or any(isinstance(e, Attach) for e in effects)
    assert state.leaders[A].state is LeaderState.FOUND
    assert not world.machine.step(MakeFailed(A, first, "taken", taken=True), world.now)


def test_late_news_of_a_leader_is_refused(world, state):
    old = serial(world, A)
    report = world.leaders[A].report()
    world.kill(A)
    world.until(lambda: state.leaders[A].state is not LeaderState.UP)
    world.until(lambda: serial(world, A) != old)
    for event in (
        Pulse(A, old, report),
        Lost(A, old, "again", dead=True),
        Looked(A, old, here=True, state="T", cpu_ticks=0),
        Pulse("leader/local/9", 1, report),
        ReleaseRefused("leader/local/9", 1, 0, "unknown"),
        Reaped("worker/local/9/x", gone=False),
    ):
        before = state.leaders[A].state
        world.tell(event)
        assert state.leaders[A].state is before


def test_a_look_at_one_that_spoke_again_changes_nothing(world, state):
    world.tell(Looked(A, serial(world, A), here=True, state="T", cpu_ticks=0))
    assert state.leaders[A].state is LeaderState.UP


def test_a_shard_that_the_plan_has_elsewhere_is_let_go_after_what_runs_of_it(world, state):
    owner = state.shards[7].owner
    world.wanted = replace(world.wanted, generation=2, shards=tuple(range(7)))
    del world.acts[:]
    world.tell(Planned(world.wanted))
    (release,) = kinds(world, Release)
    assert (release.leader, release.shard, release.finish) == (owner, 7, True)
    world.until(lambda: 7 not in state.shards)
    assert not [act for act in kinds(world, Take) if act.order.shard == 7]
    world.run(10.0)
    assert 7 not in state.shards
    assert world.machine.report("c", world.leaders[A].process).ready


def test_what_a_new_incarnation_finds_of_another_region_is_let_go(world, state):
    report = world.leaders[A].report()
    foreign = ShardInfo(99, 1, "serving", 0)
    world.tell(Pulse(A, serial(world, A), replace(report, shards=(*report.shards, foreign))))
    assert [(act.leader, act.shard, act.finish) for act in kinds(world, Release)][-1:] == [
        (A, 99, True)
    ]


def test_a_leader_found_in_the_middle_of_a_take_goes_on_with_it():
    world = World(plan(shards=2))
    world.until(world.even)
    world.TAKE_S = 2.0
    world.kill(A)
    world.until(lambda: any(v[1] == "taking" for v in world.leaders[B].shards.values()))
    world.new_coordinator()
    del world.acts[:]
    world.until(world.all_served)
    assert not [act for act in kinds(world, Take) if act.leader == B]


def test_a_take_that_never_ends_is_given_to_another():
    world = World(plan(leaders=3, shards=3))
    world.until(world.even)
    stuck = world.leaders[B]
    taken = world._taken
    world._taken = lambda leader, order: leader is stuck or taken(leader, order)
    del world.acts[:]
    for name in (A, "leader/local/2"):
        world.kill(name)
    world.until(world.all_served, within=90.0)


def test_a_leader_that_drops_a_shard_while_it_takes_it_is_asked_no_more_for_now():
    world = World(plan(leaders=2, shards=2))
    world.until(world.even)
    stuck = world.leaders[B]
    taken = world._taken

    def drops(leader, order):
        if leader is stuck:
            leader.shards.pop(order.shard)
        else:
            taken(leader, order)

    world._taken = drops
    world.kill(A)
    world.until(world.all_served)


def test_a_condemned_leader_whose_watch_breaks_is_ended_at_once(world, state):
    world.pause(A)
    for shard in world.leaders[A].shards:
        world.journals[shard] = (world.journals[shard][0], None)
    world.until(lambda: state.leaders[A].state is LeaderState.CONDEMNED)
    world.tell(Lost(A, serial(world, A), "unreachable", dead=False))
    world.run(0.1)
    assert world.ended == [A]


def test_a_retiring_leader_that_hangs_is_ended(world):
    world._act_on_retire = None
    act = world._act

    def ignores(what, life):
        if type(what).__name__ != "Retire":
            act(what, life)

    world._act = ignores
    world.leaders[B].ever_paused = True
    world.wanted = plan(leaders=1, generation=2)
    world.tell(Planned(world.wanted))
    world.until(lambda: B not in world.machine.state.leaders)
    assert world.ended == [B]


def test_a_leader_that_the_plan_does_not_have_is_found_drained_and_retired():
    world = World(plan(leaders=1))
    stray = FakeLeader("leader/local/7", 7, plan().template)
    world.leaders[stray.name] = stray
    stray.shards = dict.fromkeys(range(4), (3, "serving"))
    world.journals = dict.fromkeys(range(4), (3, stray))
    world.until(world.even)
    assert stray.dead
    assert not world.ended


def test_a_leader_that_dies_while_nothing_of_it_is_planned_is_forgotten():
    world = World(plan(leaders=1))
    stray = FakeLeader("leader/local/7", 7, plan().template)
    world.leaders[stray.name] = stray
    world.until(lambda: stray.name in world.machine.state.leaders)
    world.kill(stray.name)
    world.until(world.even)
    assert stray.name not in world.machine.state.leaders


def test_a_worker_that_could_not_be_reaped_is_reaped_again(world, state):
    info = next(iter(world.leaders[A].workers.values()))
    stray = replace(info, name="worker/local/5/x")
    world.tell(Surveyed((A, B), (stray, info)))
    assert set(state.orphans) == {stray.name}, "one that its leader reports is none"
    state.orphans[stray.name].reap_at = world.now
    world._act = lambda act, life: None
    world.tell(Tick())
    again = state.orphans[stray.name].reap_at
    assert again > world.now
    world.tell(Reaped(stray.name, gone=False))
    assert stray.name in state.orphans
    world.tell(Reaped(stray.name, gone=True))
    assert not state.orphans


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda s: setattr(s.shards[0], "owner", ""), "shard 0 is held of ''"),
        (lambda s: setattr(held_by(s, A), "owner", "leader/local/9"), "which is unknown"),
        (lambda s: setattr(s.leaders[A], "state", LeaderState.MAKING), "which is making"),
        (lambda s: setattr(s.leaders[A], "report", None), "without a report"),
        (lambda s: setattr(s.leaders[A], "scrutiny", Scrutiny(0.0)), "its scrutiny is not"),
        (lambda s: s.audit("left", "behind"), "left behind"),
        (
            lambda s: [setattr(shard, "bound_for", A) for shard in s.shards.values()],
            "move at the same time",
        ),
        (
            lambda s: s.orphans.update(
                {w.name: Orphan(w, 0.0, 0.0) for w in s.leaders[A].report.workers}
            ),
            "have a leader and are orphans",
        ),
    ],
)
def test_check_names_what_is_broken(world, state, break_it, says):
    world.machine.check()
    break_it(state)
    with pytest.raises(ImpossibleStep, match=says):
        world.machine.check()


def test_a_report_while_a_leader_is_missing_leaves_its_last_words_out(world):
    world.MAKE_S = 1e9
    world.kill(A)
    world.until(lambda: world.all_served() and all_heard(world))
    report = world.machine.report("coordinator/local", world.leaders[B].process)
    assert [leader.leader for leader in report.leaders] == [B]
    assert report.failovers == 1


def test_a_machine_that_saved_nothing_starts_all_the_same():
    machine = Coordinator(plan(leaders=1, shards=1), 1)
    machine.check()
    nobody = FakeLeader("c", 1, plan().template).process
    assert machine.report("c", nobody).placement == {}


def test_a_leader_that_ray_could_not_make_is_a_fault(world, state):
    world.MAKE_S = 1e9
    world.kill(A)
    world.until(lambda: state.leaders[A].state is LeaderState.MAKING)
    world.tell(MakeFailed(A, serial(world, A), "no answer in 10 s", taken=False))
    assert state.leaders[A].fault == f"{A} cannot be made: no answer in 10 s"


def test_a_leader_that_starts_too_slowly_is_given_longer_the_next_time(world, state):
    world.MAKE_S = 50.0
    world.kill(A)
    world.until(lambda: state.leaders[A].state is LeaderState.MAKING)
    world.until(lambda: state.leaders[A].state is LeaderState.UP, within=200.0)
    assert [act.leader for act in kinds(world, End)] == [A], "the second try was long enough"
