"""What tests of whole swarms share with those of guarantees."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.guarantees.conftest import make_swarm
from tests.servers.kafka import Kafka
from tests.servers.postgres import postgres

__all__ = ["make_swarm", "postgres"]


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """One node of a real Kafka for the whole session."""
    server = Kafka(tmp_path_factory.mktemp("kafka"))
    try:
        server.start()
        yield server
    finally:
        server.stop()
