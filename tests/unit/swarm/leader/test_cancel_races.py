"""Cancelling against what is on its way: schedules that the simulator found."""

from __future__ import annotations

from chimera.frames import outcome
from chimera.swarm.leader import effects, events
from tests.unit.swarm.leader.world import World


def test_a_task_that_is_cancelled_in_flight_and_given_back_unbegun_is_not_sent_again():
    world = World(1, workers=1)
    sent: list[effects.Send] = []
    do = world.do
    world.do = lambda effect: (
        sent.append(effect) if isinstance(effect, effects.Send) else do(effect)
    )
    world.submit(1)
    for _ in range(200):
        if not sent:
            world.turn()
    name, flight = sent[0].worker, sent[0].flight
    world.do = do
    world.step(events.CancelAsked(0, 0))
    world.step(events.Replied(name, flight, (), ((0, 0, 1),)))
    world.until_settled()
    assert (world.outcomes[0], world.runs[0]) == (outcome.CANCELLED, 0)


def test_a_parked_task_that_is_read_while_its_end_is_being_written_is_not_run():
    world = World(1, workers=1, delay=1.0)
    world.submit(1)
    for _ in range(20):
        world.turn()
    late = world.machine.step(events.CancelAsked(0, 0), world.instant())
    assert [type(one) for one in late] == [effects.Record]
    # the schedule was read before that was durable
    world.step(events.Due(0, (world.due_frame(0),), None))
    for effect in late:
        world.do(effect)
    world.until_settled()
    for _ in range(20):
        world.turn()
    assert (world.outcomes[0], world.runs[0]) == (outcome.CANCELLED, 0)
