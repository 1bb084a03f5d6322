"""The journal in PostgreSQL while sessions, server and disk fail: nothing lost, nothing doubled."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import pytest

from chimera import errors
from chimera.frames import command
from chimera.store.postgres import PostgresJournal
from chimera.store.postgres.link import Link
from chimera.store.protocol import Receipt
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
from tests.servers.postgres import Postgres, SmallSpace
from tests.servers.processes import wait_until

Opener = Callable[..., PostgresJournal]
_KILL = (
    "select pg_terminate_backend(pid) from pg_stat_activity"
    " where application_name ~ 'writer' and datname = $1"
)


@pytest.fixture
def opener() -> Iterator[Opener]:
    """Opens journals by URL; they are closed at the end."""
    found: list[PostgresJournal] = []

    def opened(url: str, *, epoch: int | None = None, **options: Any) -> PostgresJournal:
        found.append(PostgresJournal(url, SHARD, **options))
        if epoch is not None:
            found[-1].take(epoch, ME)
        return found[-1]

    yield opened
    for journal in found:
        journal.close()


class Load:
    """A client that never gives up: frames of 4, settled at once, sent again while refused."""

    def __init__(self, journal: PostgresJournal, session: int) -> None:
        self.positions: list[int] = []
        self.refused = 0
        self._journal = journal
        self._session = session
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _insist(self, work: Callable[[], Any]) -> Any:
        while True:
            try:
                return work()
            except errors.Unavailable:
                self.refused += 1

    def _run(self) -> None:
        turn = 0
        while not self._stop.is_set():
            sent = frame(turn * 4, 4, session=self._session)
            (receipt,) = self._insist(lambda sent=sent: accept(self._journal, sent))
            done = ended(receipt.position, [OK] * 4)
            recorded, already = self._insist(lambda done=done: settle(self._journal, done))
            assert (recorded, already) in ((4, 0), (0, 4))
            self.positions.append(receipt.position)
            turn += 1

    def stop(self) -> list[int]:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.positions


def check(journal: PostgresJournal, loads: list[Load]) -> None:
    """Everything acknowledged is there, once, and nothing else."""
    positions = sorted(at for load in loads for at in load.stop())
    assert positions == list(range(0, 4 * len(positions), 4))
    assert journal.next_position == 4 * len(positions)
    assert states(journal, 0, journal.next_position) == [OK] * (4 * len(positions))
    assert journal.stats()["open"] == 0


def test_sessions_that_are_killed_all_the_time(postgres: Postgres, opener: Opener):
    url = postgres.database()
    journal = opener(url, epoch=0)
    loads = [Load(journal, session) for session in range(3)]
    killed: list[Any] = []

    def enough() -> bool:
        killed.extend(postgres.ask(_KILL, url.rpartition("/")[2]))
        return len(killed) > 25

    wait_until(enough, "sessions to kill")
    check(journal, loads)


def test_a_crash_of_the_server_and_of_one_of_its_processes(own_postgres: Postgres, opener: Opener):
    journal = opener(own_postgres.url(), epoch=0)
    loads = [Load(journal, session) for session in range(2)]

    def goes_on() -> None:
        counts = [len(load.positions) for load in loads]
        wait_until(
            lambda: all(len(x.positions) > n + 5 for x, n in zip(loads, counts, strict=True)),
            "the load to go on",
        )

    goes_on()
    (backend,) = own_postgres.ask("select pid from pg_stat_activity where application_name ~ 'wri'")
    os.kill(backend[0], 9)  # the server resets every session
    goes_on()
    own_postgres.kill()
    own_postgres.start()
    goes_on()
    check(journal, loads)


@pytest.mark.parametrize("committed", [True, False])
def test_a_commit_whose_answer_is_lost(
    postgres: Postgres, opener: Opener, monkeypatch: pytest.MonkeyPatch, committed: bool
):
    journal = opener(postgres.database(), epoch=0)
    accept(journal, frame(0))
    script, cut = Link.script, []

    def cutting(link: Link, sql: str) -> str:
        if not sql.endswith("COMMIT") or cut:
            return script(link, sql)
        cut.append(link.pid)
        if committed:
            script(link, sql)
        postgres.ask("select pg_terminate_backend($1)", link.pid)
        return script(link, sql)

    monkeypatch.setattr(Link, "script", cutting)
    (receipt,) = accept(journal, frame(3))
    assert cut
    assert (receipt.position, receipt.duplicate) == (3, False)
    cut.clear()
    assert settle(journal, ended(3, [OK] * 3)) == (3, 0)
    assert cut
    assert journal.next_position == 6
    assert accept(journal, frame(3))[0].duplicate
    assert journal.stats()["open"] == 3


def test_a_commit_of_unknown_fate_that_somebody_took_over(
    postgres: Postgres, opener: Opener, monkeypatch: pytest.MonkeyPatch
):
    url = postgres.database()
    journal, heir = opener(url, epoch=0), opener(url)
    script = Link.script

    def cutting(link: Link, sql: str) -> str:
        if sql.endswith("COMMIT") and heir.epoch == 0 and "next_position" in sql:
            script(link, sql)
            heir.take(1, OTHER)
            link.abandon()
            raise asyncpg.ConnectionDoesNotExistError("as if cut off")
        return script(link, sql)

    monkeypatch.setattr(Link, "script", cutting)
    with pytest.raises(errors.StaleEpoch):
        journal.append([frame()], NOW, BOUND)
    assert accept(heir, frame())[0].duplicate  # the client asks the new owner


def test_a_zombie_in_the_middle_of_a_transaction_is_put_out(postgres: Postgres, opener: Opener):
    url = postgres.database()
    journal, heir = opener(url, epoch=0), opener(url)
    taken: list[int] = []

    def stopped(txn: Any) -> None:
        txn.execute("INSERT INTO tags VALUES (?, ?)", ("zombie", 1))
        txn.wrote()
        if not taken:  # this owner sleeps here, with the shard's row locked
            taken.append(heir.take(1, OTHER))

    with pytest.raises(errors.StaleEpoch) as fenced:
        journal._committer.run(stopped)
    assert fenced.value.details["epoch"] == 2
    assert taken == [2]
    with heir._readers.snapshot() as execute:
        assert execute("SELECT tag FROM tags").fetchall() == []
    accept(heir, frame())


def test_a_former_owner_that_knows_the_row_by_heart_is_fenced(postgres: Postgres, opener: Opener):
    url = postgres.database()
    journal, heir = opener(url, epoch=0), opener(url)
    accept(journal, frame(0))
    heir.take(1, OTHER)
    with pytest.raises(errors.StaleEpoch):
        journal.append([frame(3)], NOW, BOUND)
    assert heir.next_position == 3
    assert not accept(heir, frame(3))[0].duplicate


def test_an_owner_notices_that_the_database_went_back(postgres: Postgres, opener: Opener):
    url = postgres.database()
    journal = opener(url, epoch=0)
    accept(journal, frame(0))
    before = snapshot_of(journal)
    accept(journal, frame(3))
    restore(journal, before)  # as a replica that lagged would be
    with pytest.raises(errors.JournalBroken, match="lost commits"):
        journal.append([frame(6)], NOW, BOUND)
    heir = opener(url)
    assert heir.lost_tail
    heir.take(1, OTHER)
    (receipt,) = accept(heir, frame(6))
    assert receipt.position > 6  # what was lost may be out there: its positions stay unused
    assert not opener(url).lost_tail


def snapshot_of(journal: PostgresJournal) -> tuple[Any, ...]:
    with journal._readers.snapshot() as execute:
        return execute("SELECT commits, chain, next_position FROM shard").fetchone()


def restore(journal: PostgresJournal, row: tuple[Any, ...]) -> None:
    journal._committer.with_link(
        lambda link: link.execute("UPDATE shard SET commits = ?, chain = ?, next_position = ?", row)
    )


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (lambda url: url.replace(":s3cret", ":wrong"), errors.StoreRefused, "password"),
        (lambda url: url + "x", errors.Unavailable, "no such database"),
        (lambda url: url.replace("postgresql:", "mysql:"), errors.InvalidRequest, "invalid DSN"),
        (lambda url: url.rpartition("@")[0] + "@127.0.0.1:1/d", errors.Unavailable, "not answer"),
    ],
    ids=["password", "database", "scheme", "down"],
)
def test_who_cannot_connect_is_told_why_and_not_the_password(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch, change: Any, kind: Any, said: str
):
    monkeypatch.setattr("chimera.store.postgres.commit.PATIENCE_S", 0.2)
    with pytest.raises(kind, match=said) as refused:
        PostgresJournal(change(postgres.database()), SHARD)
    assert type(refused.value) is kind
    assert "s3cret" not in str(refused.value)
    assert "wrong" not in str(refused.value)


def test_a_user_without_rights_is_told_which(postgres: Postgres):
    url = postgres.database()
    postgres.ask(f"create role r{url[-6:]} login password 'p'")
    poor = url.replace("postgres:s3cret-in-tests", f"r{url[-6:]}:p")
    with pytest.raises(errors.InvalidRequest, match="lacks a right"):
        PostgresJournal(poor, SHARD)


def test_another_shards_or_swarms_journal_is_refused(postgres: Postgres, opener: Opener):
    url = postgres.database()
    opener(url, swarm_id="one")
    with pytest.raises(errors.ChimeraError, match="belongs to shard 3 of swarm 'one'"):
        PostgresJournal(url, SHARD, swarm_id="two")
    opener(url, swarm="other", swarm_id="two")  # in a namespace of its own


def test_a_commit_survives_a_crash_even_if_the_server_is_set_to_forget(
    postgres: Postgres, opener: Opener
):
    url = postgres.database()
    postgres.ask(f"alter database {url.rpartition('/')[2]} set synchronous_commit = off")
    journal = opener(url, epoch=0)
    shown = journal._committer.with_link(lambda link: link.execute("SHOW synchronous_commit"))
    assert shown.fetchone() == ("on",)


def test_a_full_disk_refuses_and_mends(small_space: SmallSpace, opener: Opener):
    journal = opener(small_space.url, epoch=0)
    big = [frame(at, 1, payloads=[bytes(command.BYTES_MAX - 200)]) for at in range(12)]
    (first,) = accept(journal, big[0])
    small_space.fill()
    answers = [answer for one in big[1:] for answer in journal.append([one], NOW, BOUND)]
    kept = [answer.position for answer in answers if isinstance(answer, Receipt)]
    refused = [answer for answer in answers if not isinstance(answer, Receipt)]
    assert {type(answer) for answer in refused} == {errors.StoreFull}
    kept.insert(0, first.position)
    assert kept == list(range(len(kept)))
    small_space.free()
    assert accept(journal, *big[-len(refused) :])[0].position == len(kept)
    assert settle(journal, ended(0, [OK] * len(kept))) == (len(kept), 0)
