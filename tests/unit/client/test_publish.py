"""Publishing: the same bytes until somebody has them, in order where keys ask for it (P11–P13)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.client.lanes import CALLS_MAX
from chimera.client.options import Kind
from chimera.client.parcels import Accepted, Parcel
from chimera.client.publish import Publisher
from chimera.client.session import Session
from chimera.errors import (
    ChimeraError,
    IdConflict,
    NotReady,
    OutcomeUnknown,
    Overloaded,
)
from chimera.frames import command
from tests.unit.client.fake import (
    DIES_AFTER,
    DIES_BEFORE,
    HELD,
    LOST,
    MUTE,
    FakeLeaders,
    HandEngine,
)

HEAD = Kind(command.Head(type="echo"))
OTHER = Kind(command.Head(type="slow"))


class World:
    """A publisher, its leaders, and a clock."""

    def __init__(self, **options):
        self.leaders = FakeLeaders(**options)
        self.engine = HandEngine()
        self.publisher = Publisher(self.engine, self.leaders, Session())

    def offer(self, *values, shard=None, bulk=False, **kw) -> Parcel:
        """One parcel with a task for each value."""
        made = parcel(self.engine, values, keys=["k"] * len(values) if shard is not None else None)
        for name, value in kw.items():
            setattr(made, name, value)
        if bulk:
            self.publisher.offer([made], shard, True)
        else:
            self.publisher.hand_in(made, shard)
        self.engine.run()
        return made

    def accepted(self, made: Parcel) -> Accepted:
        return made.promise.get(0.0)

    def fault(self, made: Parcel) -> BaseException | None:
        return made.promise.future().exception(0.0)

    def script(self, *faults, verb="append"):
        """The next calls meet these, the later ones nothing."""
        left = list(faults)
        self.leaders.fault = lambda asked, shard: left.pop(0) if left and asked == verb else None


def parcel(engine, values, kind=HEAD, keys=None, timeout_s=30.0) -> Parcel:
    payloads = [b"%d" % value for value in values]
    columns = command.Columns(keys=keys) if keys else None
    return Parcel(kind, payloads, columns, False, engine.now() + timeout_s)


@pytest.fixture
def world():
    return World()


def test_a_parcel_is_accepted_in_one_call(world):
    done = world.accepted(world.offer(1, 2, 3))
    assert (done.count, done.position, done.skipped) == (3, 0, ())
    assert len(world.leaders.appends()) == 1
    assert world.leaders.payloads(done.shard) == [1, 2, 3]


@pytest.mark.parametrize("fault", [DIES_BEFORE, DIES_AFTER, LOST, MUTE])
def test_what_nobody_answered_is_sent_again_as_the_same_bytes(world, fault):
    world.script(fault, fault)
    made = world.offer(1, 2, shard=0)
    world.engine.advance(10.0)
    done = world.accepted(made)
    assert len({call.args for call in world.leaders.appends()}) == 1
    assert len(world.leaders.appends()) == 3
    assert world.leaders.payloads(0) == [1, 2]
    assert done.position == 0


def test_a_moved_shard_is_found_and_sent_the_same_bytes(world):
    world.leaders.move(0, "leader/local/9")
    made = world.offer(7, shard=0)
    assert not made.promise.future().done()
    world.engine.advance(1.0)
    assert world.accepted(made).shard == 0
    first, second = world.leaders.appends()
    assert first.args == second.args
    assert world.leaders.payloads(0) == [7]


def test_a_shard_without_owner_is_waited_for(world):
    world.leaders.map.pop(0)
    world.leaders.move(0, None)
    made = world.offer(7, shard=0)
    world.engine.advance(5.0)
    assert not made.promise.future().done()
    world.leaders.move(0, "leader/local/1")
    world.engine.advance(1.0)
    assert world.accepted(made).shard == 0


def test_waits_between_tries_grow_and_have_a_cap(world):
    world.leaders.fault = lambda verb, shard: DIES_BEFORE
    made = world.offer(1, shard=0)
    world.engine.advance(29.0)
    tries = len(world.leaders.appends())
    assert 29 / 0.5 < tries < 150  # a fixed wait of 10 ms would be thousands
    assert not made.promise.future().done()


def test_past_the_deadline_an_unanswered_frame_is_unknown_and_names_its_ids(world):
    world.leaders.fault = lambda verb, shard: LOST
    made = world.offer(1, 2, shard=0)
    world.engine.advance(40.0)
    fault = world.fault(made)
    assert isinstance(fault, OutcomeUnknown)
    assert fault.details["ids"] == made.ids()
    assert len(made.ids()) == 2


def test_past_the_deadline_a_frame_that_was_always_refused_is_not_unknown(world):
    world.leaders.move(0, None)
    made = world.offer(1, shard=0)
    world.engine.advance(40.0)
    fault = world.fault(made)
    assert not isinstance(fault, OutcomeUnknown)
    assert fault.retryable


def test_a_refusal_for_good_is_told_at_once(world):
    made = world.offer(1, shard=0)
    place = world.accepted(made)
    world.publisher._session._next[0] = place.first  # the same ids again, for another payload
    again = world.offer(2, shard=0)
    assert isinstance(world.fault(again), IdConflict)
    assert isinstance(world.accepted(world.offer(3, shard=0)), Accepted)  # the lane goes on


def test_a_full_shard_refuses_who_does_not_wait():
    world = World(queue_bound=2)
    world.offer(1, 2, shard=0)
    made = world.offer(3, shard=0)
    assert isinstance(world.fault(made), Overloaded)
    assert world.leaders.payloads(0) == [1, 2]


def test_a_full_shard_is_tried_again_for_who_waits():
    world = World(queue_bound=2)
    world.offer(1, 2, shard=0)
    made = world.offer(3, shard=0, blocking=True)
    world.engine.advance(2.5)
    assert not made.promise.future().done()
    assert len(world.leaders.appends(0)) <= 4  # retry_after is one second
    world.leaders.succeed(0, 0, 2)
    world.engine.advance(2.0)
    assert world.accepted(made).position == 2


def test_who_waits_for_a_full_shard_waits_no_longer_than_he_said():
    world = World(queue_bound=1)
    world.offer(1, shard=0)
    made = world.offer(2, shard=0, blocking=True, until=world.engine.now() + 3)
    world.engine.advance(6.0)
    assert isinstance(world.fault(made), Overloaded)


def test_a_bulk_waits_as_long_as_the_shard_says_that_it_is_full():
    world = World(queue_bound=1)
    world.offer(1, shard=0)
    made = world.offer(2, shard=0, blocking=True, patience_s=3.0)
    world.engine.advance(60.0)
    assert not made.promise.future().done()
    world.leaders.succeed(0, 0, 1)
    world.engine.advance(3.0)
    assert world.accepted(made).position == 1


def test_full_after_an_unanswered_call_is_no_refusal():
    """The call that nobody answered may yet be run: `Overloaded` would be a lie."""
    world = World(queue_bound=1)
    world.script(LOST)
    made = world.offer(1, shard=0)
    world.offer(2, shard=1)
    world.leaders.queue_bound = 0
    world.engine.advance(20.0)
    assert not made.promise.future().done()
    world.engine.advance(20.0)
    assert isinstance(world.fault(made), OutcomeUnknown)


def test_a_shard_that_nobody_has_after_an_unanswered_call_is_no_refusal(world):
    world.script(MUTE)
    made = world.offer(1, shard=0)
    world.leaders.move(0, None)
    world.engine.advance(40.0)
    assert world.leaders.payloads(0) == [1]
    assert isinstance(world.fault(made), OutcomeUnknown)


def test_one_call_of_keyed_frames_is_in_flight_a_shard(world):
    world.script(HELD)
    first = world.offer(1, shard=0)
    others = [world.offer(value, shard=0) for value in range(2, 8)]
    elsewhere = world.offer(9, shard=1)
    assert len(world.leaders.appends(0)) == 1
    assert world.accepted(elsewhere).shard == 1  # other shards are not held up
    world.leaders.release()
    world.engine.run()
    assert len(world.leaders.appends(0)) == 2
    assert [world.accepted(one).position for one in (first, *others)] == list(range(7))


def test_keyed_tasks_keep_their_order_across_heads(world):
    world.script(HELD)
    world.offer(0, shard=0)
    for value, kind in ((1, HEAD), (2, OTHER), (3, HEAD)):
        made = parcel(world.engine, [value], kind, ["k"])
        world.publisher.offer([made], 0, False)
    world.leaders.release()
    world.engine.run()
    assert world.leaders.payloads(0) == [0, 1, 2, 3]
    assert len(world.leaders.appends(0)[1].frames) == 3


def test_after_a_refused_keyed_frame_nothing_later_is_sent_before_it():
    world = World(queue_bound=2)
    waiting = world.offer(1, shard=0, blocking=True)
    world.script(HELD)
    late = [
        world.offer(value, shard=0, blocking=True, patience_s=5.0, kind=kind)
        for value, kind in ((2, HEAD), (3, OTHER), (4, HEAD))
    ]
    world.leaders.release()
    world.engine.advance(20.0)  # the queue holds two: 3 is refused, 4 waits for it
    assert world.leaders.payloads(0) == [1, 2]
    world.leaders.succeed(0, 0, 2)
    world.engine.advance(5.0)
    assert world.leaders.payloads(0) == [1, 2, 3, 4]
    assert [world.accepted(one).position for one in (waiting, *late)] == [0, 1, 2, 3]


def test_frames_of_different_heads_share_a_call(world):
    world.script(HELD)
    world.offer(0)
    for value in range(6):
        made = parcel(world.engine, [value], HEAD if value % 2 else OTHER)
        world.publisher.hand_in(made, None)
    world.leaders.release()
    world.engine.run()
    assert sorted(header.count for header in world.leaders.appends()[1].frames) == [3, 3]


def test_bulk_calls_are_four_in_flight_and_go_to_leaders_in_turn(world):
    world.leaders.fault = lambda verb, shard: HELD
    made = [parcel(world.engine, range(1000)) for _ in range(60)]
    world.publisher.offer(made, None, True)
    calls = world.leaders.appends()
    assert len(calls) == CALLS_MAX
    assert all(len(call.frames) == 8 for call in calls)
    leaders = [world.leaders.map[call.shard] for call in calls]
    assert all(a != b for a, b in itertools.pairwise(leaders))
    while not all(one.promise.future().done() for one in made):
        world.leaders.release()
        world.engine.run()
    assert sum(len(world.leaders.payloads(shard)) for shard in range(4)) == 60_000


def test_a_dead_leader_holds_up_its_shards_only(world):
    dead = world.leaders.map[0]
    world.leaders.fault = lambda verb, shard: (
        DIES_BEFORE if world.leaders.map.get(shard) == dead else None
    )
    made = [parcel(world.engine, range(1000)) for _ in range(200)]
    for start in range(0, 200, 8):
        world.publisher.offer(made[start : start + 8], None, True)
    world.engine.advance(5.0)
    done = [one for one in made if one.promise.future().done()]
    assert len(done) >= 200 - 12 * 8
    assert {world.leaders.map[world.accepted(one).shard] for one in done} == {"leader/local/1"}


def test_when_the_engine_ends_everybody_is_told(world):
    world.leaders.fault = lambda verb, shard: LOST
    sent, queued = world.offer(1), world.offer(2)
    world.publisher.end(ChimeraError("closed"))
    assert isinstance(world.fault(sent), OutcomeUnknown)
    assert "closed" in str(world.fault(queued))
    assert "closed" in str(world.fault(world.offer(3)))


def test_what_was_never_sent_in_time_is_not_unknown(world):
    world.leaders.fault = lambda verb, shard: LOST
    world.offer(1, shard=0, until=world.engine.now() + 60)
    queued = world.offer(2, shard=0)
    world.engine.advance(31.0)
    assert isinstance(world.fault(queued), NotReady)


FAULTS = st.sampled_from([None, None, DIES_BEFORE, DIES_AFTER, LOST, MUTE])


@given(faults=st.lists(FAULTS, max_size=25), sizes=st.lists(st.integers(1, 4), max_size=12))
def test_whatever_happens_keyed_tasks_are_accepted_once_and_in_order(faults, sizes):
    world = World()
    world.script(*faults)
    value = 0
    made = []
    for size in sizes:
        made.append(world.offer(*range(value, value + size), shard=0, until=1e9))
        value += size
        world.engine.advance(0.02)
    world.engine.advance(200.0)
    assert world.leaders.payloads(0) == list(range(value))
    at = 0
    for one in made:
        assert world.accepted(one).position == at
        at += len(one.payloads)
