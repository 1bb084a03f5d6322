"""Each bus against the port's contract."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chimera.bus import embedded
from chimera.bus.connect import connect
from chimera.bus.limits import Limits
from chimera.bus.memory import MemoryBroker, MemoryBus
from chimera.bus.protocol import Bus, Finding, Kind, Record
from chimera.bus.rabbitmq import admin
from tests.conformance.bus_ack_suite import AckSuite
from tests.conformance.bus_fault_suite import FaultSuite, OutageSuite
from tests.conformance.bus_kit import GROUP, SOON_S, Place, publish, records, take, texts
from tests.conformance.bus_suite import FetchSuite, PositionSuite, PublishSuite
from tests.servers.kafka import Kafka
from tests.servers.processes import wait_until
from tests.servers.rabbitmq import RabbitMQ


class _Sound(PublishSuite, FetchSuite, PositionSuite, AckSuite):
    pass


class _All(_Sound, FaultSuite):
    pass


class _Memory(Place):
    def __init__(self, seeks: bool) -> None:
        super().__init__()
        self.seeks = seeks
        self._broker = MemoryBroker(seeks=seeks)

    def make(self, limits: Limits) -> Bus:
        return MemoryBus(self._broker, limits)

    def down(self) -> None:
        self._broker.crash()

    def up(self) -> None:
        self._broker.restart()


@pytest.mark.parametrize("seeks", [True, False], ids=["log", "queues"])
class TestMemoryBus(_All):
    @pytest.fixture
    def place(self, seeks: bool) -> Iterator[Place]:
        place = _Memory(seeks)
        yield place
        place.end()


class _Embedded(Place):
    """There is no broker to lose; what can keep a process from writing is another one's lock."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory
        self._other: sqlite3.Connection | None = None

    def make(self, limits: Limits) -> Bus:
        return connect(f"embedded:{self.directory}", limits)

    def down(self) -> None:
        path = self.directory / "bus.sqlite"
        self._other = sqlite3.connect(path, timeout=SOON_S, check_same_thread=False)
        self._other.execute("BEGIN IMMEDIATE")

    def up(self) -> None:
        assert self._other is not None
        self._other.close()


_PUBLISHER = """
import sys
from chimera.bus import embedded
from chimera.bus.connect import connect
from chimera.bus.protocol import Record
bus = connect("embedded:" + sys.argv[1])
for i in range(1_000_000):
    assert bus.publish([Record(sys.argv[2], 0, b"%d" % i)], 60) == [None]
    print(i, flush=True)
"""


class TestEmbeddedBus(_Sound, OutageSuite):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[_Embedded]:
        place = _Embedded(tmp_path)
        yield place
        place.end()

    def test_what_was_answered_survives_kill_9_of_its_publisher(self, place: _Embedded):
        topic = place.topic()
        with subprocess.Popen(
            [sys.executable, "-c", _PUBLISHER, str(place.directory), topic.name],
            stdout=subprocess.PIPE,
        ) as publisher:
            assert publisher.stdout is not None
            for line in publisher.stdout:
                if int(line) == 200:
                    publisher.kill()
            answered = int(line)
        subscription = place.bus().subscribe(topic, GROUP)
        assert texts(take(subscription, answered + 1)) == [str(i) for i in range(answered + 1)]

    def test_events_past_their_retention_are_dropped(self, place: _Embedded, monkeypatch):
        monkeypatch.setattr(embedded, "_SWEEP_S", 0.0)
        topic, bus = place.topic(kind=Kind.EVENTS), place.bus()
        old = int(time.time() * 1000) - topic.retention_ms - 1000
        publish(bus, [Record(topic.name, 0, b"old", timestamp=old), *records(topic, ["new"])])
        assert texts(take(bus.subscribe(topic, GROUP), 1)) == ["new"]


class _Kafka(Place):
    away_s = 4.0

    def __init__(self, server: Kafka) -> None:
        super().__init__()
        self._server = server

    def make(self, limits: Limits) -> Bus:
        return connect(f"kafka://{self._server.bootstrap}", limits)

    def down(self) -> None:
        self._server.kill()

    def up(self) -> None:
        self._server.start()


class TestKafkaBus(_All):
    @pytest.fixture
    def place(self, kafka: Kafka) -> Iterator[Place]:
        place = _Kafka(kafka)
        yield place
        place.end()


class _Rabbit(Place):
    seeks = False
    away_s = 4.0

    def __init__(self, server: RabbitMQ) -> None:
        super().__init__()
        self._server = server

    def make(self, limits: Limits) -> Bus:
        return connect(self._server.url, limits)

    def down(self) -> None:
        self._server.kill()

    def up(self) -> None:
        self._server.start()


class TestRabbitBus(_All):
    @pytest.fixture
    def place(self, rabbitmq: RabbitMQ) -> Iterator[Place]:
        place = _Rabbit(rabbitmq)
        yield place
        place.end()

    def test_a_record_that_is_given_back_for_ever_is_put_aside_and_told(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(admin, "DELIVERY_LIMIT", 3)
        topic, bus = place.topic(), place.bus()
        publish(bus, records(topic, ["poison"]))
        subscription = bus.subscribe(topic, GROUP)
        for deliveries in (1, 2, 3, 4):
            got = take(subscription, 1)
            assert got[0].deliveries == deliveries
            subscription.nack(got)
        found: list[Finding] = []
        wait_until(lambda: found.extend(bus.check([topic], SOON_S, False)) or found, "it is told")
        assert found[0].serious
        assert found[0].problem == "1 messages were given back 3 times"
        publish(bus, records(topic, ["sound"]))
        assert texts(take(subscription, 1)) == ["sound"]
