"""Outcomes on their way out: each is an event at least once, with a name that stays."""

from __future__ import annotations

import pytest

from chimera.bus.protocol import Received
from chimera.contracts.cloudevents import Envelope
from chimera.contracts.events import DeadLetter, Event, Result
from chimera.errors import BusUnavailable
from chimera.frames import ids, outcome
from chimera.store.protocol import Settlement, Single
from chimera.traffic.intake import Broker
from chimera.traffic.outbox import Outbox
from chimera.traffic.records import envelope
from tests.unit.traffic.kit import SHARD, World, frame

FAILURE = outcome.Failure("builtins.ValueError", "no such file", "Traceback", False)


@pytest.fixture
def world() -> World:
    return World()


def outbox(world: World) -> Outbox:
    broker = Broker(world.bus, world.topics, world.codec, world.writer, "/chimera/t/leader")
    return Outbox(world.journal, broker)


def read(world: World, topic: str) -> list[tuple[Event, Envelope]]:
    wanted = getattr(world.topics, topic)
    found: list[Received] = world.bus.subscribe(wanted, "outside").fetch(100, 1 << 20, 0.01)
    out = []
    for record in found:
        named = envelope(record)
        assert named is not None
        assert record.partition == SHARD
        out.append((world.codec.decode(record.value), named))
    return out


def settle(world: World) -> None:
    """Of three tasks the first succeeds, the second fails, the third is cancelled."""
    states = bytes([outcome.SUCCEEDED, outcome.FAILED])
    bodies = [b'{"rows":3}', outcome.encode_failure(FAILURE)]
    blob = outcome.pack(SHARD, 1, 0, states, bodies, attempt=2)
    single = Single(2, outcome.CANCELLED, 1, b'"not needed"')
    world.journal.settle(Settlement((blob,), (single,)), 5)


def test_each_outcome_is_a_result_and_a_failure_a_dead_letter_too(world: World) -> None:
    world.send(frame(keys=["a", None, None], tags=[["x"], [], []]))
    world.turn()
    settle(world)
    while outbox(world).turn():
        pass
    found = [one for one in read(world, "results") if isinstance(one[0], Result)]
    names = [ids.format_id(7, SHARD, n) for n in range(3)]
    assert {event.task_id: event.state for event, _ in found} == dict(
        zip(names, ["succeeded", "failed", "cancelled"], strict=True)
    )
    by_id = {event.task_id: event for event, _ in found}
    assert by_id[names[0]].result == b'{"rows":3}'
    assert (by_id[names[0]].key, by_id[names[0]].tags) == ("a", ("x",))
    failed = by_id[names[1]].error
    assert failed is not None
    assert (failed.error, failed.message) == ("builtins.ValueError", "no such file")
    assert [named.id for _, named in found] == [event.task_id for event, _ in found]
    ((letter, _),) = read(world, "dead_letters")
    assert isinstance(letter, DeadLetter)
    assert (letter.task_id, letter.reason, letter.payload) == (names[1], "failed", b"1")


def test_a_result_names_the_event_that_led_to_it(world: World) -> None:
    world.command(b"1", "order-17")
    world.turn()
    blob = outcome.pack(SHARD, 1, 0, b"\1", [b"2"])
    world.journal.settle(Settlement((blob,)), 5)
    outbox(world).turn()
    ((event, named),) = read(world, "results")
    assert isinstance(event, Result)
    assert (event.command_id, event.command_source) == ("order-17", "/shop")
    assert named.extensions["causationid"] == "order-17"


def test_what_the_broker_did_not_take_is_published_by_the_next_owner(world: World) -> None:
    world.send(frame())
    world.turn()
    settle(world)
    world.broker.lost_answers = 10
    with pytest.raises(BusUnavailable):
        outbox(world).turn()
    world.broker.lost_answers = 0
    world.take_over()
    outbox(world).turn()
    assert outbox(world).turn() == 0, "the mark is durable"
    found = read(world, "results")
    assert len({named.id for _, named in found}) == 3, "one that is published twice has one name"
    assert len(found) > 3
