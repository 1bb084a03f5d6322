"""Parts of the journal that need no journal."""

from __future__ import annotations

import errno
import os
import sqlite3

import pytest

from chimera import errors
from chimera.frames import command, outcome
from chimera.store.journal import faults, idempotency, receipts, settle, states
from chimera.store.journal.mark import Mark, MarkFile
from chimera.store.journal.pace import Pace
from chimera.store.journal.schedule import Cutter
from chimera.store.protocol import Skipped
from tests.conformance.journal_kit import frame


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (sqlite3.OperationalError("database or disk is full"), errors.StoreFull),
        (sqlite3.OperationalError("disk I/O error"), errors.JournalBroken),
        (sqlite3.OperationalError("database is locked"), errors.Unavailable),
        (sqlite3.OperationalError("database table is locked"), errors.Unavailable),
        (sqlite3.DatabaseError("database disk image is malformed"), errors.JournalBroken),
        (sqlite3.DatabaseError("file is not a database"), errors.JournalBroken),
        (sqlite3.OperationalError("unable to open database file"), errors.Unavailable),
        (sqlite3.IntegrityError("UNIQUE constraint failed"), errors.ImpossibleStep),
    ],
)
def test_sqlite_errors_in_our_words(error: sqlite3.Error, kind: type[errors.ChimeraError]):
    found = faults.translate(error, "/data/shard")
    assert type(found) is kind
    assert "/data/shard" in found.message


def test_a_wal_index_without_room_is_a_full_disk():
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorname = "SQLITE_IOERR_SHMSIZE"
    assert type(faults.translate(error, "")) is errors.StoreFull


def test_a_mark_is_read_as_it_was_written(tmp_path):
    file = MarkFile(str(tmp_path / "mark"))
    assert file.read() is None
    file.write(Mark(7, 0xFFFFFFFF))
    file.write(Mark(1 << 40, 0))
    assert MarkFile(str(tmp_path / "mark")).read() == Mark(1 << 40, 0)
    with (tmp_path / "mark").open("r+b") as raw:
        raw.seek(6)
        raw.write(b"\xff")
    assert file.read() is None
    file.close()
    file.close()


def test_a_mark_without_room_is_left_as_it_is(tmp_path, monkeypatch):
    file = MarkFile(str(tmp_path / "mark"))
    for number, raised in ((errno.ENOSPC, False), (errno.EIO, True)):

        def fail(*_: object, number: int = number) -> int:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "pwrite", fail)
        if raised:
            with pytest.raises(OSError, match="Input/output"):
                file.write(Mark(1, 1))
        else:
            file.write(Mark(1, 1))


def test_pace_tells_when_there_will_be_room():
    pace = Pace()
    assert pace.wait_for(100) == 1.0
    pace.note(1000, 5)
    pace.note(1500, 500)
    pace.note(2000, 500)
    assert pace.wait_for(2000) == 2.0
    assert pace.wait_for(1) == 0.05
    assert pace.wait_for(1 << 40) == 10.0


def test_open_runs():
    assert states.runs(b"") == []
    assert states.runs(bytes(3)) == [(0, 3)]
    assert states.runs(bytes([1, 0, 0, 2, 0])) == [(1, 3), (4, 5)]
    assert states.runs(bytes([0, 1])) == [(0, 1)]


def test_receipts_come_back_whole():
    skipped = (
        Skipped(1, "id", None),
        Skipped(3, None, errors.IdempotencyConflict("no", task_id="x")),
    )
    again, parked = receipts.unpack(receipts.pack(skipped, (2, 4)))
    assert again[0] == skipped[0]
    assert again[1].error.to_wire() == skipped[1].error.to_wire()
    assert parked == (2, 4)
    assert receipts.pack((), ()) is None
    assert receipts.skips(skipped, 4) == bytes([0, 1, 0, 1])
    for session in (0, 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1):
        assert -(1 << 63) <= receipts.signed(session) < 1 << 63
        assert receipts.unsigned(receipts.signed(session)) == session


def test_no_two_scopes_are_one():
    parts = ["", "a", "ab", "b", "1:a"]
    scopes = {
        idempotency.scope(tenant, type, key, name)
        for tenant in parts
        for type in parts
        for key in (*parts, None)
        for name in parts
    }
    assert len(scopes) == 5 * 5 * 6 * 5


def test_cutting_one_task_is_what_the_frame_itself_would_cut():
    sent = frame(
        5, 3, keys=["a", None, "c"], not_before=[1, 2, 3], tags=[["x"], [], ["y"]], claims=[0, 2],
        idempotency=[None, "i", None], deadline=[7, 8, 9],
    )  # fmt: skip
    cutter = Cutter(sent)
    for index in range(3):
        mine, theirs = cutter.cut(index), command.cut(sent, index, index + 1)
        assert command.head(mine) == command.head(theirs)
        assert command.columns(mine) == command.columns(theirs)
        assert command.payloads(mine) == command.payloads(theirs)
        assert command.verify(mine)[:6] == command.verify(theirs)[:6]
    assert Cutter(frame(0, 2)).options(0) is None


def test_a_reason_is_one_short_line():
    body = outcome.encode_failure(outcome.Failure("ValueError", "x" * 1000))
    assert settle.reason(body).startswith("ValueError: xxx")
    assert len(settle.reason(body)) == 300
    assert settle.reason(b'{"claim": "elsewhere"}') == ""
    assert settle.reason(b"\xff") == ""
