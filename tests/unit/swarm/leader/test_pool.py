"""As many workers as the settings say, step by step."""

from __future__ import annotations

import pytest

from chimera.swarm.leader import LeaderMachine, effects, events
from chimera.swarm.leader.events import Instant, NewFrame, Replied
from chimera.swarm.leader.workers import BUSY_SURPLUS_S, SURPLUS_S
from chimera.swarm.policy import TaskPolicy

POLICY = TaskPolicy(type="t")


class Pool:
    """A leader of one worker, with the workers that it has adopted."""

    def __init__(self, *adopted: str) -> None:
        self.now = 100.0
        self.leader = LeaderMachine("leader/r/0", "own", workers=1, ring=1, checked=True)
        self.retired: list[str] = []
        self.sent: list[effects.Send] = []
        (spawn,) = self.leader.step(events.Tick({}), self.instant())
        assert isinstance(spawn, effects.Spawn)
        self.own = spawn.worker
        self.step(events.Taken(0, 1, (), (), (), 0, None, ()))
        for name in (self.own, *adopted):
            self.step(events.WorkerReady(name, (POLICY,)))

    def instant(self) -> Instant:
        return Instant(self.now, int(self.now * 1000))

    def step(self, event: events.Event) -> None:
        for effect in self.leader.step(event, self.instant()):
            if isinstance(effect, effects.Send):
                self.sent.append(effect)
            elif isinstance(effect, effects.Retire):
                self.retired.append(effect.worker)

    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.step(events.Tick({}))


@pytest.fixture
def busy() -> Pool:
    """More work than the workers ever get done."""
    pool = Pool("adopted")
    pool.step(events.Appended(0, (frame(),), 1000, None))
    assert {send.worker for send in pool.sent} == {pool.own, "adopted"}
    return pool


def frame() -> NewFrame:
    return NewFrame(0, 1000, 80_000, "t", "default", 1, ((0, 1000),))


def land_all(pool: Pool) -> None:
    """Every flight ends; its tasks are given back, so that there is no end of work."""
    flown, pool.sent = pool.sent, []
    for send in flown:
        pool.step(Replied(send.worker, send.flight, (), ()))


def test_an_idle_worker_too_many_goes_soon() -> None:
    pool = Pool("adopted")
    pool.tick(SURPLUS_S / 2)
    assert not pool.retired
    pool.tick(SURPLUS_S)
    assert pool.retired == ["adopted"]


def test_a_busy_worker_too_many_stays_for_a_while_and_then_gets_no_more_work(busy: Pool) -> None:
    busy.tick(BUSY_SURPLUS_S / 2)
    land_all(busy)
    assert "adopted" in {send.worker for send in busy.sent}
    busy.tick(BUSY_SURPLUS_S)
    busy.tick(0.1)
    assert not busy.retired  # what it has in hand it may finish
    land_all(busy)
    assert {send.worker for send in busy.sent} == {busy.own}
    busy.tick(0.1)
    assert busy.retired == ["adopted"]


def test_a_worker_that_was_to_go_stays_when_another_one_dies(busy: Pool) -> None:
    busy.tick(BUSY_SURPLUS_S / 2)
    busy.tick(BUSY_SURPLUS_S)
    busy.step(events.WorkerLost(busy.own, None))
    busy.tick(0.1)
    land_all(busy)
    assert "adopted" in {send.worker for send in busy.sent}
    assert not busy.retired
