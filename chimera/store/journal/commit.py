"""Transactions of a SQLite journal: one connection writes, and checkpoints itself.

Each transaction reads the shard's row first and ends unless the epoch is the opener's (P1).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

from chimera.errors import ChimeraError, JournalBroken, NotOwner, StaleEpoch, StoreFull
from chimera.store.journal import faults, schema
from chimera.store.journal.ballast import Ballast
from chimera.store.journal.combine import Combiner, Request
from chimera.store.journal.mark import Mark, MarkFile
from chimera.store.journal.txn import READ, WRITTEN, Txn

#: bytes written between two checkpoints; more makes rarer but longer stalls (measured: 63 MiB
#: between them cost 220 ms at once)
CHECKPOINT_BYTES = 6 << 20
#: a WAL this long was not reset by several checkpoints: now wait for its readers
WAL_BYTES_MAX = 32 << 20
#: what a transaction writes besides blobs: the pages of the tables that it touches
_OVERHEAD_BYTES = 4 * schema.PAGE_BYTES

T = TypeVar("T")

_READ = f"SELECT {READ} FROM shard"
_WRITE = f"UPDATE shard SET {', '.join(f'{name} = ?' for name in WRITTEN)}"


class Committer(Combiner):
    """The writing connection of a journal, and who may use it next."""

    def __init__(self, db: sqlite3.Connection, path: str, mark: MarkFile, ballast: Ballast) -> None:
        super().__init__()
        self.ballast = ballast
        self._db = db
        self._path = path
        self._mark = mark
        self._unsaved_bytes = 0  #: written since the last checkpoint, about
        self._wal_bytes = 0  #: length of the WAL at the last checkpoint

    def attempt(self, request: Request[T]) -> T:
        try:
            return self._attempt(request)
        except StoreFull:
            if self.ballast.released:
                raise
            self.ballast.release()
            return self._attempt(request)

    def _attempt(self, request: Request[T]) -> T:
        if not request.bare:
            result: T = self.transact([request.work])[0]
            return result
        try:
            return request.work(self._db)
        except sqlite3.Error as error:
            raise self.fault(error) from error
        finally:
            self._undo()

    def transact(self, works: list[Callable[[Txn], Any]]) -> list[Any]:
        self.check()
        try:
            self._db.execute("BEGIN IMMEDIATE")
            txn = self._begun()
            results = [work(txn) for work in works]
            if txn.touched:
                written = txn.written()
                self._db.execute(_WRITE, written)
                self._db.execute("COMMIT")
                self.acknowledge(Mark(*written[:2]))
                self._unsaved_bytes += txn.bytes + _OVERHEAD_BYTES
            return results
        except sqlite3.Error as error:
            raise self.fault(error) from error
        finally:
            self._undo()

    def _begun(self) -> Txn:
        row = self._db.execute(_READ).fetchone()
        epoch = self.epoch
        if row[0] != epoch or not epoch:  # an opener that took nothing owns nothing
            raise StaleEpoch(f"the journal's epoch is {row[0]}, not {epoch}", epoch=row[0])
        return Txn(self._db.execute, self._db.executemany, row)

    def _undo(self) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error as error:
            self.fault(error)

    def acknowledge(self, mark: Mark) -> None:
        """Note a commit in the side file, before anybody is told of it."""
        self.commits += 1
        try:
            self._mark.write(mark)
        except OSError as error:
            self.broken = JournalBroken(f"{self._path}: side file: {error}", retry_after=1.0)
            raise self.broken from error

    def fault(self, error: sqlite3.Error) -> ChimeraError:
        """The error in our words; remembers it if it is final."""
        found = faults.translate(error, self._path)
        if isinstance(found, JournalBroken):
            self.broken = found
        return found

    def checkpoint(self, db: sqlite3.Connection, mode: str) -> bool:
        """Move the WAL into the file; False if a reader or writer was in the way."""
        busy, pages, moved = db.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        self._wal_bytes = pages * schema.PAGE_BYTES
        self._unsaved_bytes = 0
        return not busy and bool(moved == pages)

    def served(self) -> None:
        if self._unsaved_bytes < CHECKPOINT_BYTES or self.broken is not None:
            return
        try:
            self.checkpoint(self._db, "PASSIVE")
            if self._wal_bytes > WAL_BYTES_MAX:
                self.checkpoint(self._db, "RESTART")
        except sqlite3.Error as error:
            if isinstance(self.fault(error), StoreFull):
                self.ballast.release()

    def close(self) -> None:
        """Close the connection; whoever still comes is told NotOwner."""

        def work(db: sqlite3.Connection) -> None:
            self.broken = NotOwner("the journal is closed")
            db.close()
            self._mark.close()

        self.alone(work)
