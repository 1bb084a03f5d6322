"""Taking a shard over, handing it over, losing it: what the machine asks for, step by step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chimera.frames import outcome
from chimera.frames.outcome import Failure
from chimera.swarm.facts import Scheduled
from chimera.swarm.leader import LeaderMachine, effects, events
from chimera.swarm.leader.events import Arrived, Instant, NewFrame
from chimera.swarm.policy import TaskPolicy
from chimera.swarm.sketch import quantiles

NOW = Instant(100.0, 100_000)


def machine() -> LeaderMachine:
    made = LeaderMachine("leader/r/1", "mine", workers=1, ring=1, checked=True)
    (spawn,) = made.step(events.Tick({}), NOW)
    assert isinstance(spawn, effects.Spawn)
    made.step(events.WorkerReady(spawn.worker, (TaskPolicy(type="t"),)), NOW)
    made.state.type("t").learn(1000, 1000)
    return made


def taken(
    frames: tuple[NewFrame, ...] = (), former: tuple[str, ...] = (), **more: Any
) -> events.Taken:
    given = {
        "holding": (),
        "cancelling": (),
        "open_tasks": sum(f.count for f in frames),
        "next_due": None,
        **more,
    }
    return events.Taken(0, 5, frames, former_workers=former, **given)


def frame(position: int, count: int, keys: list[str | None] | None = None) -> NewFrame:
    ranges = ((position, position + count),)
    return NewFrame(position, count, count * 80, "t", "default", 1, ranges, keys)


def succeeded(position: int, count: int, serial: int = 1) -> Arrived:
    return Arrived(serial, outcome.pack(0, 4, position, b"\1" * count, [b"1"] * count))


def sent(found: list[effects.Effect]) -> list[tuple[int, int]]:
    return [(i.first, i.stop) for e in found if isinstance(e, effects.Send) for i in e.items]


def test_without_former_workers_open_tasks_are_dispatched_at_once() -> None:
    assert sent(machine().step(taken((frame(0, 10),)), NOW)) == [(0, 10)]


def test_nothing_is_dispatched_before_every_former_worker_was_asked() -> None:
    leader = machine()
    asked = leader.step(taken((frame(0, 10),), ("a", "b")), NOW)
    assert [e.worker for e in asked if isinstance(e, effects.PollHeld)] == ["a", "b"]
    assert sent(asked) == []
    assert sent(leader.step(events.Held("a", 0), NOW)) == []
    assert sent(leader.step(events.Held("b", 0), NOW)) == [(0, 10)]


def test_finished_work_is_recorded_and_not_run_again() -> None:
    leader = machine()
    leader.step(taken((frame(0, 10),), ("a",)), NOW)
    found = leader.step(events.Held("a", 0, (succeeded(2, 5),)), NOW)
    assert sent(found) == [(0, 2), (7, 10)]
    (record,) = [e for e in found if isinstance(e, effects.Record)]
    assert outcome.header(record.settlement.frames[0]).position == 2
    done = leader.step(events.Recorded(0, record.token, 5), NOW)
    told = done + leader.step(events.Tick({}), NOW)
    assert effects.TellRecorded("a", (1,)) in told


def test_what_runs_elsewhere_is_waited_for_and_run_again_if_its_worker_dies() -> None:
    leader = machine()
    leader.step(taken((frame(0, 10),), ("a",)), NOW)
    assert sent(leader.step(events.Held("a", 0, (), ((3, 1),)), NOW)) == [(0, 3), (4, 10)]
    later = Instant(101.0, 101_000)
    polls = leader.step(events.Tick({}), later)
    assert effects.PollHeld("a", 0, 5) in polls
    finished = leader.step(events.Held("a", 0, (succeeded(3, 1),)), later)
    assert any(isinstance(e, effects.Record) for e in finished)
    assert leader.state.shards[0].away == {}

    leader = machine()
    leader.step(taken((frame(0, 1),), ("a",)), NOW)
    leader.step(events.Held("a", 0, (), ((0, 1),)), NOW)
    assert sent(leader.step(events.WorkerLost("a", None), NOW)) == [(0, 1)]


def test_unkeyed_work_goes_on_past_a_silent_worker_and_keyed_work_waits_for_it() -> None:
    leader = machine()
    leader.step(taken((frame(0, 2), frame(2, 2, ["k", "k"])), ("a",)), NOW)
    assert sent(leader.step(events.Held("a", 0, silent=True), NOW)) == [(0, 2)]
    assert sent(leader.step(events.WorkerLost("a", None), NOW)) == [(2, 4)]


def test_a_retry_found_parked_keeps_its_place_in_its_keys_order() -> None:
    leader = machine()
    parked = Scheduled(1, 200_000, 2, True, "k", "t", "default", 1)
    frames = (
        NewFrame(0, 3, 240, "t", "default", 1, ((0, 1), (2, 3)), ["k", "k", "k"]),
        frame(3, 1, ["other"]),
    )
    found = leader.step(taken(frames, holding=(parked,)), NOW)
    assert sorted(sent(found)) == [(0, 1), (3, 4)], "what is before the retry goes, and other keys"


def failed(position: int, attempt: int = 1, serial: int = 1) -> Arrived:
    body = outcome.encode_failure(Failure("E", "no"))
    states = bytes([outcome.ATTEMPT_FAILED])
    return Arrived(serial, outcome.pack(0, 4, position, states, [body], attempt=attempt))


def recorded(found: list[effects.Effect]) -> list[effects.Record]:
    return [effect for effect in found if isinstance(effect, effects.Record)]


def due(position: int, attempt: int, key: str = "k") -> NewFrame:
    ranges = ((position, position + 1),)
    return NewFrame(
        position, 1, 80, "t", "default", 1, ranges, [key], None, None, attempt, True, True
    )


def test_a_failed_attempt_that_a_former_worker_tells_of_keeps_its_place_in_its_keys_order() -> None:
    leader = machine()
    leader.step(taken((frame(0, 3, ["k", "k", "other"]),), ("a",)), NOW)
    found = leader.step(events.Held("a", 0, (failed(0),)), NOW)
    assert sent(found) == [(2, 3)]
    (record,) = recorded(found)
    assert [(park.position, park.attempt) for park in record.settlement.parks] == [(0, 2)]
    assert sent(leader.step(events.Recorded(0, record.token, 0), NOW)) == []
    again = leader.step(events.Due(0, (due(0, 2),), None), NOW)
    assert sent(again) == [(0, 1)], "the retry goes before those behind it"


def test_a_retry_that_a_former_worker_runs_is_not_run_beside_it() -> None:
    leader = machine()
    parked = Scheduled(0, 1, 2, True, "k", "t", "default", 1)
    leader.step(taken((frame(1, 1, ["k"]),), ("a",), holding=(parked,), next_due=1), NOW)
    found = leader.step(events.Held("a", 0, (), ((0, 1),), parked=(due(0, 2),)), NOW)
    found += leader.step(events.Due(0, (due(0, 2),), None), NOW)
    assert sent(found) == []
    ended = leader.step(events.Held("a", 0, (succeeded(0, 1),), parked=(due(0, 2),)), NOW)
    (record,) = recorded(ended)
    assert sent(ended) == []
    assert sent(leader.step(events.Recorded(0, record.token, 1), NOW)) == [(1, 2)]


def test_what_an_earlier_attempt_came_to_says_nothing_of_the_one_that_is_due() -> None:
    leader = machine()
    parked = Scheduled(0, 1, 3, True, "k", "t", "default", 1)
    leader.step(taken((), ("a",), holding=(parked,), next_due=1, open_tasks=1), NOW)
    found = leader.step(events.Held("a", 0, (failed(0, attempt=1),), parked=(due(0, 3),)), NOW)
    assert [r.settlement.parks for r in recorded(found)] == [()]
    assert sent(leader.step(events.Due(0, (due(0, 3),), None), NOW)) == [(0, 1)]


def test_policies_are_known_before_a_failed_attempt_is_judged() -> None:
    leader = LeaderMachine("leader/r/1", "mine", workers=0, ring=1, checked=True)
    leader.step(taken((frame(0, 1),), ("a",)), NOW)
    once = TaskPolicy(type="t", max_attempts=1)
    found = leader.step(events.Held("a", 0, (failed(0),), policies=(once,)), NOW)
    (record,) = recorded(found)
    assert [single.state for single in record.settlement.singles] == [outcome.FAILED]


def test_keyed_work_that_a_silent_worker_had_finished_is_not_run_again() -> None:
    leader = machine()
    leader.step(taken((frame(0, 3, ["k", "k", "k"]),), ("a",)), NOW)
    leader.step(events.Held("a", 0, silent=True), NOW)
    found = leader.step(events.Held("a", 0, (succeeded(0, 2),)), NOW)
    (record,) = recorded(found)
    assert sent(found) == []
    assert sent(leader.step(events.Recorded(0, record.token, 2), NOW)) == [(2, 3)]


def test_a_task_that_is_cancelled_while_it_runs_elsewhere_ends_with_its_attempt() -> None:
    leader = machine()
    found = leader.step(taken((), ("a",), cancelling=(4,), open_tasks=1), NOW)
    found += leader.step(events.Held("a", 0, (), ((4, 1),)), NOW)
    assert effects.TellCancelled("a", 0, 4) in found
    assert recorded(found) == []
    (record,) = recorded(leader.step(events.Held("a", 0), NOW))
    assert [(s.position, s.state) for s in record.settlement.singles] == [(4, outcome.CANCELLED)]


def test_a_task_that_is_cancelled_before_its_shard_is_served_ends_when_it_is() -> None:
    leader = machine()
    leader.step(taken((frame(0, 2),), ("a",)), NOW)
    assert leader.step(events.CancelAsked(0, 1), NOW) == []
    found = leader.step(events.Held("a", 0), NOW)
    assert sent(found) == [(0, 1)]
    (record,) = recorded(found)
    assert [s.position for s in record.settlement.singles] == [1]


def test_what_a_frame_says_of_its_tasks_outlives_news_of_their_policy() -> None:
    leader = LeaderMachine("leader/r/1", "mine", workers=1, ring=1, checked=True)
    (spawn,) = leader.step(events.Tick({}), NOW)
    assert isinstance(spawn, effects.Spawn)
    said = replace(frame(0, 1), options={"max_attempts": 1})
    leader.step(taken((said,)), NOW)
    policies = (TaskPolicy(type="t", max_attempts=9, attempt_timeout_s=7.0),)
    (send,) = leader.step(events.WorkerReady(spawn.worker, policies), NOW)
    assert isinstance(send, effects.Send)
    (piece,) = leader.state.workers[spawn.worker].flights[send.flight].pieces
    assert (piece.policy.max_attempts, piece.policy.attempt_timeout_s) == (1, 7.0)


def test_an_intent_to_cancel_found_in_the_journal_is_carried_out() -> None:
    leader = machine()
    found = leader.step(taken((), cancelling=(4,), open_tasks=1), NOW)
    (record,) = [e for e in found if isinstance(e, effects.Record)]
    assert [(s.position, s.state) for s in record.settlement.singles] == [(4, outcome.CANCELLED)]


def test_a_parked_task_that_a_new_owner_cancels_is_not_loaded_before_that_is_recorded() -> None:
    """Found in seed 27: it stayed at the head of its key's queue, and its leader sent for ever."""
    leader = machine()
    found = leader.step(taken((), cancelling=(4,), open_tasks=2), NOW)
    (record,) = recorded(found)
    parked = replace(frame(4, 1, ["k"]), from_schedule=True)
    assert sent(leader.step(events.Due(0, (parked,), None), NOW)) == []
    assert sent(leader.step(events.Recorded(0, record.token, 1), NOW)) == []
    follower = replace(frame(5, 1, ["k"]), from_schedule=True)
    assert sent(leader.step(events.Due(0, (follower,), None), NOW)) == [(5, 6)]


