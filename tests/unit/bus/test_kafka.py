"""Kafka's adapter without a Kafka: failed producers, and what a topic's settings can cost."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from confluent_kafka import KafkaError, KafkaException

from chimera import errors
from chimera.bus.kafka import publisher as publishing
from chimera.bus.kafka import subscription as subscribing
from chimera.bus.kafka.admin import judge, wanted
from chimera.bus.kafka.client import Health
from chimera.bus.limits import Limits
from chimera.bus.protocol import EARLIEST, Kind, Record, Topic
from chimera.bus.settings import parse

COMMANDS = Topic("t.commands", 2, Kind.COMMANDS, ("leaders",))
EVENTS = Topic("t.results", 2, Kind.EVENTS, ("x",))


class FakeProducer:
    """The first one fails for good at its second record; the others work."""

    made: ClassVar[list[FakeProducer]] = []

    def __init__(self, config: dict[str, Any]) -> None:
        self._first = not self.made
        self.waiting: list[Any] = []
        self.purged = threading.Event()
        self.made.append(self)

    def produce(self, topic: str, value: bytes, *_: Any, on_delivery: Any, **__: Any) -> None:
        if self._first and self.waiting:
            raise KafkaException(KafkaError(KafkaError._FATAL, "fenced", True))
        self.waiting.append(on_delivery)

    def poll(self, timeout: float) -> None:
        if not self._first:
            self.flush(timeout)
        self.purged.wait(0.01)

    def purge(self) -> None:
        self.purged.set()

    def flush(self, timeout: float) -> None:
        error = KafkaError(KafkaError._PURGE_QUEUE) if self.purged.is_set() else None
        while self.waiting:
            self.waiting.pop(0)(error, None)


def test_a_producer_that_failed_for_good_is_made_anew(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(FakeProducer, "made", [])
    monkeypatch.setattr(publishing, "Producer", FakeProducer)
    settings = parse("kafka://host")
    publisher = publishing.Publisher(settings, Health(settings.shown), 1000)
    answers = publisher.publish([Record("t", 0, b"x")] * 3, 30)
    assert [type(one) for one in answers] == [errors.BusUnavailable] * 3
    assert publisher.publish([Record("t", 0, b"x")] * 3, 30) == [None] * 3
    assert len(FakeProducer.made) == 2
    assert FakeProducer.made[0].purged.is_set()
    publisher.close(1)


class FakeMessage:
    """A record of the first partition, or an error in place of one."""

    def __init__(self, offset: int, error: KafkaError | None = None) -> None:
        self._offset, self._error = offset, error

    def error(self) -> KafkaError | None:
        return self._error

    def topic(self) -> str:
        return COMMANDS.name

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def value(self) -> bytes:
        return b"%d" % self._offset

    def key(self) -> None:
        return None

    def headers(self) -> None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return 0, 0


class FakeConsumer:
    """Hands out three records with a fault of a connection among them."""

    def __init__(self, config: dict[str, Any]) -> None:
        fault = FakeMessage(-1, KafkaError(KafkaError._TRANSPORT))
        self.queue = [FakeMessage(0), fault, FakeMessage(1), FakeMessage(2)]
        self.committed: dict[int, int] = {}

    def poll(self, timeout: float) -> None:
        """Nothing is called back."""

    def list_topics(self, topic: str, timeout: float) -> Any:
        found = SimpleNamespace(partitions={0: None, 1: None}, error=None)
        return SimpleNamespace(topics={topic: found})

    def incremental_assign(self, partitions: Any) -> None:
        """All of them are in the queue."""

    def consume(self, count: int, wait: float) -> list[FakeMessage]:
        taken, self.queue = self.queue[:count], self.queue[count:]
        return taken

    def commit(self, offsets: Any, asynchronous: bool) -> None:
        self.committed.update((one.partition, one.offset) for one in offsets)

    def close(self) -> None:
        """Nobody else waits for it."""


def test_records_that_come_behind_a_fault_are_handed_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(subscribing, "Consumer", FakeConsumer)
    subscription = subscribing.KafkaSubscription(
        parse("kafka://host"), COMMANDS, "leaders", {0: EARLIEST, 1: EARLIEST}, Limits()
    )
    found = []
    while some := subscription.fetch(10, 1000, 0.5):
        found += some
        subscription.ack(some)
    assert [record.value for record in found] == [b"0", b"1", b"2"]
    subscription.close(5)
    assert subscription._consumer.committed == {0: 3}


def test_topics_as_they_are_provisioned_on_three_nodes_are_found_sound():
    for topic in (COMMANDS, EVENTS):
        assert judge(topic, wanted(topic, 3), 3, production=True) == []


def test_commands_are_never_dropped_by_age_and_wait_for_the_disk_without_a_second_copy():
    one, three = wanted(COMMANDS, 1), wanted(COMMANDS, 3)
    assert one["retention.ms"] == three["retention.ms"] == "-1"
    assert (one["flush.messages"], one["min.insync.replicas"]) == ("1", "1")
    assert (three["flush.messages"] != "1", three["min.insync.replicas"]) == (True, "2")


@pytest.mark.parametrize(
    ("change", "copies", "said", "serious_when_trying"),
    [
        ({"unclean.leader.election.enable": "true"}, 3, "unclean", False),
        ({"min.insync.replicas": "1"}, 3, "min.insync.replicas < 2", False),
        ({}, 2, "2 copies", False),
        ({"retention.ms": "604800000"}, 3, "dropped by age", True),
        ({"retention.bytes": "1"}, 3, "dropped by age or size", True),
        ({"cleanup.policy": "compact"}, 3, "compacted", True),
        ({"max.message.bytes": "1000"}, 3, "are refused", True),
    ],
)
def test_settings_that_lose_records_are_told(change, copies, said, serious_when_trying):
    config = {**wanted(COMMANDS, 3), **change}
    (trying,) = judge(COMMANDS, config, copies, production=False)
    (production,) = judge(COMMANDS, config, copies, production=True)
    assert said in trying.problem
    assert (trying.serious, production.serious) == (serious_when_trying, True)
    assert production.remedy
