"""Real servers as fixtures: one of each for a whole session, started when a test first wants it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.kafka import Kafka
from tests.servers.postgres import own_postgres, postgres, small_space
from tests.servers.rabbitmq import RabbitMQ

__all__ = ["kafka", "own_postgres", "postgres", "rabbitmq", "small_space"]


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """One node of a real Kafka; isolate tests by topic, leave it running."""
    server = Kafka(tmp_path_factory.mktemp("kafka"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """One node of a real RabbitMQ; isolate tests by topic, leave it running."""
    server = RabbitMQ(tmp_path_factory.mktemp("rabbitmq"))
    try:
        server.start()
        yield server
    finally:
        server.stop()