def test_a_shard_that_is_lost_is_not_written_to_any_more() -> None:
    leader = machine()
    (send,) = [e for e in leader.step(taken((frame(0, 10),)), NOW) if isinstance(e, effects.Send)]
    leader.step(events.ShardLost(0), NOW)
    reply = events.Replied(send.worker, send.flight, (succeeded(0, 10),), ())
    assert not [e for e in leader.step(reply, NOW) if isinstance(e, effects.Record)]
    assert leader.state.counters["fenced"] == 1


def test_a_released_shard_is_closed_once_its_settlements_are_durable() -> None:
    leader = machine()
    (send,) = [e for e in leader.step(taken((frame(0, 10),)), NOW) if isinstance(e, effects.Send)]
    reply = events.Replied(send.worker, send.flight, (succeeded(0, 10),), ())
    (record,) = [e for e in leader.step(reply, NOW) if isinstance(e, effects.Record)]
    assert leader.step(events.ReleaseAsked(0), NOW) == []
    assert leader.step(events.Recorded(0, record.token, 10), NOW) == [effects.CloseShard(0)]
    assert leader.state.shards == {}


def test_a_shard_for_another_region_is_closed_when_what_runs_of_it_is_recorded() -> None:
    leader = machine()
    leader.state.type("t").cost_s = 1.0  # one task a flight
    first = leader.step(taken((frame(0, 10), frame(10, 10))), NOW)
    (send,) = [e for e in first if isinstance(e, effects.Send)]
    assert not leader.step(events.ReleaseAsked(0, finish=True), NOW)
    assert not leader.step(events.Tick({}), NOW)
    count = sum(item.stop - item.first for item in send.items)
    replied = events.Replied(send.worker, send.flight, (succeeded(0, count),), ())
    (record,) = leader.step(replied, NOW)
    assert isinstance(record, effects.Record)  # and nothing more of it is started
    assert not [e for e in leader.step(events.Tick({}), NOW) if isinstance(e, effects.CloseShard)]
    leader.step(events.Recorded(0, record.token, count), NOW)
    assert effects.CloseShard(0) in leader.step(events.Tick({}), NOW)


