"""The combining commit: sharing, isolation of faults, and nobody left waiting."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from chimera import errors
from chimera.store.journal.commit import CHECKPOINT_BYTES
from chimera.store.journal.txn import Txn
from chimera.store.protocol import Settlement
from tests.conformance.journal_kit import NOW, OK, accept, ended, frame, single, states
from tests.unit.store.journal.conftest import Opener


class Gate:
    """Holds the writer, so that requests pile up behind it."""

    def __init__(self, journal: Any) -> None:
        self.committer = journal._committer
        self.entered = threading.Event()
        self.open = threading.Event()
        self.thread = threading.Thread(target=self.committer.run, args=(self._work,))

    def _work(self, txn: Txn) -> None:
        self.entered.set()
        assert self.open.wait(30)

    def wait_for(self, requests: int) -> None:
        """Until so many are queued."""
        end = time.monotonic() + 30
        while len(self.committer._queue) != requests:
            assert time.monotonic() < end, f"{len(self.committer._queue)} requests"
            time.sleep(0.001)


@contextmanager
def held(journal: Any) -> Iterator[Gate]:
    gate = Gate(journal)
    gate.thread.start()
    assert gate.entered.wait(30)
    yield gate
    gate.open.set()
    gate.thread.join(30)


def run_all(gate: Gate, works: list[Any]) -> list[Any]:
    """Queue all works, then let the writer go on; what each returned or raised."""
    found: list[Any] = [None] * len(works)

    def call(index: int) -> None:
        try:
            found[index] = works[index]()
        except BaseException as error:
            found[index] = error

    threads = []
    for index in range(len(works)):
        threads.append(threading.Thread(target=call, args=(index,)))
        threads[-1].start()
        gate.wait_for(index + 1)
    gate.open.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return found


def test_what_is_queued_behind_a_commit_is_one_commit(owned: Opener):
    journal = owned()
    before = journal.stats()["commits"]
    with held(journal) as gate:
        works = [lambda n=n: accept(journal, frame(n * 3, 3, session=n)) for n in range(20)]
        receipts = run_all(gate, works)
    assert [receipt.position for (receipt,) in receipts] == list(range(0, 60, 3))
    assert journal.stats()["commits"] == before + 1
    assert journal.stats()["requests"] >= 20


def test_idle_a_request_is_a_commit(owned: Opener):
    journal = owned()
    before = journal.stats()["commits"]
    for turn in range(5):
        accept(journal, frame(turn * 3, 3))
    assert journal.stats()["commits"] == before + 5


def test_what_writes_nothing_commits_nothing(owned: Opener):
    journal = owned()
    accept(journal, frame())
    before = journal.stats()["commits"]
    assert accept(journal, frame())[0].duplicate
    assert journal.settle(Settlement(singles=(single(99),)), NOW).already == 1
    assert journal.stats()["commits"] == before


def test_one_fault_spoils_nothing_for_those_who_share_the_commit(owned: Opener):
    journal = owned()
    accept(journal, frame(0, 2))

    def fail(txn: Txn) -> None:
        txn.execute("DELETE FROM commands")
        txn.wrote(b"")
        raise KeyError("a bug")

    def sql(txn: Txn) -> None:
        txn.execute("DELETE FROM open_frames")
        txn.wrote(b"")
        txn.execute("INSERT INTO shard SELECT * FROM shard")

    with held(journal) as gate:
        found = run_all(
            gate,
            [
                lambda: accept(journal, frame(2, 2)),
                lambda: journal._committer.run(fail),
                lambda: journal.settle(Settlement(frames=(ended(0, [OK, OK]),)), NOW),
                lambda: journal._committer.run(sql),
                lambda: journal.replay(0, NOW),
            ],
        )
    assert found[0][0].position == 2
    assert isinstance(found[1], KeyError)
    assert found[2].recorded == 2
    assert isinstance(found[3], errors.ImpossibleStep)
    assert isinstance(found[4], errors.NotFound)
    assert states(journal, 0, 4) == [OK, OK, 0, 0]
    assert [found.position for found in journal.recover().open] == [2]


def test_an_interrupted_caller_leaves_nobody_waiting(owned: Opener, monkeypatch):
    journal = owned()
    committer = journal._committer
    with held(journal) as gate:
        interrupted = type("Request", (), {})()

        class Wake:
            """Whoever waits here is interrupted at once."""

            def acquire(self) -> None:
                raise KeyboardInterrupt

            def release(self) -> None:
                raise AssertionError("nobody waits here any more")

        interrupted.wake, interrupted.done, interrupted.error = Wake(), False, None
        with pytest.raises(KeyboardInterrupt):
            committer._run(interrupted)
        (receipt,) = run_all(gate, [lambda: accept(journal, frame())])
    assert receipt[0].position == 0


def test_an_interrupted_writer_leaves_nobody_waiting(owned: Opener):
    journal = owned()

    def interrupt(txn: Txn) -> None:
        raise KeyboardInterrupt

    with held(journal) as gate:
        works = [
            lambda: journal._committer.run(interrupt),
            lambda: accept(journal, frame()),
        ]
        mine, other = run_all(gate, works)
    assert isinstance(mine, KeyboardInterrupt)
    assert isinstance(other, errors.Unavailable)
    assert accept(journal, frame())[0].position == 0


def test_an_interrupted_heir_passes_the_writer_on(owned: Opener):
    committer = owned()._committer
    first, second = _waiting(committer), _waiting(committer)
    committer._queue, committer._busy = [first, second], True
    with committer._mutex:
        committer._pass_on()
    assert committer._heir is first
    committer._give_up(first)
    assert committer._heir is second
    committer._give_up(second)
    assert not committer._busy
    assert committer.run(lambda txn: 7) == 7


def _waiting(committer: Any) -> Any:
    from chimera.store.journal.combine import Request

    return Request(lambda txn: None, bare=False)


class FailingConnection:
    """A connection whose statements that start with a word fail."""

    def __init__(self, db: sqlite3.Connection, word: str, error: sqlite3.Error) -> None:
        self.db, self.word, self.error = db, word, error

    def execute(self, statement: str, *values: Any) -> Any:
        if statement.startswith(self.word):
            raise self.error
        return self.db.execute(statement, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.db, name)


@pytest.mark.parametrize("word", ["COMMIT", "UPDATE shard", "INSERT INTO commands", "BEGIN"])
def test_after_an_io_error_nothing_is_written_any_more(owned: Opener, word: str):
    journal = owned()
    accept(journal, frame(0, 1))
    committer = journal._committer
    healthy = committer._db
    fault = sqlite3.OperationalError("disk I/O error")
    committer._db = FailingConnection(healthy, word, fault)
    with pytest.raises(errors.JournalBroken):
        accept(journal, frame(1, 1))
    committer._db = healthy
    for write in (
        lambda: accept(journal, frame(1, 1)),
        lambda: journal.settle(Settlement(singles=(single(0),)), NOW),
        lambda: journal.take(1, journal.owner()[1]),
    ):
        with pytest.raises(errors.JournalBroken, match="disk I/O error"):
            write()
    assert journal.find("default", 7, 0).state == "queued"
    journal.close()
    assert owned().next_position == 1


def test_a_failed_checkpoint_is_not_swallowed(owned: Opener):
    journal = owned()
    committer = journal._committer
    committer._db = FailingConnection(
        committer._db, "PRAGMA wal_checkpoint", sqlite3.OperationalError("disk I/O error")
    )
    committer._unsaved_bytes = CHECKPOINT_BYTES
    accept(journal, frame(0, 1))  # it was durable before
    with pytest.raises(errors.JournalBroken):
        accept(journal, frame(1, 1))


def test_the_wal_stays_bounded(path, owned: Opener):
    journal = owned()
    for turn in range(200):
        accept(journal, frame(turn, 1, payloads=[b"x" * 60_000]))
    assert path.with_name(path.name + "-wal").stat().st_size < 2 * CHECKPOINT_BYTES


def test_a_closed_journal_says_whose_it_is_not(owned: Opener):
    journal = owned()
    journal.close()
    journal.close()
    for call in (
        lambda: accept(journal, frame()),
        lambda: journal.find("default", 7, 0),
        lambda: journal.take(1, None),
    ):
        with pytest.raises(errors.NotOwner):
            call()
