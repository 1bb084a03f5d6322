"""What a new owner reads: all that is open, and no frame of it."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from chimera import errors
from chimera.frames import command
from chimera.store.journal import schema
from chimera.store.protocol import OpenFrame, Park, Settlement
from tests.conformance.journal_kit import (
    CANCELLED,
    FAILED,
    NOW,
    OK,
    OPEN,
    accept,
    ended,
    frame,
    settle,
    single,
)
from tests.unit.store.journal.conftest import Opener


def forbid_blobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, new connections refuse to read a frame."""
    connect = schema.connect

    def refuse(action: int, table: str | None, column: str | None, *_: Any) -> int:
        reads_frame = action == sqlite3.SQLITE_READ and column in ("frame", "body")
        return sqlite3.SQLITE_DENY if reads_frame else sqlite3.SQLITE_OK

    def guarded(path: str, **options: Any) -> sqlite3.Connection:
        db = connect(path, **options)
        db.set_authorizer(refuse)
        return db

    monkeypatch.setattr(schema, "connect", guarded)


def test_a_takeover_reads_no_frame(owned: Opener, monkeypatch):
    before = owned()
    accept(before, *(frame(at * 5, 5, not_before=[0] * 4 + [NOW + 9]) for at in range(40)))
    for at in range(0, 200, 10):
        settle(before, ended(at, [OK, OPEN, FAILED, OK, OPEN]))
    settle(before, singles=(single(1),), parks=(Park(5, NOW + 50, 2, True),))
    before.cancel(6, "", NOW)
    forbid_blobs(monkeypatch)
    heir = owned()
    found = heir.recover()
    assert len(found.open) == 40
    assert found.open_tasks == 200 - 20 * 3 - 1
    assert [one.position for one in found.holding] == [5]
    assert found.cancelling == (6,)
    with pytest.raises(errors.JournalBroken, match="prohibited"):  # the guard works
        heir.read(0)


def test_everything_open_is_found_with_what_scheduling_needs(owned: Opener):
    journal = owned()
    head = command.Head("resize", "acme", 2, NOW)
    plain, keyed = frame(0, 3), frame(3, 3, head=head, keys=["a", "b", "c"])
    accept(journal, plain, keyed, frame(6, 2), frame(8, 4, idempotency=["x"] * 4))
    settle(journal, ended(6, [OK, CANCELLED]), ended(3, [OPEN, OK, OPEN]))
    found = owned().recover()
    assert found.open == (
        OpenFrame(0, 3, len(plain), 0, "t", "default", 1, ((0, 3),)),
        OpenFrame(3, 3, len(keyed), command.KEYS, "resize", "acme", 2, ((0, 1), (2, 3))),
        OpenFrame(
            8, 4, len(frame(8, 4, idempotency=["x"] * 4)), command.IDEMPOTENCY, "t", "default", 1,
            ((0, 1),),
        ),
    )  # fmt: skip
    assert found.open_tasks == 6


def test_many_frames_bring_one_string_a_name(owned: Opener):
    journal = owned()
    journal.append([frame(at, 1) for at in range(2000)], NOW, 10_000)
    found = journal.recover().open
    assert len(found) == 2000
    assert len({id(one.type) for one in found}) == 1
    assert len({id(one.open) for one in found}) == 1


class Counted:
    """Counts the statements that a connection runs."""

    def __init__(self, journal: Any) -> None:
        self.count = 0
        journal._committer.alone(lambda db: db.set_trace_callback(self._note))

    def _note(self, statement: str) -> None:
        self.count += 1


@pytest.mark.parametrize("frames", [1, 8])
def test_a_plain_frame_costs_a_few_statements_however_many_tasks(owned: Opener, frames: int):
    journal = owned()
    counted = Counted(journal)
    accept(journal, *(frame(at * 1000, 1000) for at in range(frames)))
    assert counted.count <= 4 + 3 * frames  # begin, row, update, commit; look-up and two rows
    counted.count = 0
    frames_of = tuple(ended(at * 1000, [OK] * 1000) for at in range(frames))
    assert journal.settle(Settlement(frames=frames_of), NOW).recorded == 1000 * frames
    assert counted.count <= 4 + 2 * frames


def test_the_outbox_and_the_schedule_are_read_by_their_indexes(owned: Opener):
    plans = {
        "SELECT position FROM schedule WHERE due >= 0 AND due <= 9 ORDER BY due, position LIMIT 9":
            "schedule_due",
        "SELECT position FROM outcomes WHERE position >= 0 AND position < 9": "outcomes_position",
        "SELECT hash FROM commands WHERE tenant = 'a' AND session = 1 AND first < 5"
        " ORDER BY first DESC LIMIT 1": "commands_id",
        "SELECT position FROM cancels WHERE open = 1 ORDER BY position": "cancels_open",
    }  # fmt: skip
    with owned()._readers.snapshot() as execute:
        for query, index in plans.items():
            plan = " ".join(row[3] for row in execute(f"EXPLAIN QUERY PLAN {query}"))
            assert index in plan, (query, plan)
            assert "TEMP B-TREE" not in plan, (query, plan)
