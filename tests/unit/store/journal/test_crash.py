"""G1: what was acknowledged outlives the process, and power loss with fsync on (P4)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chimera import errors
from chimera.store.journal import SqliteJournal
from chimera.store.journal.recovery import LOST_POSITIONS
from tests.conformance.journal_kit import (
    BOUND,
    ME,
    NOW,
    OK,
    OTHER,
    SHARD,
    accept,
    ended,
    frame,
    settle,
    states,
)
from tests.unit.store.journal.conftest import Opener

WRITER = """
import sys
from chimera.store.journal import SqliteJournal
from tests.conformance.journal_kit import ME, NOW, SHARD, OK, accept, ended, frame, settle
journal = SqliteJournal(sys.argv[1], SHARD, fsync=sys.argv[2] == "fsync", ballast_bytes=0)
journal.take(0, ME)
for turn in range(100_000):
    (receipt,) = accept(journal, frame(turn * 2, 2))
    settle(journal, ended(receipt.position, [OK, 0]))
    print(turn, flush=True)
"""
HOLDER = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print(flush=True)
time.sleep(600)
"""


def wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def change(path: Path, at: int, bit: int = 1) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ bit]))


@pytest.mark.parametrize("durability", ["os", "fsync"])
def test_nothing_acknowledged_is_lost_with_the_process(path, owned: Opener, durability):
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), durability], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    for _ in range(40):
        last = int(writer.stdout.readline())
    writer.kill()
    last = max([last, *(int(line) for line in writer.stdout if line.endswith("\n"))])
    writer.wait()
    writer.stdout.close()
    journal = owned()
    assert not journal.lost_tail
    assert states(journal, 0, 2 * last + 2) == [OK, 0] * (last + 1)
    assert journal.find("default", 7, 2 * last + 1).state == "queued"


def test_fsync_is_what_the_setting_says(opened: Opener, tmp_path):
    for fsync, level in ((False, 1), (True, 2)):
        journal = opened(tmp_path / f"{fsync}.sqlite", fsync=fsync)
        found = journal._committer.alone(lambda db: db.execute("PRAGMA synchronous").fetchone())
        assert found == (level,)


def test_a_torn_tail_costs_nothing_that_was_acknowledged(
    path, owned: Opener, crashed: Callable[[str], Path]
):
    journal = owned(fsync=True)
    accept(journal, frame(0, 2))
    settle(journal, ended(0, [OK, 0]))
    kept = wal(path).stat().st_size
    before = crashed("before")
    accept(journal, frame(2, 500))  # was being written when the power went
    torn = wal(path).stat().st_size
    for cut in range(kept, torn, (torn - kept) // 7):
        after = crashed(f"cut-{cut}")
        os.truncate(wal(after), cut)
        after.with_name(after.name + ".mark").write_bytes(
            before.with_name(before.name + ".mark").read_bytes()
        )
        survivor = owned(after, fsync=True)
        assert not survivor.lost_tail
        assert states(survivor, 0, 2) == [OK, 0]
        assert survivor.next_position == 2


def test_garbage_behind_the_last_commit_is_no_loss(
    path, owned: Opener, crashed: Callable[[str], Path]
):
    accept(owned(fsync=True), frame(0, 2))
    after = crashed("after")
    with wal(after).open("ab") as file:
        file.write(os.urandom(50_000))
    survivor = owned(after, fsync=True)
    assert not survivor.lost_tail
    assert survivor.next_position == 2


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.99])
def test_a_flipped_byte_in_the_wal_is_noticed(
    path, owned: Opener, opened: Opener, crashed: Callable[[str], Path], share: float
):
    journal = owned()
    for turn in range(6):
        accept(journal, frame(turn * 2, 2))
    after = crashed("after")
    change(wal(after), int(share * wal(after).stat().st_size))
    survivor = opened(after)
    assert survivor.lost_tail
    assert survivor.owner() == (1, ME)  # the epoch itself is safe


def test_a_loss_shows_until_somebody_goes_on_without_it(
    path, owned: Opener, opened: Opener, crashed: Callable[[str], Path]
):
    accept(owned(), frame(0, 2), frame(2, 2))
    after = crashed("after")
    os.truncate(wal(after), 0)
    waiting = opened(after)
    assert waiting.lost_tail
    waiting.take(1, OTHER)
    waiting.close()
    heir = owned(after)
    assert heir.lost_tail
    accept(heir, frame(4, 1))
    heir.close()
    assert not opened(after).lost_tail


def test_what_is_still_out_there_of_a_lost_task_hits_no_other_task(
    path, owned: Opener, crashed: Callable[[str], Path]
):
    accept(owned(), frame(0, 2), frame(2, 2))
    after = crashed("after")
    os.truncate(wal(after), 0)
    heir = owned(after)
    (receipt,) = accept(heir, frame(10, 4))
    assert receipt.position >= LOST_POSITIONS
    assert settle(heir, ended(0, [OK] * 4)) == (0, 4)
    assert states(heir, receipt.position, receipt.position + 4) == [0] * 4


def test_a_journal_that_vanished_is_a_lost_tail(path, owned: Opener, opened: Opener):
    journal = owned()
    accept(journal, frame())
    journal.close()
    path.unlink()
    assert opened().lost_tail


def test_commits_that_are_not_those_acknowledged_are_noticed(
    path, tmp_path, owned: Opener, opened: Opener
):
    one, two = tmp_path / "one.sqlite", tmp_path / "two.sqlite"
    for where, payload in ((one, b"1"), (two, b"2")):
        journal = owned(where)
        accept(journal, frame(0, 1, payloads=[payload]))
        journal.close()
    one.replace(two)
    assert opened(two).lost_tail


def test_a_stopped_writer_is_in_the_way_until_it_is_dead(path, opened: Opener, owned: Opener):
    first = owned()
    stopped = subprocess.Popen(
        [
            sys.executable,
            "-c",
            HOLDER,
            str(path),
        ],
        stdout=subprocess.PIPE,
    )
    assert stopped.stdout is not None
    try:
        stopped.stdout.readline()
        stopped.send_signal(signal.SIGSTOP)
        heir = opened()
        with pytest.raises(errors.Unavailable):
            heir.take(1, OTHER)
        assert heir.owner() == (1, ME)
        with pytest.raises(errors.Unavailable):
            first.append([frame()], NOW, BOUND)
    finally:
        stopped.kill()
        stopped.wait()
        stopped.stdout.close()
    assert heir.take(1, OTHER) == 2
    accept(heir, frame())


def test_a_take_that_a_reader_delayed_is_made_again_as_it_was(path, opened: Opener):
    heir = opened()
    with heir._readers.snapshot() as execute:
        execute("SELECT * FROM shard").fetchall()
        with pytest.raises(errors.Unavailable):
            heir.take(0, ME)
        assert heir.epoch == 0  # not served before the checkpoint
    assert heir.take(0, ME) == 1
    with pytest.raises(errors.StaleEpoch):
        opened().take(0, OTHER)


def test_after_taking_the_epoch_is_in_the_file_itself(path, owned: Opener, tmp_path):
    journal = owned()
    bare = tmp_path / "bare"
    bare.mkdir()
    subprocess.run(["cp", str(path), str(bare)], check=True)
    assert wal(path).stat().st_size == 0
    found = SqliteJournal(str(bare / path.name), SHARD, fsync=False, ballast_bytes=0)
    assert found.owner() == (1, ME) == journal.owner()
    found.close()
