"""Events that nobody waits for: told in order, kept while the broker is away, none in the way."""

from __future__ import annotations

import pytest

from chimera.bus.memory import MemoryBroker, MemoryBus
from chimera.contracts.codec import Codec
from chimera.contracts.events import WorkerLifecycle
from chimera.contracts.own import OwnSchemas
from chimera.traffic import herald
from chimera.traffic.herald import Herald
from chimera.traffic.intake import Broker
from chimera.traffic.records import Writer, envelope
from chimera.traffic.topics import topics
from tests.servers.processes import wait_until

TOPICS = topics("t", 1)
#: larger than any number of the schema
TOO_LARGE = 1 << 70


@pytest.fixture
def broker() -> MemoryBroker:
    found = MemoryBroker()
    MemoryBus(found).provision([TOPICS.workers], 1.0)
    return found


def begun(broker: MemoryBroker) -> Herald:
    codec = Codec(OwnSchemas())
    return Herald(Broker(MemoryBus(broker), TOPICS, codec, Writer(codec), "/chimera/t/c"))


def event(number: int) -> WorkerLifecycle:
    return WorkerLifecycle(worker="w/1", leader="l", region="r", event="started", at=number)


def told(broker: MemoryBroker) -> list[int]:
    codec, found = Codec(OwnSchemas()), []
    for record in MemoryBus(broker).subscribe(TOPICS.workers, "outside").fetch(999, 1 << 30, 0.1):
        one, named = codec.decode(record.value), envelope(record)
        assert isinstance(one, WorkerLifecycle)
        assert named is not None
        assert (named.subject, named.source) == ("w/1", "/chimera/t/c")
        found.append(one.at)
    return found


def test_what_cannot_be_written_is_given_up_and_holds_up_nothing(broker: MemoryBroker) -> None:
    teller = begun(broker)
    for number in (1, TOO_LARGE, 3):
        teller.tell(TOPICS.workers, event(number), "w/1")
    teller.close(30.0)
    assert told(broker) == [1, 3]
    assert teller.dropped == 1


def test_while_the_broker_is_away_the_newest_are_kept_and_the_rest_counted(
    broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(herald, "WAITING_MAX", 4)
    monkeypatch.setattr(herald, "AGAIN_S", 0.01)
    monkeypatch.setattr(herald, "PUBLISH_S", 0.01)
    broker.crash()
    teller = begun(broker)
    teller.tell(TOPICS.workers, event(0), "w/1")
    wait_until(lambda: not teller._waiting, "the first to be under way")
    for number in range(1, 10):
        teller.tell(TOPICS.workers, event(number), "w/1")
    broker.restart()
    wait_until(lambda: not teller._waiting, "the rest to be under way")
    teller.close(30.0)
    assert told(broker) == [0, 6, 7, 8, 9]
    assert teller.dropped == 5
