"""Suites are imported by the tests that run them; their asserts shall explain themselves too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.postgres import own_postgres, postgres

__all__ = ["own_postgres", "postgres"]

pytest.register_assert_rewrite(
    "tests.conformance.bus_ack_suite",
    "tests.conformance.bus_fault_suite",
    "tests.conformance.bus_kit",
    "tests.conformance.bus_suite",
    "tests.conformance.journal_suite",
    "tests.conformance.journal_side_suite",
    "tests.conformance.journal_view_suite",
)

from tests.servers.kafka import Kafka  # noqa: E402 # after the rewriting is set up


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """One node of a real Kafka for the whole session."""
    server = Kafka(tmp_path_factory.mktemp("kafka"))
    try:
        server.start()
        yield server
    finally:
        server.stop()
