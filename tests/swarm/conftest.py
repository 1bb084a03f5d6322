"""What tests of whole swarms share with those of guarantees."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.conftest import served, server
from tests.guarantees.conftest import make_swarm
from tests.servers.kafka import Kafka
from tests.servers.postgres import postgres
from tests.servers.rabbitmq import RabbitMQ

__all__ = ["make_swarm", "postgres", "served", "server"]


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """One node of a real Kafka for the whole session."""
    server = Kafka(tmp_path_factory.mktemp("kafka"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A real RabbitMQ for the whole session."""
    server = RabbitMQ(tmp_path_factory.mktemp("rabbitmq"))
    try:
        server.start()
        yield server
    finally:
        server.stop()
