"""A full disk refuses submits, while settling and sweeping go on (P10)."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chimera import errors
from chimera.store.journal.ballast import Ballast
from chimera.store.protocol import Receipt
from tests.conformance.journal_kit import BOUND, DAY, NOW, OK, accept, ended, frame, settle, states
from tests.unit.store.journal.conftest import Opener
from tests.unit.store.journal.test_commit import FailingConnection

BALLAST = 6 << 20
FULL = sqlite3.OperationalError("database or disk is full")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 MiB."""
    where = tmp_path / "disk"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(where)]
    if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk takes the right to mount one")
    yield where
    subprocess.run(["umount", "--lazy", str(where)], check=True)


def fill(journal, first: int = 0) -> int:
    """Append frames until one is refused; the next counter."""
    for counter in range(first, first + 2000):
        (answer,) = journal.append([big(counter)], NOW, BOUND)
        if not isinstance(answer, Receipt):
            assert isinstance(answer, errors.StoreFull), answer
            return counter
    raise AssertionError("the disk does not get full")


def big(counter: int) -> bytes:
    return frame(counter, 1, payloads=[b"x" * 60_000])


def test_on_a_full_disk_settling_and_sweeping_go_on(small_disk: Path, owned: Opener):
    path = small_disk / "shard.sqlite"
    journal = owned(path, ballast_bytes=BALLAST, outcome_retention_s=60)
    assert os.stat(f"{path}.ballast").st_size == BALLAST
    count = fill(journal)
    assert not os.path.exists(f"{path}.ballast")
    assert journal.stats()["full"]
    assert count > 200
    assert accept(journal, big(0))[0].duplicate  # what is in is still known
    for at in range(count):
        assert settle(journal, ended(at, [OK])) == (1, 0)
    assert states(journal, 0, count) == [OK] * count
    while journal.sweep(NOW + 60_000, 50).frames:
        pass
    assert os.stat(f"{path}.ballast").st_size == BALLAST
    assert not journal.stats()["full"]
    accept(journal, big(count))
    assert path.stat().st_size < 10 << 20


def test_a_journal_opens_and_is_taken_on_a_full_disk(small_disk: Path, owned: Opener):
    path = small_disk / "shard.sqlite"
    first = owned(path, ballast_bytes=BALLAST)
    accept(first, big(0), big(1))
    first.close()
    rest = os.statvfs(small_disk)
    (small_disk / "other").write_bytes(b"x" * (rest.f_bavail * rest.f_frsize))
    heir = owned(path, ballast_bytes=BALLAST)
    assert settle(heir, ended(0, [OK])) == (1, 0)
    (refused,) = heir.append([big(2)], NOW, BOUND)
    assert isinstance(refused, errors.StoreFull)
    (small_disk / "other").unlink()
    accept(heir, big(2))


def test_a_full_file_refuses_whole_frames_and_takes_more_after_a_sweep(owned: Opener):
    journal = owned(outcome_retention_s=60)
    journal._committer.alone(lambda db: db.execute("PRAGMA max_page_count = 200").fetchall())
    count = fill(journal)
    assert journal.next_position == count
    assert accept(journal, big(0))[0].duplicate
    settle(journal, *(ended(at, [OK]) for at in range(count)))
    assert journal.sweep(NOW + 60_000, 999).frames == count
    assert fill(journal, count) > count + 10


def test_the_ballast_is_given_back_and_the_same_request_made_again(path: Path, owned: Opener):
    journal = owned(ballast_bytes=4096)
    accept(journal, frame(0, 2))
    committer = journal._committer

    class UntilReleased(FailingConnection):
        def execute(self, statement, *values):
            if committer.ballast.released:
                return self.db.execute(statement, *values)
            return super().execute(statement, *values)

    healthy = committer._db
    committer._db = UntilReleased(healthy, "INSERT", FULL)
    assert settle(journal, ended(0, [OK, 0])) == (1, 0)
    committer._db = healthy
    assert not path.with_name(path.name + ".ballast").exists()
    accept(journal, frame(2, 2))  # there is room: it was made again
    assert path.with_name(path.name + ".ballast").stat().st_size == 4096


def test_without_room_for_the_ballast_nothing_new_is_accepted(path: Path, owned: Opener):
    journal = owned(ballast_bytes=1 << 60)
    (refused,) = journal.append([frame()], NOW, BOUND)
    assert isinstance(refused, errors.StoreFull)
    assert journal.sweep(NOW + DAY, 9).frames == 0
    assert not list(path.parent.glob("*.new"))


def test_ballast_wants_twice_its_size_before_it_is_held_again(tmp_path: Path, monkeypatch):
    ballast = Ballast(str(tmp_path / "ballast"), 1 << 20)
    assert ballast.released
    assert ballast.restore()
    ballast.release()
    free = os.statvfs(tmp_path)
    for blocks, held in (
        ((2 << 20) // free.f_frsize - 1, False),
        ((2 << 20) // free.f_frsize, True),
    ):
        fake = type("Free", (), {"f_bavail": blocks, "f_frsize": free.f_frsize})
        monkeypatch.setattr(os, "statvfs", lambda _, fake=fake: fake)
        assert ballast.restore() is held
    assert Ballast(str(tmp_path / "ballast"), 1 << 20).restore()
    none = Ballast(str(tmp_path / "none"), 0)
    assert none.restore()
    none.release()
    assert none.restore()
