"""Flipped bytes in stored frames are noticed, and cost only what they hit (P4)."""

from __future__ import annotations

from pathlib import Path

import pytest

from chimera import errors
from chimera.frames import outcome
from chimera.store.protocol import Filter, Park
from tests.conformance.journal_kit import (
    FAILED,
    NOW,
    OK,
    OPEN,
    accept,
    ended,
    fates,
    frame,
    settle,
    states,
)
from tests.unit.store.journal.conftest import Opener

#: bytes that are in one place of a file only
MARKS = [b"quick-brown-fox", b"lazy-sleeping-dog"]


def flip(path: Path, mark: bytes) -> None:
    """Change a bit of `mark`, wherever it is in the closed journal."""
    data = bytearray(path.read_bytes())
    assert data.count(mark) == 1
    data[data.index(mark)] ^= 4
    path.write_bytes(data)


@pytest.fixture
def damaged(path: Path, owned: Opener):
    """A journal of two frames of three tasks; task 1 is settled, task 2 parked, the first frame
    unreadable."""
    journal = owned()
    accept(
        journal,
        frame(0, 3, payloads=[MARKS[0], b"1", b"2"], keys=["a", "b", "c"], tags=[["x"]] * 3),
        frame(3, 3),
    )
    settle(journal, ended(0, [OPEN, OK, OPEN]), parks=(Park(2, NOW + 5, 2, True),))
    journal.close()
    flip(path, MARKS[0])
    return owned()


def test_a_corrupt_frame_is_told_where_it_is_read(damaged):
    with pytest.raises(errors.CorruptFrame) as found:
        damaged.read(2)
    assert found.value.details["position"] == 0
    with pytest.raises(errors.CorruptFrame):
        damaged.find("default", 7, 0)
    assert damaged.read(3)[0] == 3
    assert damaged.find("default", 7, 3).state == "queued"


def test_what_has_its_outcome_or_its_own_bytes_is_still_served(damaged):
    record = damaged.find("default", 7, 1)
    assert (record.state, record.body, record.payload) == ("succeeded", b"1", None)
    assert damaged.read(2, parked=True)[0] == 2
    assert len(damaged.list(Filter(), None, 9)) == 6
    assert len(damaged.list(Filter(tag="x"), None, 9)) == 3
    assert damaged.recover().open[0].open == ((0, 1),)


def test_quarantine_ends_what_cannot_be_read(damaged):
    (ended_one,) = damaged.quarantine(1, NOW)
    assert (ended_one.position, ended_one.state) == (0, FAILED)
    failure = outcome.decode_failure(ended_one.body)
    assert (failure.error, failure.retryable) == ("corrupt", False)
    assert damaged.quarantine(0, NOW) == []
    assert damaged.quarantine(3, NOW) == []
    assert states(damaged, 0, 6) == [FAILED, OK, OPEN, OPEN, OPEN, OPEN]
    assert damaged.find("default", 7, 0).state == "failed"
    assert [found.position for found in damaged.due(0, NOW + 9, 9)] == [2]
    assert damaged.stats()["open"] == 4
    with pytest.raises(errors.NotFound):
        damaged.quarantine(6, NOW)
    with pytest.raises(errors.CorruptFrame):
        damaged.replay(0, NOW)


def test_a_corrupt_frame_is_swept_like_any_other(damaged):
    damaged.quarantine(0, NOW)
    settle(damaged, ended(2, [OK]))
    assert damaged.sweep(NOW + 10 * 86_400_000, 9).frames == 1
    assert damaged.list(Filter(tag="x"), None, 9) == []


def test_a_corrupt_outcome_is_noticed_and_can_be_replaced(path, owned: Opener):
    journal = owned()
    accept(journal, frame(0, 4))
    settle(journal, ended(0, [OK, OPEN], bodies=[MARKS[1], b""]))
    settle(journal, ended(2, [OK, FAILED]))
    journal.close()
    flip(path, MARKS[1])
    journal = owned()
    with pytest.raises(errors.CorruptFrame) as found:
        fates(journal, 0, 4)
    assert found.value.details["position"] == 0
    with pytest.raises(errors.CorruptFrame):
        journal.find("default", 7, 0)
    assert journal.find("default", 7, 2).state == "succeeded"
    assert [one.position for one in journal.quarantine(0, NOW)] == [0]
    assert states(journal, 0, 4) == [FAILED, OPEN, OK, FAILED]
    assert journal.recover().open[0].open == ((1, 2),)
    assert (journal.stats()["open"], journal.stats()["dead"]) == (1, 2)


def test_a_corrupt_parked_frame_ends_its_task(path, owned: Opener):
    journal = owned()
    accept(journal, frame(0, 2, payloads=[b"0", b"1"], not_before=[0, NOW + 5]))
    journal._committer.alone(
        lambda db: db.execute("UPDATE schedule SET frame = CAST(x'00' || substr(frame, 2) AS BLOB)")
    )
    with pytest.raises(errors.CorruptFrame):
        journal.read(1, parked=True)
    assert [one.position for one in journal.quarantine(1, NOW)] == [1]
    assert states(journal, 0, 2) == [OPEN, FAILED]
    assert journal.stats()["schedule"] == 0


def test_a_file_that_is_no_journal_is_refused(path, opened: Opener):
    path.write_bytes(b"\x01" * 70_000)
    with pytest.raises(errors.JournalBroken):
        opened()


def test_a_damaged_structure_ends_the_journal(path, owned: Opener):
    journal = owned()
    for turn in range(20):
        accept(journal, frame(turn, 1))
    journal.close()
    data = bytearray(path.read_bytes())
    for page in range(4, len(data) // 16384):
        data[page * 16384 : page * 16384 + 8] = b"\xff" * 8
    path.write_bytes(data)

    def use() -> None:
        journal = owned()
        settle(journal, ended(0, [OK]))
        journal.list(Filter(), None, 99)

    with pytest.raises(errors.JournalBroken):
        use()
