"""The ready queue: classes first, tenants by weight, and nobody starved."""

from __future__ import annotations

from collections import Counter

import pytest

from chimera.swarm.leader.events import NewFrame
from chimera.swarm.leader.intake import pieces_of
from chimera.swarm.leader.ready import Piece, ReadyQueue, scoped
from chimera.swarm.leader.state import Shard, State
from chimera.swarm.policy import TaskPolicy


def piece(
    first: int, count: int, *, tenant: str = "a", type: str = "t", priority: int = 1
) -> Piece:
    policy = TaskPolicy(type=type, priority=priority)
    return Piece(0, first, first, first + count, 80, tenant, policy)


def take(queue: ReadyQueue, tasks: int, cost_s: float = 0.001) -> list[Piece]:
    left = tasks

    def room(_: Piece, __: float) -> int:
        return left

    out: list[Piece] = []
    for found in queue.pull(lambda p: p.count, lambda _: cost_s, room):
        out.append(found)
        left -= found.count
    return out


def test_more_urgent_classes_go_first() -> None:
    queue = ReadyQueue()
    for priority in (2, 1, 0):
        queue.push(piece(100 * priority, 5, priority=priority))
    assert next(iter(take(queue, 15))).policy.priority == 0
    assert queue.tasks == 0


def test_the_lowest_class_is_not_starved() -> None:
    queue = ReadyQueue()
    queue.push(piece(0, 10_000, priority=0))
    queue.push(piece(50_000, 10, priority=2))
    classes = [p.policy.priority for _ in range(20) for p in take(queue, 10)]
    assert 2 in classes


def test_tenants_share_by_weight() -> None:
    queue = ReadyQueue(weights={"big": 3, "small": 1})
    queue.push(piece(0, 100_000, tenant="big"))
    queue.push(piece(200_000, 100_000, tenant="small"))
    served: Counter[str] = Counter()
    for found in take(queue, 4000):
        served[found.tenant] += found.count
    assert 2.8 < served["big"] / served["small"] < 3.2


def test_a_newcomer_is_not_owed_the_past() -> None:
    queue = ReadyQueue()
    queue.push(piece(0, 100_000, tenant="old"))
    take(queue, 10_000)
    queue.push(piece(200_000, 100_000, tenant="new"))
    served: Counter[str] = Counter()
    for found in take(queue, 2000):
        served[found.tenant] += found.count
    assert 0.8 < served["old"] / served["new"] < 1.25


def test_a_blocked_type_does_not_hold_up_others() -> None:
    queue = ReadyQueue()
    queue.push(piece(0, 10, type="blocked"))
    queue.push(piece(100, 10, type="free"))
    found = list(
        queue.pull(
            lambda p: 0 if p.policy.type == "blocked" else p.count, lambda _: 0.001, lambda *_: 99
        )
    )
    assert {p.policy.type for p in found} == {"free"}
    assert queue.tasks == 10
    assert take(queue, 10), "it is still there for when it is free"


def test_a_range_is_taken_out_of_the_middle() -> None:
    queue = ReadyQueue()
    whole = piece(0, 100)
    queue.push(whole)
    ((cut, rests),) = queue.remove(0, 40, 60)
    assert cut is whole
    assert [(p.first, p.stop) for p in rests] == [(0, 40), (60, 100)]
    assert queue.tasks == 80
    assert sum(p.count for p in take(queue, 200)) == 80


def test_a_shard_is_dropped_whole() -> None:
    queue = ReadyQueue()
    queue.push(piece(0, 10))
    other = piece(0, 7)
    other.shard = 1
    queue.push(other)
    assert [p.shard for p in queue.drop_shard(0)] == [0]
    assert queue.tasks == 7
    assert {p.shard for p in take(queue, 10)} == {1}


@pytest.mark.parametrize("tenant", ["default", "acme"])
def test_a_key_of_many_waiting_frames_is_kept_once(tenant: str) -> None:
    state, shard = State("leader", "one", 1, 8), Shard(0, 1)

    def keys(position):
        mine = [b"customer".decode(), None]  # a text of its own
        frame = NewFrame(position, 2, 100, "t", tenant, 1, ((position, position + 2),), mine)
        return pieces_of(state, shard, frame)[0].keys

    first, second = keys(0), keys(2)
    assert first == second == [scoped(tenant, "customer"), None]
    assert first[0] is second[0]
