"""Every version that was ever published, with data in it, becomes the newest one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from alembic import command as alembic
from alembic.config import Config
from alembic.script import ScriptDirectory

from chimera.store import engine, migrations
from chimera.store.audit import GENESIS, chained
from chimera.store.control import ControlStore, Identity
from chimera.store.journal import SqliteJournal
from chimera.store.journal import schema as sqlite_schema
from chimera.store.postgres import PostgresJournal
from chimera.store.postgres import schema as postgres_schema
from chimera.store.protocol import Filter, Journal, Park, SourcePosition
from chimera.swarm.coordinator.effects import Seat
from tests.conformance.journal_kit import (
    FAILED,
    ME,
    NOW,
    OK,
    OPEN,
    OTHER,
    SHARD,
    accept,
    ended,
    frame,
    settle,
    single,
    states,
)
from tests.servers.postgres import Postgres

NAMESPACE = "chimera_local_control"
#: what a store of a version had in it; a new version adds its own line, and none is ever changed
DATA: dict[str, tuple[str, ...]] = {
    "0001": (
        "insert into swarm values (1, 'u-1', 'local')",
        "insert into specs values (1, '{\"name\":\"local\"}', 1000, 'up')",
        "insert into terms values ('orchestrator', 7)",
        "insert into placement values ('local', 3, 'leader/local/0', 5, 1000)",
        "insert into audit values (1, 1000, 'up', 'apply', 'spec', '{}', '"
        + "0" * 64
        + "', '{hash}')",
        "update audit_head set seq = 1, hash = '{hash}'",
    ),
    "0002": ("insert into registry_log values (1, 1000, '{}')",),
}


def versions() -> list[str]:
    config = Config()
    config.set_main_option("script_location", migrations.__path__[0])
    found = [step.revision for step in ScriptDirectory.from_config(config).walk_revisions()]
    return sorted(found)


def test_there_is_data_of_every_version():
    assert versions() == sorted(DATA) == [*sorted(DATA)[:-1], migrations.HEAD]


@pytest.fixture(params=["sqlite", "postgres"])
def control_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return engine.file_url(tmp_path / "control.sqlite")
    server: Postgres = request.getfixturevalue("postgres")
    return server.database()


def old_store(url: str, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A control store as it was at a version, with data."""
    upgrade = alembic.upgrade
    with monkeypatch.context() as patched:
        patched.setattr(alembic, "upgrade", lambda config, _: upgrade(config, version))
        made = engine.connect(url, NAMESPACE)
    digest = chained_hash()
    with engine.writing(made) as connection:
        for known in sorted(DATA):
            for statement in DATA[known] if known <= version else ():
                connection.exec_driver_sql(statement.replace("{hash}", digest))
    made.dispose()


def chained_hash() -> str:
    entry = chained(0, GENESIS, at=1000, actor="up", action="apply", subject="spec", detail="{}")
    return entry.hash


@pytest.mark.parametrize("version", sorted(DATA))
def test_a_control_store_of_each_version_is_brought_up_to_date(
    control_url: str, version: str, monkeypatch: pytest.MonkeyPatch
):
    old_store(control_url, version, monkeypatch)
    for _ in range(2):  # and stays so
        store = ControlStore(control_url, NAMESPACE)
        assert store.identity() == Identity("u-1", "local")
        assert store.spec().body == {"name": "local"}
        assert store.load_placement("local") == (Seat(3, "leader/local/0", 5),)
        assert store.verify_audit() is None
        assert len(store.audit_entries()) == 1
        store.close()
    store = ControlStore(control_url, NAMESPACE)
    assert store.draw_term("orchestrator") == 8
    store.audit("up", "apply", "spec", {}, 2000)
    assert store.verify_audit() is None
    store.close()


@pytest.fixture(params=["sqlite", "postgres"])
def open_journal(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "sqlite":
        path = str(tmp_path / "shard.sqlite")
        return lambda: SqliteJournal(path, SHARD, fsync=False, ballast_bytes=0)
    url = request.getfixturevalue("postgres").database()
    return lambda: PostgresJournal(url, SHARD)


def failed(journal: Journal) -> list[int]:
    return [record.position for record in journal.list(Filter(state="failed"), None, 9)]


@pytest.mark.parametrize("version", range(1, len(sqlite_schema.STEPS) + 1))
def test_a_journal_of_each_version_is_upgraded_by_who_takes_it(
    open_journal: Any, version: int, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patched:
        for schema in (sqlite_schema, postgres_schema):
            patched.setattr(schema, "STEPS", schema.STEPS[:version])
        old = open_journal()
        old.take(0, ME)
        accept(old, frame(0, 3, tags=[["x"], [], []]), frame(3, 2, idempotency=["a", None]))
        settle(
            old, ended(0, [OK, FAILED, OPEN]), singles=(single(3),), parks=(Park(4, NOW, 2, False),)
        )
        old.close()
    journal = open_journal()
    assert journal.owner() == (1, None)
    assert states(journal, 0, 5) == [OK, FAILED, OPEN, OK, OPEN]
    assert failed(journal) == [1]
    journal.take(1, OTHER)
    assert failed(journal) == [1]
    (receipt,) = journal.append([frame(5, 1)], NOW, 99, SourcePosition("orders", 3))
    assert (receipt.position, journal.source_position("orders")) == (5, 3)
    assert [found.position for found in journal.due(0, NOW, 9)] == [4]
    assert accept(journal, frame(0, 3, tags=[["x"], [], []]))[0].duplicate
    assert settle(journal, ended(2, [OK])) == (1, 0)
    journal.close()
