"""Single tasks: who waits for whom, and whom they wake."""

from __future__ import annotations

import pytest

from chimera.client import lanes
from chimera.client.lanes import CALLS_MAX, CROWD, GATHER_MAX_S, GATHER_S, PATIENCE_S, QUEUE_MAX
from chimera.client.publish import Publisher
from chimera.client.session import Session
from chimera.errors import ChimeraError, NotReady, Overloaded
from tests.unit.client.fake import HELD, LOST
from tests.unit.client.test_publish import World, parcel


@pytest.fixture
def world():
    return World()


def test_singles_that_come_while_a_call_is_in_flight_share_the_next_frame(world):
    world.script(HELD)
    first = world.offer(1)
    others = [world.offer(value) for value in range(2, 30)]
    assert len(world.leaders.appends()) == 1
    world.leaders.release()
    world.engine.run()
    assert len(world.leaders.appends()) == 2
    assert [header.count for header in world.leaders.appends()[1].frames] == [28]
    done = [world.accepted(one) for one in (first, *others)]
    assert len({(one.session, one.shard, one.first) for one in done}) == 29
    assert [one.position - others_at for others_at, one in enumerate(done[1:])] == [
        done[1].position
    ] * 28


def test_singles_do_not_wait_for_a_call_that_hangs(world):
    world.script(LOST)
    world.offer(1)
    second = world.offer(2)
    assert len(world.leaders.appends()) == 1
    world.engine.advance(2 * PATIENCE_S)
    assert world.accepted(second).count == 1


def test_a_single_that_waits_and_one_that_is_answered_go_together_next(world):
    world.script(HELD)
    answered, waiting = world.offer(1), world.offer(2)
    world.leaders.release()
    world.engine.run()
    assert world.accepted(answered)
    assert not waiting.promise.future().done()
    world.offer(3)
    assert [call.frames[0].count for call in world.leaders.appends()] == [1, 2]


def test_a_single_waits_a_moment_at_most_for_one_that_does_not_come_back(world):
    world.script(HELD)
    world.offer(1)
    waiting = world.offer(2)
    world.leaders.release()
    world.engine.advance(2 * GATHER_S)
    assert world.accepted(waiting).count == 1


def test_a_crowd_is_waited_for_as_long_as_its_call_took(world):
    world.script(HELD, HELD)
    world.offer(0)
    together = [world.offer(value) for value in range(1, CROWD)]
    world.leaders.release()
    world.engine.advance(GATHER_S)  # for the first one, who does not come back
    waiting = world.offer(CROWD)
    world.engine.advance(3 * GATHER_S)
    world.leaders.release()
    world.engine.run()
    assert all(world.accepted(one) for one in together)
    world.engine.advance(2 * GATHER_S)
    assert not waiting.promise.future().done()
    world.engine.advance(3 * GATHER_S)
    assert world.accepted(waiting).count == 1


def test_a_crowd_is_not_waited_for_after_a_call_that_took_long(world):
    world.script(HELD, HELD)
    world.offer(0)
    for value in range(1, CROWD):
        world.offer(value)
    world.leaders.release()
    world.engine.advance(GATHER_S)
    waiting = world.offer(CROWD)
    world.engine.advance(0.8 * PATIENCE_S)
    world.leaders.release()
    world.engine.advance(1.1 * GATHER_MAX_S)
    assert world.accepted(waiting).count == 1


def test_singles_that_can_only_wait_do_not_wake_the_engine(world):
    world.script(HELD)
    world.offer(0)
    woken = world.engine.woken
    waiting = [world.offer(value) for value in range(1, 9)]
    assert world.engine.woken == woken
    world.leaders.release()
    world.engine.run()
    assert [world.accepted(one).count for one in waiting] == [1] * 8


def test_the_last_single_that_is_waited_for_wakes_the_engine(world):
    world.script(HELD, HELD)
    for value in range(4):
        world.offer(value)
    world.leaders.release()  # 0; 1 to 3 go next
    world.engine.advance(GATHER_S)
    world.offer(4)
    world.leaders.release()
    world.engine.run()
    woken = world.engine.woken
    world.offer(5)
    world.offer(6)
    assert world.engine.woken == woken
    world.offer(7)
    assert world.engine.woken == woken + 1
    assert [call.frames[0].count for call in world.leaders.appends()] == [1, 3, 4]


def test_singles_that_nobody_asked_in_are_given_up_in_time(world):
    world.leaders.fault = lambda verb, shard: HELD
    for value in range(CALLS_MAX):
        world.offer(value)
        world.engine.advance(2 * PATIENCE_S)
    assert len(world.leaders.appends()) == CALLS_MAX
    late = world.offer(9, until=world.engine.now() + 1)
    world.engine.advance(1.0 + 2 * PATIENCE_S)
    assert isinstance(world.fault(late), NotReady)


