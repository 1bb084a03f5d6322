"""Attempts that former workers are at: cancelled, too long, or by a worker that says nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chimera.frames import outcome
from chimera.swarm.facts import Scheduled
from chimera.swarm.leader import LeaderMachine, effects, events
from chimera.swarm.leader.events import Instant, NewFrame
from chimera.swarm.policy import TaskPolicy
from tests.unit.swarm.leader.test_takeover import (
    NOW,
    due,
    frame,
    machine,
    recorded,
    sent,
    succeeded,
    taken,
)

#: the policy's `attempt_timeout_s` from then on, and a little more
LATE = Instant(162.0, 162_000)


def cancelled(position: int, key: str) -> NewFrame:
    """A frame whose only task is to be cancelled, as the journal tells of it."""
    return replace(frame(position, 1, [key]), ranges=())


def ends(found: list[effects.Effect]) -> list[tuple[int, int]]:
    return [(s.position, s.state) for one in recorded(found) for s in one.settlement.singles]


def kills(found: list[effects.Effect]) -> list[tuple[str, str]]:
    return [(one.worker, one.reason) for one in found if isinstance(one, effects.Kill)]


def abroad(*frames: NewFrame) -> LeaderMachine:
    """A leader that knows a former worker to run the task at 0."""
    leader = machine()
    leader.step(taken(frames, ("a",)), NOW)
    leader.step(events.Held("a", 0, (), ((0, 1),)), NOW)
    return leader


# cancelled


def test_the_key_of_a_cancelled_task_that_runs_elsewhere_stays_busy() -> None:
    leader = machine()
    frames = (cancelled(0, "k"), frame(1, 1, ["k"]))
    leader.step(taken(frames, ("a",), cancelling=(0,), open_tasks=2), NOW)
    assert sent(leader.step(events.Held("a", 0, (), ((0, 1),)), NOW)) == []
    found = leader.step(events.Held("a", 0), NOW)
    assert (ends(found), sent(found)) == ([(0, outcome.CANCELLED)], [])
    (record,) = recorded(found)
    assert sent(leader.step(events.Recorded(0, record.token, 1), NOW)) == [(1, 2)]


@pytest.mark.parametrize("end", [events.Held("a", 0), events.WorkerLost("a", None)])
def test_the_key_of_a_task_that_still_runs_though_it_has_its_outcome_is_busy(
    end: events.Event,
) -> None:
    """Found in seed 1874: another region had it run again, and gave its shard back."""
    leader = machine()
    leader.step(taken((frame(1, 1, ["k"]),), ("a",)), NOW)
    still = events.Held("a", 0, (), ((0, 1),), keys=((0, "default", "k"),))
    assert sent(leader.step(still, NOW)) == []
    assert sent(leader.step(still, NOW)) == []
    assert sent(leader.step(end, NOW)) == [(1, 2)]


def test_the_late_outcome_of_a_task_that_has_one_frees_its_key() -> None:
    leader = machine()
    leader.step(taken((frame(1, 1, ["k"]),), ("a",)), NOW)
    leader.step(events.Held("a", 0, (), ((0, 1),), keys=((0, "default", "k"),)), NOW)
    found = leader.step(events.Held("a", 0, (succeeded(0, 1),)), NOW)
    (record,) = recorded(found)
    found += leader.step(events.Recorded(0, record.token, 0), NOW)
    assert sent(found) == [(1, 2)]


def test_a_cancelled_retry_that_waits_gives_its_key_free_once_its_end_is_recorded() -> None:
    leader = machine()
    parked = Scheduled(0, 200_000, 2, True, "k", "t", "default", 1)
    frames = (cancelled(0, "k"), frame(1, 1, ["k"]))
    found = leader.step(
        taken(frames, cancelling=(0,), holding=(parked,), open_tasks=2, next_due=200_000), NOW
    )
    assert (ends(found), sent(found)) == ([(0, outcome.CANCELLED)], [])
    (record,) = recorded(found)
    assert sent(leader.step(events.Recorded(0, record.token, 1), NOW)) == [(1, 2)]


def test_a_task_cancelled_while_it_runs_elsewhere_is_not_sent_again_when_its_worker_dies() -> None:
    leader = abroad(frame(0, 2, ["k", "k"]))
    assert leader.step(events.CancelAsked(0, 0), NOW) == [effects.TellCancelled("a", 0, 0)]
    found = leader.step(events.WorkerLost("a", None), NOW)
    assert (ends(found), sent(found)) == ([(0, outcome.CANCELLED)], [])
    (record,) = recorded(found)
    assert sent(leader.step(events.Recorded(0, record.token, 1), NOW)) == [(1, 2)]


def test_a_task_given_back_and_cancelled_before_its_shard_is_served_is_not_sent() -> None:
    leader = machine()
    leader.step(taken((frame(0, 1, ["k"]), frame(1, 1, ["k"])), ("a", "b")), NOW)
    leader.step(events.Held("a", 0, (), ((0, 1),)), NOW)
    leader.step(events.CancelAsked(0, 0), NOW)
    leader.step(events.WorkerLost("a", None), NOW)
    found = leader.step(events.Held("b", 0), NOW)
    assert (ends(found), sent(found)) == ([(0, outcome.CANCELLED)], [])


def test_a_task_given_back_and_cancelled_behind_a_silent_worker_is_not_sent() -> None:
    leader = machine()
    leader.step(taken((frame(0, 2, ["k", "k"]),), ("a", "b")), NOW)
    leader.step(events.Held("a", 0, (), ((0, 1),)), NOW)
    leader.step(events.Held("b", 0, silent=True), NOW)
    leader.step(events.WorkerLost("a", None), NOW)
    found = leader.step(events.CancelAsked(0, 0), NOW)
    assert ends(found) == [(0, outcome.CANCELLED)]
    (record,) = recorded(found)
    leader.step(events.Recorded(0, record.token, 1), NOW)
    assert sent(leader.step(events.WorkerLost("b", None), NOW)) == [(1, 2)]


# too long


def test_a_former_worker_whose_attempt_takes_too_long_is_ended_and_the_attempt_counts() -> None:
    leader = abroad(frame(0, 1, ["k"]))
    assert kills(leader.step(events.Held("a", 0, (), ((0, 1),)), Instant(159.0, 159_000))) == []
    found = leader.step(events.Held("a", 0, (), ((0, 1),)), LATE)
    assert kills(found) == [("a", "attempt_timeout")]
    assert kills(leader.step(events.Held("a", 0, (), ((0, 1),)), LATE)) == [], "it is asked once"
    found = leader.step(events.WorkerLost("a", None), LATE)
    (record,) = recorded(found)
    assert [(park.position, park.attempt) for park in record.settlement.parks] == [(0, 2)]
    failure = outcome.decode_failure(record.settlement.parks[0].error)
    assert (failure.error, sent(found)) == ("chimera.AttemptTimeout", [])
    leader.step(events.Recorded(0, record.token, 0), LATE)
    assert sent(leader.step(events.Due(0, (due(0, 2),), None), LATE)) == [(0, 1)]


def test_an_attempt_that_ends_in_time_after_all_is_taken_in() -> None:
    leader = abroad(frame(0, 1))
    found = leader.step(events.Held("a", 0, (succeeded(0, 1),)), LATE)
    assert (kills(found), len(recorded(found))) == ([], 1)


def test_a_cancelled_attempt_that_never_ends_is_ended_too() -> None:
    leader = machine()
    frames = (cancelled(0, "k"), frame(1, 1, ["k"]))
    leader.step(taken(frames, ("a",), cancelling=(0,), open_tasks=2), NOW)
    leader.step(events.Held("a", 0, (), ((0, 1),)), NOW)
    found = leader.step(events.Held("a", 0, (), ((0, 1),)), LATE)
    assert kills(found) == [("a", "attempt_timeout")]
    assert ends(leader.step(events.WorkerLost("a", None), LATE)) == [(0, outcome.CANCELLED)]


def at(worker: str, flight: int) -> events.Tick:
    return events.Tick({worker: events.Board(flight, 0, 0)})


def test_a_worker_at_a_task_of_a_shard_that_nobody_here_has_is_ended_when_it_takes_too_long() -> (
    None
):
    """Found in seed 333: the shard's owner was of another region, and asked nobody here."""
    leader = machine()
    former = 1 << 63 | 4
    leader.step(events.WorkerReady("a", (TaskPolicy(type="t"),)), NOW)
    assert kills(leader.step(at("a", former), NOW)) == []
    assert kills(leader.step(at("a", former), Instant(159.0, 159_000))) == []
    assert kills(leader.step(at("a", former), LATE)) == [("a", "attempt_timeout")]
    assert kills(leader.step(at("a", former), LATE)) == []


