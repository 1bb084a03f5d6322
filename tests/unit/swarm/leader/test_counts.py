"""What a leader counts of tasks: by priority class and type, and all of them."""

from __future__ import annotations

from dataclasses import replace

from chimera.swarm.leader import effects, events
from chimera.swarm.leader.events import Instant
from chimera.swarm.sketch import quantiles
from tests.unit.swarm.leader.test_takeover import NOW, failed, frame, machine, succeeded, taken

LATER = Instant(102.0, 102_000)


def test_starts_and_outcomes_are_counted_by_class_and_type_once():
    leader = machine()
    leader.step(taken(), NOW)
    urgent, usual = replace(frame(0, 3), priority=0), frame(3, 1)
    sent = leader.step(events.Appended(0, (urgent, usual), 4), NOW)
    sent += leader.step(events.Tick({}), LATER)
    flights = [one for one in sent if isinstance(one, effects.Send)]
    arrived = (succeeded(0, 3, serial=1), failed(3, serial=2))
    told = leader.step(events.Replied(flights[0].worker, flights[0].flight, arrived, ()), LATER)
    records = [one for one in told if isinstance(one, effects.Record)]
    assert "succeeded" not in leader.state.counters, "not before it is recorded"
    for one in records:
        leader.step(events.Recorded(0, one.token, 3), LATER)
    counters = leader.state.counters
    assert {name: counters[name] for name in counters if name.startswith(("st", "su", "re"))} == {
        "started": 4, "started/t": 4, "started@critical/t": 3, "started@normal/t": 1,
        "succeeded": 3, "succeeded/t": 3, "succeeded@critical/t": 3,
        "retried": 1, "retried/t": 1, "retried@normal/t": 1,
    }  # fmt: skip


def test_how_long_tasks_waited_is_kept_by_class():
    leader = machine()
    leader.step(taken(), NOW)
    leader.step(events.Appended(0, (replace(frame(0, 2), priority=2),), 2), NOW)
    waited = {name: one.to_bytes() for name, one in leader.state.queue.items()}
    assert quantiles([waited["batch"]], (1.0,)) is not None
    assert quantiles([waited["critical"], waited["normal"]], (1.0,)) is None
