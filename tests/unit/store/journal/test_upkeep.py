"""Sweeping and the outbox: space comes back, and nothing unread goes too early (P10)."""

from __future__ import annotations

from pathlib import Path

import pytest

from chimera import errors
from chimera.frames import outcome
from chimera.store.journal import SqliteJournal
from tests.conformance.journal_kit import (
    DAY,
    FAILED,
    NOW,
    OK,
    OPEN,
    OTHER,
    accept,
    ended,
    frame,
    settle,
    single,
)
from tests.conformance.journal_kit import (
    opened as open_frames,
)
from tests.unit.store.journal.conftest import Opener

LATER = NOW + 60_000


def test_the_file_gets_smaller(path: Path, owned: Opener):
    journal = owned(outcome_retention_s=60)
    for turn in range(150):
        accept(journal, frame(turn, 1, payloads=[b"x" * 60_000]))
        settle(journal, ended(turn, [OK]))
    full = path.stat().st_size
    assert full > 8 << 20
    swept = 0
    for _ in range(40):
        swept += journal.sweep(LATER, 20).frames
    assert swept == 150
    assert path.stat().st_size < 5 << 20
    assert journal.stats()["bytes"] < 1 << 20


def test_what_must_stay_does_not_keep_the_rest(owned: Opener):
    journal = owned(outcome_retention_s=60, idempotency_retention_s=60)
    for turn in range(30):
        accept(journal, frame(turn, 1, idempotency=[str(turn)]))
        if turn >= 10:
            settle(journal, ended(turn, [OK]))
    done = [journal.sweep(LATER, 4) for _ in range(20)]
    assert sum(one.frames for one in done) == 20
    assert sum(one.idempotency_keys for one in done) == 20
    assert len(open_frames(journal)) == 10
    settle(journal, *(ended(turn, [OK]) for turn in range(10)))
    done = [journal.sweep(LATER + DAY, 4) for _ in range(30)]
    assert sum(one.frames for one in done) == 10


def test_nothing_is_left_of_a_swept_task(owned: Opener):
    journal = owned(outcome_retention_s=60, idempotency_retention_s=60, resend_window_s=600)
    accept(
        journal,
        frame(0, 3, tags=[["x"], ["y"], []], idempotency=["a", "b", None], keys=["k"] * 3),
    )
    journal.memoise(0, "step", b"1")
    journal.cancel(2, "", NOW)
    settle(journal, ended(0, [FAILED, OK, OPEN]), singles=(single(2),))
    assert journal.sweep(LATER, 9).frames == 1
    journal.sweep(LATER + 600_000, 9)
    with journal._readers.snapshot() as execute:
        tables = execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        rows = {
            name: execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            for (name,) in tables
            if name != "shard"
        }
    assert not any(rows.values()), rows
    assert journal.stats()["open"] == journal.stats()["dead"] == 0


def test_the_outbox_follows_the_order_of_recording(owned: Opener):
    journal = owned()
    accept(journal, frame(0, 4), frame(4, 2))
    settle(journal, ended(4, [OK, FAILED]))
    settle(journal, ended(0, [OK, OPEN, OPEN, OPEN]), singles=(single(2), single(1)))
    settle(journal, ended(0, [FAILED] * 4))
    entries = journal.outbox(0, 99)
    told = [
        (outcome.header(entry.frame).position, outcome.states(entry.frame))
        if entry.frame
        else entry.single.position
        for entry in entries
    ]
    assert told == [
        (4, bytes([OK, FAILED])),
        (0, bytes([OK, OPEN, OPEN, OPEN])),
        2,
        1,
        (0, bytes([OPEN, OPEN, OPEN, FAILED])),
    ]
    assert [entry.seq for entry in entries] == [1, 2, 3, 4, 5]
    assert {entry.at for entry in entries} == {NOW}
    assert [entry.seq for entry in journal.outbox(2, 2)] == [3, 4]


def test_numbers_go_on_over_a_takeover(opened: Opener, owned: Opener):
    journal = owned()
    accept(journal, frame(0, 2))
    settle(journal, ended(0, [OK, OPEN]))
    journal.publish("results", 1, NOW)
    heir = opened()
    heir.take(1, OTHER)
    settle(heir, ended(1, [OK]))
    assert [entry.seq for entry in heir.outbox(heir.published("results"), 9)] == [2]
    with pytest.raises(errors.StaleEpoch):
        journal.publish("results", 2, NOW)


def settled(journal: SqliteJournal, frames: int) -> None:
    for turn in range(frames):
        accept(journal, frame(turn, 1))
        settle(journal, ended(turn, [OK]))


def test_the_sweep_stops_at_what_a_consumer_has_not_read(owned: Opener):
    journal = owned(outcome_retention_s=60)
    settled(journal, 4)
    journal.publish("results", 4, NOW + 30_000)
    journal.publish("audit", 2, NOW + 30_000)
    journal.publish("audit", 1, NOW + 30_000)  # late news
    assert journal.published("audit") == 2
    swept = journal.sweep(LATER, 9)
    assert (swept.frames, swept.unread) == (2, 0)
    journal.publish("audit", 3, NOW + 50_000)
    assert journal.sweep(LATER, 9).frames == 1
    journal.forget("audit")
    swept = journal.sweep(LATER, 9)
    assert (swept.frames, swept.unread) == (1, 0)


def test_an_abandoned_consumer_loses_to_retention_and_is_counted(owned: Opener):
    journal = owned(outcome_retention_s=60)
    settled(journal, 4)
    journal.publish("audit", 1, NOW)
    swept = journal.sweep(LATER, 9)
    assert (swept.frames, swept.unread) == (4, 3)
