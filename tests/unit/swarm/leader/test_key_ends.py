"""Tasks of a key that end without running, or whose shard goes: found by simulation."""

from __future__ import annotations

from chimera.frames import outcome
from chimera.frames.outcome import Failure
from chimera.swarm.leader import LeaderMachine, effects, events
from chimera.swarm.leader.events import Arrived, Instant, NewFrame
from tests.unit.swarm.leader.test_takeover import NOW, machine, sent, succeeded, taken

LATER = Instant(110.0, 110_000)


def frame(position: int, deadlines: list[int] | None) -> NewFrame:
    """Two tasks of one key."""
    ranges = ((position, position + 2),)
    return NewFrame(position, 2, 160, "t", "default", 1, ranges, ["k", "k"], deadlines)


def run(leader: LeaderMachine, found: list[effects.Effect]) -> list[effects.Record]:
    """Let what is sent succeed."""
    (send,) = [e for e in found if isinstance(e, effects.Send)]
    arrived = tuple(
        succeeded(item.first, item.stop - item.first, serial)
        for serial, item in enumerate(send.items, send.flight * 100)
    )
    out = leader.step(events.Replied(send.worker, send.flight, arrived, ()), NOW)
    return [e for e in out if isinstance(e, effects.Record)]


def test_tasks_of_a_key_with_deadlines_hold_up_nobody_once_they_are_recorded():
    leader = machine()
    (record,) = run(leader, leader.step(taken((frame(0, [900_000, 900_000]),)), NOW))
    leader.step(events.Recorded(0, record.token, 2), NOW)
    more = leader.step(events.Appended(0, (frame(2, None),), 2, None), NOW)
    assert sent(more) == [(2, 4)]


def test_behind_a_task_whose_deadline_passed_its_key_waits_until_that_is_recorded():
    leader = machine()
    leader.state.type("t").cost_s = 1.0  # one task a flight
    first = leader.step(taken((frame(0, None), frame(2, [105_000, 900_000]))), NOW)
    for position in (0, 1):
        (record,) = run(leader, first)
        first = leader.step(events.Recorded(0, record.token, 1), LATER) if not position else first
    (expired,) = [e for e in leader.step(events.Tick({}), LATER) if isinstance(e, effects.Record)]
    assert [one.position for one in expired.settlement.singles] == [2]
    assert sent(leader.step(events.Recorded(0, record.token, 1), LATER)) == []
    assert sent(leader.step(events.Recorded(0, expired.token, 1), LATER)) == [(3, 4)]


def test_a_task_that_is_cancelled_while_its_retry_is_recorded_is_not_loaded():
    """It stood in its key's queue for ever, or ran after its end."""
    leader = machine()
    leader.state.type("t").cost_s = 1.0
    found = leader.step(taken((frame(0, None),)), NOW)
    (send,) = [e for e in found if isinstance(e, effects.Send)]
    states = bytes([outcome.ATTEMPT_FAILED])
    raised = outcome.pack(0, 5, 0, states, [outcome.encode_failure(Failure("E"))])
    out = leader.step(events.Replied(send.worker, send.flight, (Arrived(1, raised),), ()), NOW)
    (retry,) = [e for e in out if isinstance(e, effects.Record)]
    (end,) = leader.step(events.CancelAsked(0, 0), NOW)
    assert isinstance(end, effects.Record)
    leader.step(events.Recorded(0, retry.token, 0), NOW)
    parked = NewFrame(0, 1, 80, "t", "default", 1, ((0, 1),), ["k"], None, None, 2, True, True)
    assert sent(leader.step(events.Due(0, (parked,), None), LATER)) == []
    assert sent(leader.step(events.Recorded(0, end.token, 1), LATER)) == [(1, 2)]


def test_a_task_in_flight_is_its_workers_to_judge_though_the_piece_it_came_in_still_waits():
    leader = machine()
    leader.state.type("t").cost_s = 1.0

    def one(position: int, priority: int, key: str | None, deadline: int = 0) -> NewFrame:
        ranges = ((position, position + 1),)
        keys, deadlines = [key] if key else None, [deadline] if deadline else None
        return NewFrame(position, 1, 80, "t", "default", priority, ranges, keys, deadlines)

    found = leader.step(taken((one(0, 1, "k"), one(1, 1, "k", 105_000))), NOW)
    leader.step(events.Appended(0, (one(2, 0, "k"), one(3, 0, None)), 2, None), NOW)
    (record,) = run(leader, found)
    (flight,) = [f for w in leader.state.workers.values() for f in w.flights.values()]
    assert [(p.first, p.stop) for p in flight.pieces] == [(3, 4)]
    leader.step(events.Recorded(0, record.token, 1), NOW)
    (name,) = leader.state.workers
    out = leader.step(events.Replied(name, flight.number, (succeeded(3, 1, 9),), ()), NOW)
    assert sent(out) == [(1, 2)]
    assert not [e for e in leader.step(events.Tick({}), LATER) if isinstance(e, effects.Record)]


def test_a_shard_that_is_released_frees_no_key_here():
    leader = machine()
    leader.state.type("t").cost_s = 1.0
    (record,) = run(leader, leader.step(taken((frame(0, None),)), NOW))
    leader.step(events.ReleaseAsked(0), NOW)
    assert leader.step(events.Recorded(0, record.token, 1), NOW) == [effects.CloseShard(0)]
    assert leader.state.ready.tasks == 0