def test_a_takeover_is_measured_from_its_order_until_the_shard_is_served() -> None:
    leader = machine()
    leader.step(taken((frame(0, 1),), ("a",), took_s=0.25), NOW)
    assert quantiles([leader.state.takeover.to_bytes()], [0.5]) is None
    leader.step(events.Held("a", 0), Instant(100.5, 100_500))
    (seconds,) = quantiles([leader.state.takeover.to_bytes()], [0.5]) or (0.0,)
    assert seconds == pytest.approx(0.75, rel=0.02)


def test_the_oldest_task_waits_since_it_came_or_since_its_shard_was_taken() -> None:
    leader = machine()
    assert leader.state.slots()["idle"] == 1
    leader.step(taken(), NOW)
    leader.step(events.Tick({}), Instant(101.0, 101_000))
    assert leader.state.oldest is None
    leader.step(events.Appended(0, (frame(0, 30_000),), 30_000, None), Instant(102.0, 102_000))
    leader.step(events.Appended(0, (frame(30_000, 1),), 1, None), Instant(103.0, 103_000))
    leader.step(events.Tick({}), Instant(104.0, 104_000))
    assert leader.state.oldest == 102.0
    assert leader.state.slots()["busy"] == 1
    assert 0 < leader.state.counters["started/t"] == leader.state.counters["started"] < 30_000
    inherited = machine()
    inherited.step(taken((frame(0, 30_000),)), NOW)
    inherited.step(events.Tick({}), Instant(104.0, 104_000))
    assert inherited.state.oldest == NOW.mono
