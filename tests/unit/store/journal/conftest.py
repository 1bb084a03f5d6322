"""A journal of its own for each test, and copies of one as a crash would leave it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chimera.store.journal import SqliteJournal
from tests.conformance.journal_kit import ME, SHARD

Opener = Callable[..., SqliteJournal]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shard.sqlite"


@pytest.fixture
def opened(path: Path) -> Iterator[Opener]:
    """Opens journals, the one of this test unless another path is given."""
    found: list[SqliteJournal] = []

    def opener(where: Path | None = None, **options: Any) -> SqliteJournal:
        options = {"fsync": False, "ballast_bytes": 0, **options}
        found.append(SqliteJournal(str(where or path), SHARD, **options))
        return found[-1]

    yield opener
    for journal in found:
        journal.close()


@pytest.fixture
def owned(opened: Opener) -> Opener:
    """Opens journals and takes them."""

    def opener(where: Path | None = None, **options: Any) -> SqliteJournal:
        journal = opened(where, **options)
        journal.take(journal.owner()[0], ME)
        return journal

    return opener


@pytest.fixture
def crashed(path: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Copies a journal while it is open, without the file that power loss takes: -shm.

    Another process does it: to open and close the file here would drop SQLite's locks.
    """

    def copy(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        files = [str(path) + end for end in ("", "-wal", ".mark")]
        subprocess.run(["cp", *files, str(folder)], check=True)
        return folder / path.name

    return copy
