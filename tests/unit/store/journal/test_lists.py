"""What a list costs: no more than what it finds, where a table or an index can tell."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from chimera.frames import outcome
from chimera.store.journal import SqliteJournal, schema
from chimera.store.protocol import Filter
from tests.conformance.journal_kit import DAY, FAILED, NOW, OK, accept, ended, frame, settle, single
from tests.unit.store.journal.conftest import Opener

#: steps of SQLite's machine between two counts
STEPS = 10


class Work:
    """What readers have done since they were asked last."""

    def __init__(self) -> None:
        self.statements = 0
        self.steps = 0

    def watch(self, db: sqlite3.Connection) -> None:
        db.set_trace_callback(self._stated)
        db.set_progress_handler(self._stepped, STEPS)

    def _stated(self, _: str) -> None:
        self.statements += 1

    def _stepped(self) -> int:
        self.steps += STEPS
        return 0

    def of(self, work: Callable[[], Any]) -> tuple[int, int]:
        """Statements and steps of some work."""
        self.statements = self.steps = 0
        work()
        return self.statements, self.steps


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    found = Work()
    connect = schema.connect

    def watched(path: str, **options: Any) -> sqlite3.Connection:
        db = connect(path, **options)
        if options.get("read_only"):
            found.watch(db)
        return db

    monkeypatch.setattr(schema, "connect", watched)
    return found


def singles(journal: SqliteJournal, start: int, stop: int, state: int) -> None:
    """Frames of a task each, tagged, all of which ended alike."""
    accept(journal, *(frame(at, 1, tags=[["x"]]) for at in range(start, stop)))
    settle(journal, *(ended(at, [state]) for at in range(start, stop)))


@pytest.mark.parametrize("state", ["failed", "cancelled", "expired"])
def test_the_few_that_did_not_end_well_are_found_whatever_the_number_of_others(
    owned: Opener, work: Work, state: str
):
    journal = owned()
    code = {name: code for code, name in outcome.NAMES.items()}[state]
    accept(journal, frame(0, 2), frame(2, 1))
    settle(journal, ended(0, [OK, code]), singles=(single(2, code),))

    def look() -> None:
        found = journal.list(Filter(state=state), None, 9)
        assert [record.position for record in found] == [2, 1]

    look()
    singles(journal, 3, 100, OK)
    few = work.of(look)
    singles(journal, 100, 1500, OK)
    assert work.of(look)[1] < 2 * few[1]


@pytest.mark.parametrize(
    "where",
    [
        {"dead_letters": True, "type": "another"},
        {"dead_letters": True, "tenant": "another"},
        {"dead_letters": True, "state": "queued"},
        {"dead_letters": True, "tag": "x", "until": 0},
        {"tag": "x", "type": "another"},
        {"tag": "x", "state": "queued"},
        {"tag": "x", "state": "succeeded"},
        {"tag": "x", "state": "expired"},
        {"state": "failed", "tenant": "another"},
    ],
)
def test_what_is_kept_out_by_the_filter_does_not_leave_the_database(
    owned: Opener, work: Work, where: dict[str, Any]
):
    journal = owned()
    singles(journal, 0, 1500, FAILED)

    def look() -> None:
        assert journal.list(Filter(**where), None, 9) == []

    assert work.of(look)[0] <= len(("BEGIN", "SELECT", "ROLLBACK"))


def test_what_is_scheduled_is_not_looked_at_for_what_is_queued(owned: Opener, work: Work):
    journal = owned()
    accept(journal, *(frame(at, 2, not_before=[NOW + DAY] * 2) for at in range(0, 3000, 2)))
    assert work.of(lambda: journal.list(Filter(state="queued"), None, 9))[0] <= 3
