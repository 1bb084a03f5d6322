"""What a new coordinator never heard of: workers of dead leaders whose names are in use (P6)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chimera import names
from chimera.swarm.coordinator import Coordinator, effects
from chimera.swarm.coordinator.events import Pulse, Surveyed, Tick
from chimera.swarm.reports import WorkerInfo
from tests.unit.swarm.region_fakes import FakeLeader, plan

A = "leader/local/0"
BRAND = "worker/local/0/bb"


def takes(found: list[effects.Effect]) -> list[effects.Take]:
    acts = [act for one in found if isinstance(one, effects.Persist) for act in one.then]
    return [act for act in acts if isinstance(act, effects.Take)]


def surveys(found: list[effects.Effect]) -> list[effects.Effect]:
    return [one for one in found if isinstance(one, effects.Survey)]


@pytest.fixture
def leader():
    """Of the second incarnation: it has nothing yet."""
    return FakeLeader(A, 1, plan(leaders=1).template)


def begun(leader: FakeLeader) -> tuple[Coordinator, list[effects.Effect]]:
    """A new coordinator that has found a leader; what its first report brings."""
    machine = Coordinator(plan(leaders=1, shards=2), 2)
    found = machine.step(Surveyed((A,), ()), 0.0)
    assert [one.leader for one in found if isinstance(one, effects.Attach)] == [A]
    return machine, spoke(machine, leader, 0.1)


def spoke(machine: Coordinator, leader: FakeLeader, now: float) -> list[effects.Effect]:
    serial = machine.state.leaders[A].serial
    return machine.step(Pulse(A, serial, replace(leader.report(), brand=BRAND)), now)


def test_workers_of_a_dead_leader_whose_name_is_in_use_are_asked(leader):
    machine, found = begun(leader)
    assert surveys(found) == [effects.Survey((A,), (BRAND,))]
    assert not takes(found), "nothing is given out before it is known who has something of it"
    former = WorkerInfo("worker/local/0/aa-7", leader.process, None)
    given = takes(machine.step(Surveyed((A,), (former,)), 0.2))
    assert [one.order.shard for one in given] == [0, 1]
    assert all(one.order.former_workers == (former,) for one in given)


def test_they_are_asked_for_once_and_not_for_ever(leader):
    machine, _ = begun(leader)
    before = 0.1 + 0.9 * machine.state.patience.asking_s
    assert not takes(spoke(machine, leader, before) + machine.step(Tick(), before))
    late = machine.step(Tick(), 0.2 + machine.state.patience.asking_s)
    assert takes(late), "nobody answers, and the shards are not to wait for ever"
    assert not surveys(late)


def test_where_every_shard_is_served_nobody_is_asked_for(leader):
    leader.shards = {0: (3, "serving"), 1: (3, "serving")}
    _, found = begun(leader)
    assert not surveys(found)


def test_a_worker_is_a_stray_by_the_leader_that_made_it():
    mine, other = f"{BRAND}-12", "worker/local/0/aa-7"
    assert names.is_stray(mine, (), (), (BRAND,)), "no leader has its leader's name"
    assert not names.is_stray(other, (A,), (), ())
    assert names.is_stray(other, (A,), (A,), (BRAND,))
    assert not names.is_stray(mine, (A,), (A,), (BRAND,))
