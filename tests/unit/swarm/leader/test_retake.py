"""A leader loses a shard and takes it back while its own workers still have tasks of it (P6)."""

from __future__ import annotations

from chimera.frames import outcome
from chimera.frames.outcome import Failure
from chimera.swarm.leader import LeaderMachine, effects, events
from chimera.swarm.leader.events import Arrived, Board, Instant, NewFrame
from tests.unit.swarm.leader.test_takeover import NOW, frame, machine, recorded, sent

LATER = Instant(101.0, 101_000)


def taken(epoch: int, *frames: NewFrame) -> events.Taken:
    return events.Taken(0, epoch, frames, (), (), sum(f.count for f in frames), None, ())


def ended(epoch: int, position: int, count: int, state: int = outcome.SUCCEEDED) -> Arrived:
    body = b"1" if state == outcome.SUCCEEDED else outcome.encode_failure(Failure("E", "no"))
    return Arrived(1, outcome.pack(0, epoch, position, bytes([state]) * count, [body] * count))


def retaken(*frames: NewFrame) -> tuple[LeaderMachine, effects.Send, list[effects.Effect]]:
    """A leader that has sent tasks, lost their shard, and taken it again; the flight of before."""
    leader = machine()
    (send,) = [e for e in leader.step(taken(5, *frames), NOW) if isinstance(e, effects.Send)]
    leader.step(events.ShardLost(0), NOW)
    return leader, send, leader.step(taken(7, *frames), NOW)


def test_its_own_worker_is_asked_though_no_coordinator_named_it() -> None:
    leader, send, found = retaken(frame(0, 2))
    assert found == [effects.PollHeld(send.worker, 0, 7)]
    assert sent(leader.step(events.Held(send.worker, 0), NOW)) == [(0, 2)]


def test_what_its_own_worker_still_runs_is_not_sent_again_when_the_flight_of_before_ends() -> None:
    leader, send, _ = retaken(frame(0, 2))
    held = leader.step(events.Held(send.worker, 0, (), ((0, 1),)), NOW)
    assert sent(held) == [], "the only worker is busy with the task of before"
    reply = events.Replied(send.worker, send.flight, (ended(5, 0, 1),), ((0, 1, 1),))
    assert recorded(leader.step(reply, LATER)) == [], "it is asked for, as a former owner's worker"
    found = leader.step(events.Held(send.worker, 0, (ended(5, 0, 1),)), LATER)
    assert len(recorded(found)) == 1
    assert sent(found) == [(1, 2)]


def test_an_attempt_of_before_that_failed_is_counted_once() -> None:
    leader, send, _ = retaken(frame(0, 1))
    leader.step(events.Held(send.worker, 0, (), ((0, 1),)), NOW)
    failed = ended(5, 0, 1, outcome.ATTEMPT_FAILED)
    found = leader.step(events.Replied(send.worker, send.flight, (failed,), ()), LATER)
    found += leader.step(events.Held(send.worker, 0, (failed,)), LATER)
    parks = [park for one in recorded(found) for park in one.settlement.parks]
    assert [(park.position, park.attempt) for park in parks] == [(0, 2)]
    assert sent(found) == []


def test_what_is_taken_back_of_a_flight_of_before_is_not_given_back_twice() -> None:
    leader, send, _ = retaken(frame(0, 2))
    back = events.Replied(send.worker, None, (), ((0, 0, 2),), begun=1, through=send.flight)
    assert sent(leader.step(back, NOW)) == []
    assert sent(leader.step(events.Held(send.worker, 0), NOW)) == [(0, 2)]
    assert sent(leader.step(back, LATER)) == [], "it is said of the flight of before"
    assert leader.state.ready.tasks == 0


def test_its_own_workers_death_has_the_task_of_before_run_once_more() -> None:
    leader, send, _ = retaken(frame(0, 1))
    leader.step(events.Held(send.worker, 0, (), ((0, 1),)), NOW)
    leader.step(events.WorkerLost(send.worker, Board(send.flight, 0, 0)), LATER)
    assert leader.state.ready.tasks == 1


def test_a_quarantined_frame_costs_other_tasks_of_a_flight_nothing() -> None:
    leader = machine()
    found = leader.step(taken(5, frame(0, 3), frame(3, 3)), NOW)
    (send,) = [e for e in found if isinstance(e, effects.Send)]
    leader.step(events.Quarantined(0, 100, 50, 50), NOW)
    reply = events.Replied(send.worker, send.flight, (ended(5, 0, 2),), ((0, 2, 4),))
    assert sent(leader.step(reply, NOW)) == [(2, 3), (3, 6)]
