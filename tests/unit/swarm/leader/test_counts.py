"""What a leader counts of tasks: by priority class and type, and all of them."""

from __future__ import annotations

from dataclasses import replace

from chimera.frames import outcome
from chimera.swarm.leader import effects, events
from chimera.swarm.leader.events import Arrived, Instant
from chimera.swarm.sketch import quantiles
from tests.unit.swarm.leader.test_takeover import NOW, failed, frame, machine, taken

LATER = Instant(102.0, 102_000)


def test_starts_and_outcomes_are_counted_by_class_and_type_once():
    leader = machine()
    leader.step(taken(), NOW)
    urgent = replace(frame(0, 3), priority=0, trace_id="ab" * 16)
    usual = frame(3, 1)
    sent = leader.step(events.Appended(0, (urgent, usual), 4), NOW)
    sent += leader.step(events.Tick({}), LATER)
    flights = [one for one in sent if isinstance(one, effects.Send)]
    done = outcome.pack(0, 4, 0, b"\1" * 3, [b"1"] * 3, duration_us=3000)
    arrived = (Arrived(1, done), failed(3, serial=2))
    told = leader.step(events.Replied(flights[0].worker, flights[0].flight, arrived, ()), LATER)
    records = [one for one in told if isinstance(one, effects.Record)]
    assert "succeeded" not in leader.state.counters, "not before it is recorded"
    for one in records:
        leader.step(events.Recorded(0, one.token, 3), LATER)
    exemplars = leader.state.exemplars
    assert exemplars.keys() == {"queue/critical", "run/t", "total"}
    assert (exemplars["total"].trace_id, exemplars["total"].seconds) == ("ab" * 16, 2.0)
    counters = leader.state.counters
    assert {name: counters[name] for name in counters if name.startswith(("st", "su", "re"))} == {
        "started": 4, "started/t": 4, "started@critical/t": 3, "started@normal/t": 1,
        "succeeded": 3, "succeeded/t": 3, "succeeded@critical/t": 3,
        "retried": 1, "retried/t": 1, "retried@normal/t": 1,
    }  # fmt: skip


def test_what_is_accepted_is_counted_by_class_and_type_and_once_in_all():
    leader = machine()
    leader.step(taken(), NOW)
    kinds = (("t", "critical", 3), ("t", "normal", 1))
    leader.step(events.Appended(0, (frame(0, 4),), 4, None, kinds), NOW)
    counters = leader.state.counters
    assert {name: counters[name] for name in counters if name.startswith("accepted")} == {
        "accepted": 4, "accepted@critical/t": 3, "accepted@normal/t": 1,
    }  # fmt: skip


def test_how_long_tasks_waited_is_kept_by_class():
    leader = machine()
    leader.step(taken(), NOW)
    leader.step(events.Appended(0, (replace(frame(0, 2), priority=2),), 2), NOW)
    waited = {name: one.to_bytes() for name, one in leader.state.queue.items()}
    assert quantiles([waited["batch"]], (1.0,)) is not None
    assert quantiles([waited["critical"], waited["normal"]], (1.0,)) is None
