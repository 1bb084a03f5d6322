"""How a journal's file is born, and whose it is."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from chimera.errors import ChimeraError, Unavailable
from chimera.store.journal import SqliteJournal, faults, schema
from chimera.store.journal.readers import Readers
from tests.conformance.journal_kit import ME, SHARD, accept, frame
from tests.unit.store.journal.conftest import Opener


def pragma(path: Path, name: str) -> int:
    db = sqlite3.connect(path)
    try:
        return db.execute(f"PRAGMA {name}").fetchone()[0]
    finally:
        db.close()


def test_a_file_is_born_with_large_pages_and_incremental_vacuum(path: Path, opened: Opener):
    opened().close()
    assert pragma(path, "page_size") == schema.PAGE_BYTES
    assert pragma(path, "auto_vacuum") == 2
    assert pragma(path, "journal_mode") == "wal"
    assert pragma(path, "user_version") == len(schema.STEPS)


def test_a_birth_that_was_cut_short_goes_on(path: Path, opened: Opener):
    schema.connect(str(path), fsync=False).close()
    opened().close()
    assert pragma(path, "page_size") == schema.PAGE_BYTES
    assert pragma(path, "auto_vacuum") == 2


def test_another_shards_or_swarms_journal_is_refused(path: Path, opened: Opener):
    opened(swarm_id="one").close()
    opened(swarm_id="one").close()
    opened().close()
    with pytest.raises(ChimeraError, match="belongs to"):
        opened(swarm_id="two")
    with pytest.raises(ChimeraError, match="belongs to"):
        SqliteJournal(str(path), SHARD + 1, fsync=False, ballast_bytes=0)


def test_a_newer_journal_is_refused(path: Path, opened: Opener):
    opened().close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(ChimeraError, match="newer"):
        opened()


def test_an_older_journal_is_upgraded_by_who_takes_it(path: Path, opened: Opener, monkeypatch):
    journal = opened()
    journal.take(0, ME)
    accept(journal, frame())
    journal.close()
    step = "CREATE TABLE later (a INTEGER); -- a comment;\nINSERT INTO later VALUES (7);"
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, step))
    journal = opened()
    assert pragma(path, "user_version") == len(schema.STEPS) - 1
    journal.take(1, ME)
    assert pragma(path, "user_version") == len(schema.STEPS)
    journal.close()
    db = sqlite3.connect(path)
    assert db.execute("SELECT a FROM later").fetchall() == [(7,)]
    db.close()


def test_own_sessions_differ(tmp_path: Path, opened: Opener):
    sessions = set()
    for name in "abc":
        with opened(tmp_path / name)._readers.snapshot() as execute:
            sessions |= set(execute("SELECT session FROM shard").fetchone())
    assert len(sessions) == 3


def test_a_missing_directory_is_an_error_of_ours(tmp_path: Path, opened: Opener):
    with pytest.raises(ChimeraError, match="unable to open"):
        opened(tmp_path / "missing" / "shard.sqlite")


def test_a_reader_does_not_make_a_journal_that_is_gone(path: Path, opened: Opener):
    journal = opened()
    journal.close()
    path.unlink()
    reader = Readers(str(path), lambda error: faults.translate(error, str(path)))
    with pytest.raises(Unavailable), reader.snapshot():
        pass
    assert not path.exists()
