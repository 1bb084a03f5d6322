"""A batch while threads meet in it: each task is on one side, and what is handed in is whole."""

from __future__ import annotations

from collections import deque

import pytest

from chimera.actors.batch import Batch, Shared
from chimera.actors.board import BoardWriter
from chimera.frames import command, outcome
from chimera.frames.outcome import Failure
from tests.unit.actors.kit import Owner, item, outcomes_of


@pytest.fixture
def batch():
    one = item("echo", list(range(6)), position=100)
    shared = Shared(BoardWriter(""), Owner(), set(), {}, set())
    made = Batch(one, command.verify(one.frame), 0, shared)
    made.open()
    return made


class Meeting(deque):
    """The loop that runs tasks takes its next one just before each thing that is done here."""

    def __init__(self, payloads, steps):
        super().__init__(payloads)
        self.steps = steps
        self.begun = 0
        self.over = False

    def _step(self):
        for _ in range(self.steps):
            if not self.over:
                self.over = self.popleft() is None
                self.begun += not self.over

    def appendleft(self, one):
        self._step()
        super().appendleft(one)

    def copy(self):
        self._step()
        return deque(self)


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4, 6, 8])
def test_a_task_begins_or_is_taken_back_wherever_the_loop_is_just_then(batch, steps):
    batch.pending = meeting = Meeting(batch.pending, steps)
    returned = batch.stop()
    while not meeting.over:
        meeting.steps = 1
        meeting._step()
    assert meeting.begun + sum(count for _, _, count in returned) == 6
    assert [first for _, first, _ in returned] == ([100 + meeting.begun] if returned else [])
    assert batch.stop() == []


class Eager(list):
    """Collecting comes right after each end of a task."""

    def __init__(self, bodies, batch):
        super().__init__(bodies)
        self.batch = batch
        self.frames = []

    def __setitem__(self, at, body):
        super().__setitem__(at, body)
        if isinstance(at, int):
            self.frames += self.batch.hand_in()


def test_what_is_handed_in_is_whole(batch):
    batch.bodies = eager = Eager(batch.bodies, batch)
    failure = outcome.encode_failure(Failure("x.Error"))
    batch.end(1, outcome.ATTEMPT_FAILED, failure)
    batch.end(0, outcome.EXPIRED, failure)
    batch.bodies[5] = b"5"
    states = {position: one.state for (_, position), one in outcomes_of(eager.frames).items()}
    assert states == {101: "attempt failed", 100: "expired", 105: "succeeded"}
    assert batch.hand_in() == []
    for index in (2, 3, 4):
        batch.bodies[index] = b"9"
    assert len(outcomes_of(eager.frames)) == 6


def test_tasks_in_hand_are_those_that_began_and_have_not_ended(batch):
    assert batch.in_hand() == []
    batch.pending.popleft()
    batch.pending.popleft()
    batch.bodies[0] = b"0"
    assert batch.in_hand() == [101]
    assert len(batch.hand_in()) == 1
    assert batch.in_hand() == [101]


def test_tasks_side_by_side_begin_in_any_order(batch):
    assert len(batch.spread()) == 6
    assert batch.claim(4)
    assert batch.claim(1)
    assert batch.stop() == [(0, 100, 1), (0, 102, 2), (0, 105, 1)]
    assert not batch.claim(0)
    assert batch.in_hand() == [101, 104]


def test_what_was_stopped_before_it_was_spread_begins_nothing(batch):
    assert batch.stop() == [(0, 100, 6)]
    batch.spread()
    assert not any(batch.claim(index) for index in range(6))
    assert batch.hand_in() == []