def test_a_single_that_is_alone_waits_for_nobody(world):
    for value in range(3):
        assert world.accepted(world.offer(value)).count == 1
    assert len(world.leaders.appends()) == 3


def test_too_many_waiting_tasks_are_refused_here(world):
    world.leaders.fault = lambda verb, shard: HELD
    world.offer(0)
    for start in range(0, QUEUE_MAX, 1000):
        world.offer(*range(start, start + 1000))
    late = world.offer(1)
    world.engine.advance(PATIENCE_S)
    assert isinstance(world.fault(late), Overloaded)


def test_who_rings_in_vain_learns_of_it_as_do_those_before_him(world, monkeypatch):
    def ended(work):
        raise ChimeraError("closed")

    monkeypatch.setattr(world.engine, "do", ended)
    publisher = Publisher(world.engine, world.leaders, Session())
    publisher._door.quorum = 2
    before, made = parcel(world.engine, [1]), parcel(world.engine, [2])
    publisher.hand_in(before, None)
    with pytest.raises(ChimeraError, match="closed"):
        publisher.hand_in(made, None)
    assert "closed" in str(before.promise.future().exception(0.0))


def test_who_comes_while_it_is_said_how_many_are_wanted_is_looked_for(world, monkeypatch):
    world.script(HELD)
    world.offer(0)
    late = parcel(world.engine, [1])
    wanted = lanes.Lane.wanted

    def slow(lane, now):
        found = wanted(lane, now)
        if not lane.flights and late.placed is None:
            world.publisher.hand_in(late, None)
        return found

    monkeypatch.setattr(lanes.Lane, "wanted", slow)
    world.leaders.release()
    world.engine.run()
    assert world.accepted(late)


def test_a_call_that_hangs_is_waited_for_no_longer_whenever_it_began(world):
    world.script(HELD, HELD)
    world.offer(0)  # a look is due PATIENCE_S later
    world.engine.advance(0.2 * PATIENCE_S)
    world.leaders.release()
    world.engine.run()
    world.offer(1)
    world.engine.advance(0.9 * PATIENCE_S)
    waiting = world.offer(2)
    world.engine.advance(0.11 * PATIENCE_S)
    assert world.accepted(waiting)


def test_those_who_were_refused_are_not_waited_for():
    world = World(ring=1, queue_bound=1)
    world.script(HELD, HELD)
    world.offer(0)
    refused = [world.offer(value, blocking=True) for value in range(1, CROWD + 1)]
    world.leaders.release()
    world.engine.advance(0.5 * PATIENCE_S)  # they are on their way to a shard that is full
    world.offer(99)
    world.leaders.release()
    world.engine.run()
    assert not any(one.promise.future().done() for one in refused)
    assert [call.frames[0].count for call in world.leaders.appends()] == [1, CROWD, 1]


def test_work_that_is_left_when_the_engine_ends_does_not_close_the_door(world):
    world.script(HELD, LOST)
    world.offer(0)
    world.engine.advance(2 * PATIENCE_S)
    world.offer(1)
    world.leaders.release()
    world.publisher.end(ChimeraError("closed"))
    world.engine.run()
    assert "closed" in str(world.fault(world.offer(2)))


def test_nothing_is_sent_after_the_end(world):
    world.script(HELD)
    world.offer(0)
    queued = parcel(world.engine, [1])
    world.publisher.offer([queued], None, bulk=False)
    world.leaders.release()
    world.publisher.end(ChimeraError("closed"))
    world.engine.advance(PATIENCE_S)
    assert "closed" in str(world.fault(queued))
    assert len(world.leaders.appends()) == 1


def test_keyed_tasks_that_are_handed_in_together_stay_in_order(world):
    made = [parcel(world.engine, [value], keys=["k"]) for value in range(5)]
    for one in made:
        world.publisher.hand_in(one, 0)
    world.engine.run()
    assert world.leaders.payloads(0) == list(range(5))


def test_a_keyed_task_does_not_wait_for_those_without_a_key(world):
    world.leaders.fault = lambda verb, shard: None if shard == 1 else HELD
    while not world.leaders.appends() or world.leaders.appends()[-1].shard == 1:
        world.offer(0)
    assert world.accepted(world.offer(1, shard=1))


def test_keyed_tasks_at_the_door_are_told_of_the_end_too(world):
    made = parcel(world.engine, [1], keys=["k"])
    world.publisher.hand_in(made, 0)
    world.publisher.end(ChimeraError("closed"))
    assert "closed" in str(world.fault(made))


def test_nobody_waits_long_for_a_crowd():
    assert GATHER_S < GATHER_MAX_S <= PATIENCE_S / 5
