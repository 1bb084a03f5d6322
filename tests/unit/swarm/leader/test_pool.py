"""As many workers as the settings say, step by step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chimera.swarm.leader import LeaderMachine, effects, events
from chimera.swarm.leader.events import Board, Instant, NewFrame, Replied
from chimera.swarm.leader.staff import BUSY_SURPLUS_S, SURPLUS_S
from chimera.swarm.leader.state import BEGIN_S
from chimera.swarm.policy import TaskPolicy
from chimera.swarm.reports import LeaderConfig

POLICY = TaskPolicy(type="t")


class Pool:
    """A leader of one worker, with the workers that it has adopted."""

    def __init__(self, *adopted: str) -> None:
        self.now = 100.0
        self.leader = LeaderMachine("leader/r/0", "own", workers=1, ring=1, checked=True)
        self.retired: list[str] = []
        self.sent: list[effects.Send] = []
        self.killed: list[tuple[str, str]] = []
        (spawn,) = self.leader.step(events.Tick({}), self.instant())
        assert isinstance(spawn, effects.Spawn)
        self.own = spawn.worker
        self.spawned: list[str] = [self.own]
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
            elif isinstance(effect, effects.Kill):
                self.killed.append((effect.worker, effect.reason))
            elif isinstance(effect, effects.Spawn):
                self.spawned.append(effect.worker)

    def tick(self, seconds: float, **boards: events.Board) -> None:
        self.now += seconds
        self.step(events.Tick(boards))


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


# -- pauses, drains, new revisions ---------------------------------------------------------------


CONFIG = LeaderConfig(
    swarm="s", region="r", generation=1, data_dir="/d", fsync=False, handlers=("h",), workers=1,
    worker_lease_s=30.0, queue_bound=1000, objects_url="file:///o", outcome_retention_s=60.0,
    idempotency_retention_s=60.0, resend_window_s=60.0, accept_lost_tail=False, shards=1,
)  # fmt: skip


@pytest.mark.parametrize("paused", [{"paused_types": ("t",)}, {"paused_tenants": ("default",)}])
def test_nothing_of_what_is_paused_is_started_until_it_is_resumed(paused: dict[str, Any]) -> None:
    pool = Pool()
    pool.step(events.Configured(replace(CONFIG, **paused)))
    pool.step(events.Appended(0, (frame(),), 1000, None))
    pool.tick(0.1)
    assert not pool.sent
    pool.step(events.Configured(CONFIG))
    assert pool.sent


def test_a_drained_worker_finishes_and_goes_and_is_replaced() -> None:
    pool = Pool()
    pool.step(events.Appended(0, (frame(),), 1000, None))
    pool.step(events.Configured(replace(CONFIG, drained=(pool.own,))))
    (other,) = pool.spawned[1:]
    land_all(pool)
    pool.tick(0.1)
    assert pool.retired == [pool.own]
    pool.step(events.WorkerReady(other, (POLICY,)))
    assert {send.worker for send in pool.sent} == {other}


def test_a_worker_of_an_older_revision_goes_when_a_new_one_is_ready() -> None:
    pool = Pool("adopted")
    pool.step(events.Configured(replace(CONFIG, workers=2, revision="new")))
    (first,) = pool.spawned[1:]
    pool.tick(BUSY_SURPLUS_S + 1)
    assert not pool.retired
    assert pool.spawned[1:] == [first]  # one at a time
    pool.step(events.WorkerReady(first, (POLICY,), "new"))
    pool.tick(0.1)
    assert len(pool.retired) == 1
    pool.tick(0.1)
    second = pool.spawned[-1]
    pool.step(events.WorkerReady(second, (POLICY,), "new"))
    pool.tick(0.1)
    assert set(pool.retired) == {pool.own, "adopted"}
    pool.tick(1.0)
    assert len(pool.spawned) == 3


def test_a_revision_that_does_not_load_costs_no_worker_that_works() -> None:
    pool = Pool()
    pool.step(events.Configured(replace(CONFIG, revision="broken")))
    for _ in range(10):
        pool.step(events.WorkerFailed(pool.spawned[-1], "handler_load_error: no module"))
        pool.tick(11.0)
    assert not pool.retired
    pool.step(events.Appended(0, (frame(),), 1000, None))
    assert {send.worker for send in pool.sent} == {pool.own}


def test_a_type_that_only_new_workers_run_is_given_to_them() -> None:
    pool = Pool()
    pool.step(events.Configured(replace(CONFIG, revision="new")))
    news = TaskPolicy(type="news")
    pool.step(events.WorkerReady(pool.spawned[-1], (POLICY, news), "new"))
    pool.step(events.Appended(0, (replace(frame(), type="news"),), 1000, None))
    assert {send.worker for send in pool.sent} == {pool.spawned[-1]}


def test_a_pool_grows_with_what_waits_and_shrinks_when_it_is_done() -> None:
    pool = Pool()
    pool.step(events.Configured(replace(CONFIG, workers_max=3, shrink_after_s=5.0)))
    pool.step(events.Appended(0, (frame(),), 1000, None))  # 100 s of work, as far as is known
    for _ in range(40):
        pool.tick(0.1)
    assert len(pool.spawned) == 3
    for name in pool.spawned[1:]:
        pool.step(events.WorkerReady(name, (POLICY,)))
    pool.step(events.Configured(replace(CONFIG, workers_max=3, shrink_after_s=5.0,
                                        paused_types=("t",))))  # fmt: skip
    land_all(pool)
    for _ in range(200):
        pool.tick(0.1)
    assert len(pool.retired) == 2


def test_what_is_paused_makes_no_pool_grow() -> None:
    pool = Pool()
    pool.step(events.Configured(replace(CONFIG, workers_max=3, paused_types=("t",))))
    pool.step(events.Appended(0, (frame(),), 1000, None))
    for _ in range(40):
        pool.tick(0.1)
    assert len(pool.spawned) == 1


AT_NOTHING = Board(0, None, 0)


def test_a_worker_that_begins_nothing_of_what_it_was_sent_is_ended_once(busy: Pool) -> None:
    busy.tick(0.1, adopted=AT_NOTHING)
    busy.tick(BEGIN_S - 1, adopted=AT_NOTHING)
    assert not busy.killed
    busy.tick(2.0, adopted=AT_NOTHING)
    busy.tick(2.0, adopted=AT_NOTHING)
    assert busy.killed == [("adopted", "unresponsive")]


def test_a_worker_stays_that_begins_or_ends_something_or_has_nothing_to_do(busy: Pool) -> None:
    (send,) = [one for one in busy.sent if one.worker == "adopted"]
    busy.tick(BEGIN_S - 1, adopted=AT_NOTHING)
    busy.tick(0.1, adopted=Board(send.flight, 0, 0))
    busy.tick(BEGIN_S - 1, adopted=AT_NOTHING)
    land_all(busy)
    busy.tick(BEGIN_S - 1, adopted=AT_NOTHING)
    assert not busy.killed
    idle = Pool("adopted")
    idle.tick(0.1, adopted=AT_NOTHING)
    idle.tick(2 * BEGIN_S, adopted=AT_NOTHING)
    assert not idle.killed
