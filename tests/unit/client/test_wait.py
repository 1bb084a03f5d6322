"""Waiting for outcomes: frames, parts of frames and single rows, through a failover."""

from __future__ import annotations

import pytest

from chimera.client.options import Kind
from chimera.client.parcels import Parcel
from chimera.client.publish import Publisher
from chimera.client.session import Session
from chimera.client.wait import HOLD_S, SINGLE_POLLS, Waiter, Want, merged
from chimera.errors import ChimeraError, InvalidRequest, NotFound
from chimera.frames import command, outcome
from chimera.frames.ids import TaskKey
from chimera.swarm.facts import Settlement, Single
from tests.unit.client.fake import DIES_BEFORE, LOST, FakeLeaders, HandEngine

HEAD = Kind(command.Head(type="echo"))
FAILURE = outcome.encode_failure(outcome.Failure("builtins.ValueError", "no"))


class World:
    """A waiter, leaders with accepted tasks in shard 0, and a clock."""

    def __init__(self, tasks: int = 10) -> None:
        self.leaders = FakeLeaders()
        self.engine = HandEngine()
        publisher = Publisher(self.engine, self.leaders, Session())
        payloads = [b"%d" % value for value in range(tasks)]
        parcel = Parcel(HEAD, payloads, command.Columns(keys=["k"] * tasks), False, 1e9)
        publisher.offer([parcel], 0, False)
        self.engine.run()
        self.placed = parcel.placed
        self.waiter = Waiter(self.engine, self.leaders)
        self.heard: dict[int, tuple[int, bytes]] = {}
        self.failed: list[ChimeraError] = []

    def want(self, start: int = 0, stop: int = 10, bulk: bool = False) -> Want:
        key = TaskKey(self.placed.session, 0, self.placed.counter + start)

        def heard(piece):
            for index, told in piece.outcomes():
                assert start + index not in self.heard, "told twice"
                self.heard[start + index] = (told.state, told.body if not told.fault else b"!")

        want = Want(
            "default", key, start, stop - start, bulk, heard=heard, failed=self.failed.append
        )
        self.waiter.want([want])
        self.engine.run()
        return want

    def settle(self, *frames, singles=()):
        self.leaders.settle(0, Settlement(frames=frames, singles=singles))
        self.engine.run()


def frame(position, states, bodies=None) -> bytes:
    return outcome.pack(0, 1, position, bytes(states), bodies or [b"1"] * len(states))


@pytest.fixture
def world():
    return World()


def test_a_frame_that_covers_a_want_ends_it_in_one_answer(world):
    world.want(bulk=True)
    world.settle(frame(0, [1] * 10))
    assert world.heard == dict.fromkeys(range(10), (1, b"1"))
    assert not world.leaders.polls


def test_a_poll_waits_at_the_leader_not_here(world):
    world.want()
    assert len(world.leaders.polls) == 1
    world.leaders.expire_polls()
    world.engine.advance(1.0)
    assert len(world.leaders.polls) == 1  # asked again, for as long as somebody waits


def test_parts_of_frames_are_put_together(world):
    world.want(2, 9)
    world.settle(frame(0, [1, 1, 1, 0]))
    assert sorted(world.heard) == [2]
    world.settle(frame(3, [1, 0, 1]))
    assert sorted(world.heard) == [2, 3, 5]
    assert world.leaders.polls[-1].args[1] == [(4, 5), (6, 9)]  # only what is not known
    world.settle(frame(4, [2], [FAILURE]), frame(6, [1, 1, 1, 1]))
    assert sorted(world.heard) == [2, 3, 4, 5, 6, 7, 8]
    assert world.heard[4] == (outcome.FAILED, FAILURE)


def test_a_single_row_wins_over_the_frame_in_the_same_answer(world):
    world.want(0, 4, bulk=True)
    overlapping = frame(0, [1, 1, 1, 1])
    single = Single(2, outcome.CANCELLED, 1, FAILURE)
    call = world.leaders.polls[0]
    world.leaders._waiting.clear()
    call.promise.keep((_Reply((single,), True), overlapping, *(None,) * 7))
    world.engine.run()
    assert world.heard[2] == (outcome.CANCELLED, FAILURE)
    assert world.heard[1] == (1, b"1")


class _Reply:
    def __init__(self, singles, complete):
        self.singles, self.complete = singles, complete


