"""The control store in a SQLite file: what is peculiar to that."""

from __future__ import annotations

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from chimera.errors import StoreFull, Unavailable
from chimera.store import engine, migrations
from chimera.store.control import ControlStore


def test_head_is_the_newest_step():
    config = Config()
    config.set_main_option("script_location", migrations.__path__[0])
    assert ScriptDirectory.from_config(config).get_current_head() == migrations.HEAD


def test_a_store_in_memory_would_be_another_one_for_each_thread():
    with pytest.raises(ValueError, match="needs a file"):
        ControlStore("sqlite://")


def test_a_full_disk_and_a_broken_file_have_their_own_errors(tmp_path):
    store = ControlStore.open(tmp_path / "control.sqlite")
    with engine.writing(store._engine) as connection:
        connection.exec_driver_sql("pragma max_page_count = 1")
    with pytest.raises(StoreFull):
        store.audit("x", "y", "z" * 1_000_000, {}, 1)
    store.close()
    (tmp_path / "other").write_bytes(b"no database" * 1000)
    with pytest.raises(Unavailable, match="not a database"):
        ControlStore.open(tmp_path / "other")
