"""Transactions of a journal in PostgreSQL, over connections that may be lost at any point.

Each *starts* by writing the shard's row, where epoch and commit number are still those that the
owner knows (P22): a former owner waits there for the new one's commit, and then writes nothing. The
rest of the row need not be read, for nobody else can have written it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from chimera.errors import JournalBroken, NotOwner, StaleEpoch, Unavailable
from chimera.store.journal.combine import Combiner, Request
from chimera.store.journal.mark import Mark
from chimera.store.journal.txn import READ, WRITTEN, Txn
from chimera.store.postgres import faults
from chimera.store.postgres.faults import Interrupted
from chimera.store.postgres.link import Link

T = TypeVar("T")

#: how long requests wait for a database that is away; then they are refused, seconds
PATIENCE_S = 5.0
#: between two tries to reach it, seconds: at first, and at most
_PAUSE_S = 0.02
_PAUSE_MAX_S = 0.5

_READ = f"SELECT {READ} FROM shard"


@dataclass(slots=True)
class _Fate:
    """A commit that was sent: if its answer is lost, the shard's row will tell."""

    mark: Mark | None = None
    results: list[Any] = field(default_factory=list)


class Committer(Combiner):
    """The writing connection of a journal, and who may use it next."""

    def __init__(self, connect: Callable[[], Link], where: str) -> None:
        super().__init__()
        self._connect = connect
        self._where = where
        self._link: Link | None = None
        #: the shard's row, as this owner wrote it last
        self._row: tuple[int, ...] | None = None
        #: what was acknowledged last
        self._mark: Mark | None = None
        #: session whose transaction may still hold the row
        self._left_behind = 0
        self._until = 0.0
        self.patience_s = PATIENCE_S

    def _write(self, batch: list[Request[Any]]) -> None:
        self._until = time.monotonic() + self.patience_s  # for all of them together
        super()._write(batch)

    def served(self) -> None:
        pass

    def attempt(self, request: Request[T]) -> T:
        if request.bare:
            return request.work(self)
        result: T = self.transact([request.work])[0]
        return result

    def transact(self, works: list[Callable[[Txn], Any]]) -> list[Any]:
        fate = _Fate()
        try:
            return self.patiently(lambda link: self._commit(link, works, fate))
        except BaseException:
            self._row = None
            raise

    def with_link(self, work: Callable[[Link], T]) -> T:
        """Run `work` with the writing connection, between transactions."""
        return self.alone(lambda _: self.patiently(work))

    def patiently(self, work: Callable[[Link], T]) -> T:
        """Run `work` with a connection, again if that is lost; in the writer's turn only."""
        pause = _PAUSE_S
        while True:
            self.check()
            connected = self._link is not None and self._link.alive
            if not connected and time.monotonic() >= self._until:
                # of many requests that wait together, not each tries on its own
                raise Unavailable(f"{self._where} does not answer", retry_after=0.5)
            try:
                return self._once(work)
            except Interrupted as cut:
                if time.monotonic() + pause >= self._until:
                    raise Unavailable(cut.message, retry_after=cut.retry_after) from cut
            time.sleep(pause)
            pause = min(2 * pause, _PAUSE_MAX_S)

    def _once(self, work: Callable[[Link], T]) -> T:
        link: Link | None = None
        try:
            link = self._connected()
            return work(link)
        except faults.ERRORS as error:
            raise faults.translate(error, self._where) from error
        finally:
            if link is not None:
                self._undo(link)

    def _connected(self) -> Link:
        if self._link is not None and self._link.alive:
            return self._link
        if self._link is not None:
            self._left_behind, self._row = self._link.pid, None
            self._link.close()
            self._link = None
        self._link = link = self._connect()
        if self._left_behind:  # it may not know yet that its client is gone
            evict(link, self._left_behind)
            self._left_behind = 0
        return link

    def _undo(self, link: Link) -> None:
        if not link.in_transaction():
            return
        try:
            link.script("ROLLBACK")
        except faults.ERRORS:
            link.abandon()

    def _commit(self, link: Link, works: list[Callable[[Txn], Any]], fate: _Fate) -> list[Any]:
        row = self._row or self._read(link)
        if fate.mark == row[1:3]:  # an earlier try was committed, only the answer was lost
            self._acknowledge(row)
            return fate.results
        fence = f"UPDATE shard SET commits = commits + 1 WHERE epoch = {row[0]}"
        if link.script(f"BEGIN; {fence} AND commits = {row[1]}") != "UPDATE 1":
            self._row = None
            raise Interrupted("the shard's row is not what was read: read it again")
        txn = Txn(link.execute, link.executemany, row)
        results = [work(txn) for work in works]
        if txn.touched:
            written = txn.written()
            fate.mark, fate.results = Mark(*written[:2]), results
            columns = ", ".join(f"{a} = {b}" for a, b in zip(WRITTEN, written, strict=True))
            link.script(f"UPDATE shard SET {columns}; COMMIT")
            self._acknowledge((row[0], *written[:9], row[10], written[9]))
        return results

    def _read(self, link: Link) -> tuple[int, ...]:
        """The shard's row. Raises StaleEpoch, JournalBroken if commits are gone."""
        row: tuple[int, ...] = link.execute(_READ).fetchone()
        if row[0] != self.epoch or not self.epoch:  # an opener that took nothing owns nothing
            raise StaleEpoch(f"the journal's epoch is {row[0]}, not {self.epoch}", epoch=row[0])
        mark = self._mark
        if mark and (row[1] < mark.commits or (row[1] == mark.commits and row[2] != mark.chain)):
            link.script(f"UPDATE shard SET lost = 1 WHERE epoch = {self.epoch}")
            self.broken = JournalBroken(
                f"{self._where} lost commits that it had acknowledged: it has {row[1]} of"
                f" {mark.commits}. Was a replica promoted that lagged?",
                retry_after=1.0,
            )
            self.check()
        return row

    def _acknowledge(self, row: tuple[int, ...]) -> None:
        self.commits += 1
        self._row = row
        self._mark = Mark(*row[1:3])

    def close(self) -> None:
        """Close the connection; whoever still comes is told NotOwner."""

        def work(_: object) -> None:
            self.broken = NotOwner("the journal is closed")
            if self._link is not None:
                self._link.close()

        self.alone(work)


def evict(link: Link, pid: int) -> None:
    """End another writer's session on the same shard, which may hold its row; 0: all of them."""
    link.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND application_name = current_setting('application_name')"
        " AND (pid = ? OR ? = 0)",
        (pid, pid),
    ).fetchall()