def test_a_task_open_in_a_frame_comes_as_a_single_row_later(world):
    world.want(0, 3)
    world.settle(frame(0, [1, 0, 1]))
    assert sorted(world.heard) == [0, 2]
    world.settle(singles=(Single(1, outcome.FAILED, 5, FAILURE),))
    assert world.heard[1] == (outcome.FAILED, FAILURE)


@pytest.mark.parametrize("fault", [DIES_BEFORE, LOST])
def test_a_poll_that_nobody_answers_is_asked_again(world, fault):
    left = [fault, fault]
    world.leaders.fault = lambda verb, shard: left.pop() if left else None
    world.want()
    world.engine.advance(3 * (HOLD_S + 2))
    world.settle(frame(0, [1] * 10))
    assert len(world.heard) == 10


def test_a_wait_survives_the_move_of_its_shard(world):
    world.want()
    world.leaders.move(0, "leader/local/9")
    world.leaders.expire_polls()  # answered by a leader that is the owner no more
    world.engine.advance(1.0)
    world.settle(frame(0, [1] * 10))
    assert len(world.heard) == 10


def test_what_is_settled_but_not_sent_is_read_by_id(world):
    world.settle(frame(0, [1] * 4))
    world.want(0, 4)
    world.heard.clear()
    world.leaders._serve_wait = lambda call, least: call.promise.keep(
        (_Reply((), True), *(None,) * 8)
    )
    world.want(0, 4)
    world.engine.advance(5.0)
    assert world.heard == dict.fromkeys(range(4), (1, b"1"))
    assert [call.verb for call in world.leaders.calls].count("get") == 1


def test_what_is_no_more_is_told_so(world):
    world.leaders._serve_wait = lambda call, least: call.promise.keep(
        (_Reply((), True), *(None,) * 8)
    )
    world.leaders.journals[0].find = _not_found
    world.want(0, 2)
    world.engine.advance(5.0)
    assert world.heard == {0: (outcome.FAILED, b"!"), 1: (outcome.FAILED, b"!")}


def _not_found(*_):
    raise NotFound("swept")


def test_polls_of_single_tasks_are_few_and_take_in_all_who_wait(world):
    for index in range(10):
        world.want(index, index + 1)
    assert len(world.leaders.polls) == SINGLE_POLLS
    world.settle(frame(0, [1]))
    assert len(world.leaders.polls) == SINGLE_POLLS
    assert sum(stop - start for call in world.leaders.polls for start, stop in call.args[1]) == 9


def test_who_waits_no_more_is_asked_for_no_more(world):
    want = world.want(0, 5)
    other = world.want(5, 10)
    world.waiter.drop([want])
    world.leaders.expire_polls()
    world.engine.advance(1.0)
    assert [call.args[1] for call in world.leaders.polls] == [[(5, 10)]]
    world.waiter.drop([other])


def test_an_error_that_would_stay_is_told(world):
    world.leaders.fault = lambda verb, shard: InvalidRequest("such ranges there are not")
    world.want()
    assert isinstance(world.failed[0], InvalidRequest)
    world.engine.advance(10.0)
    assert len(world.leaders.calls) == 2  # the append, and one poll


def test_when_the_engine_ends_everybody_is_told(world):
    world.want()
    world.waiter.end(ChimeraError("closed"))
    world.want(0, 1)
    assert [str(fault) for fault in world.failed] == ["closed", "closed"]


def test_an_answer_without_news_is_no_reason_to_ask_at_once(world):
    """A frame in which the task is open touches its range each time that it is asked for."""
    world.settle(frame(0, [1, 0]))
    world.want(1, 2, bulk=True)
    empty = (_Reply((), False), frame(0, [1, 0]), *(None,) * 7)
    world.leaders._serve_wait = lambda call, least: call.promise.keep(empty)
    world.leaders.expire_polls()
    before = len(world.leaders.calls)
    world.engine.advance(1.0)
    assert len(world.leaders.calls) - before < 20


def test_ranges_are_merged():
    assert merged([(5, 6), (0, 2), (2, 4), (6, 9), (7, 8)]) == [(0, 4), (5, 9)]


def test_a_want_with_many_holes_asks_for_one_range():
    world = World(tasks=200)
    want = world.want(0, 200)
    world.settle(frame(0, [index % 2 for index in range(200)]))
    assert want.ranges() == [(0, 199)]
    world.settle(frame(0, [1 - index % 2 for index in range(200)]))
    world.engine.advance(1.0)
    assert sorted(world.heard) == list(range(200))
