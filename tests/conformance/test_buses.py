"""Each bus against the port's contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chimera.bus.connect import connect
from chimera.bus.limits import Limits
from chimera.bus.memory import MemoryBroker, MemoryBus
from chimera.bus.protocol import Bus
from tests.conformance.bus_ack_suite import AckSuite
from tests.conformance.bus_fault_suite import FaultSuite
from tests.conformance.bus_kit import Place
from tests.conformance.bus_suite import FetchSuite, PositionSuite, PublishSuite
from tests.servers.kafka import Kafka


class _All(PublishSuite, FetchSuite, PositionSuite, AckSuite, FaultSuite):
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


class _Kafka(Place):
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
