"""Each journal against the port's contract."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from chimera.store.journal import SqliteJournal
from chimera.store.memory import MemoryJournal
from chimera.store.memory_disk import MemoryDisk
from chimera.store.postgres import PostgresJournal
from chimera.store.postgres.link import Link
from chimera.store.protocol import Filter
from tests.conformance.journal_kit import (
    FAILED,
    OK,
    SHARD,
    Bench,
    accept,
    frame,
    settle,
    single,
)
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

    def test_a_page_takes_as_many_questions_however_long_it_is(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ):
        journal = bench.owned()
        accept(journal, *(frame(at, 1, keys=["k"], tags=[["x"]]) for at in range(200)))
        settle(journal, singles=[single(at, FAILED if at % 3 else OK) for at in range(0, 200, 2)])
        asked = 0
        drive = Link.drive

        def counted(link: Link, work: Coroutine[Any, Any, Any]) -> Any:
            nonlocal asked
            asked += 1
            return drive(link, work)

        monkeypatch.setattr(Link, "drive", counted)

        def questions(where: Filter, limit: int) -> int:
            nonlocal asked
            journal.list(where, None, limit)  # statements are prepared
            asked = 0
            assert len(journal.list(where, None, limit)) == limit
            return asked

        for where in (Filter(), Filter(tag="x"), Filter(state="failed"), Filter(type="t")):
            assert questions(where, 60) <= questions(where, 4) <= 12, where