def test_a_worker_that_ends_another_leaders_task_in_time_stays() -> None:
    leader = machine()
    leader.step(events.WorkerReady("a", (TaskPolicy(type="t"),)), NOW)
    leader.step(at("a", 1 << 63 | 4), NOW)
    leader.step(at("a", 0), Instant(159.0, 159_000))
    assert kills(leader.step(at("a", 1 << 63 | 4), LATE)) == []


# silent


def test_a_former_worker_that_is_silent_for_longer_than_any_attempt_may_take_is_ended() -> None:
    leader = machine()
    leader.step(taken((frame(0, 1, ["k"]),), ("a",)), NOW)
    leader.step(events.Held("a", 0, silent=True), NOW)
    assert kills(leader.step(events.Held("a", 0, silent=True), Instant(159.0, 159_000))) == []
    found = leader.step(events.Held("a", 0, silent=True), LATE)
    assert (kills(found), sent(found)) == ([("a", "attempt_timeout")], [])
    assert sent(leader.step(events.WorkerLost("a", None), LATE)) == [(0, 1)]


def test_a_silent_worker_that_answers_is_given_its_time_anew() -> None:
    leader = machine()
    leader.step(taken((frame(0, 1, ["k"]),), ("a",)), NOW)
    leader.step(events.Held("a", 0, silent=True), NOW)
    assert kills(leader.step(events.Held("a", 0, (), ((0, 1),)), LATE)) == []


def test_a_frame_that_gives_its_tasks_more_time_has_a_silent_worker_waited_for_so_long() -> None:
    leader = machine()
    slow = replace(frame(0, 1, ["k"]), options={"attempt_timeout_s": 90.0})
    leader.step(taken((slow,), ("a",)), NOW)
    leader.step(events.Held("a", 0, silent=True), NOW)
    assert kills(leader.step(events.Held("a", 0, silent=True), LATE)) == []
    much_later = Instant(192.0, 192_000)
    assert kills(leader.step(events.Held("a", 0, silent=True), much_later)) != []
