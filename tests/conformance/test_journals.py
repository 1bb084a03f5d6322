"""Each journal against the port's contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chimera.store.journal import SqliteJournal
from chimera.store.memory import MemoryJournal
from chimera.store.memory_disk import MemoryDisk
from chimera.store.postgres import PostgresJournal
from tests.conformance.journal_kit import SHARD, Bench
from tests.conformance.journal_side_suite import (
    CancelSuite,
    IdempotencySuite,
    KeptSuite,
    ReplaySuite,
    ScheduleSuite,
)
from tests.conformance.journal_suite import AppendSuite, OwnershipSuite, SettleSuite
from tests.conformance.journal_view_suite import ListSuite, SweepSuite
from tests.servers.postgres import Postgres


class _All(
    OwnershipSuite,
    AppendSuite,
    SettleSuite,
    ScheduleSuite,
    CancelSuite,
    IdempotencySuite,
    KeptSuite,
    ReplaySuite,
    ListSuite,
    SweepSuite,
):
    pass


class TestMemoryJournal(_All):
    @pytest.fixture
    def bench(self) -> Iterator[Bench]:
        disk = MemoryDisk()
        bench = Bench(lambda **options: MemoryJournal(disk, SHARD, **options))
        yield bench
        bench.close()


@pytest.mark.parametrize("fsync", [False, True], ids=["os", "fsync"])
class TestSqliteJournal(_All):
    @pytest.fixture
    def bench(self, tmp_path: Path, fsync: bool) -> Iterator[Bench]:
        path = str(tmp_path / "shard.sqlite")
        options = {"fsync": fsync, "ballast_bytes": 0}
        bench = Bench(lambda **rest: SqliteJournal(path, SHARD, **options, **rest))
        yield bench
        bench.close()


class TestPostgresJournal(_All):
    @pytest.fixture
    def bench(self, postgres: Postgres) -> Iterator[Bench]:
        database = postgres.database()
        bench = Bench(lambda **options: PostgresJournal(database, SHARD, **options))
        yield bench
        bench.close()
