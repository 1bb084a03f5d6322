"""The combining commit: whoever gets the writer writes everything queued and wakes the rest.

Idle, a request is a transaction of its own, without a linger or a timer. Busy, requests pile up
behind the running commit and form the next one by themselves. Each transaction reads the shard's
row first and ends unless the epoch is the opener's (P1).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from zlib import crc32

from chimera.errors import (
    ChimeraError,
    JournalBroken,
    NotOwner,
    StaleEpoch,
    StoreFull,
    Unavailable,
    from_wire,
)
from chimera.store.journal import faults, schema
from chimera.store.journal.ballast import Ballast
from chimera.store.journal.mark import Mark, MarkFile

#: bytes written between two checkpoints; more makes rarer but longer stalls (measured: 63 MiB
#: between them cost 220 ms at once)
CHECKPOINT_BYTES = 6 << 20
#: a WAL this long was not reset by several checkpoints: now wait for its readers
WAL_BYTES_MAX = 32 << 20
#: what a transaction writes besides blobs: the pages of the tables that it touches
_OVERHEAD_BYTES = 4 * schema.PAGE_BYTES

T = TypeVar("T")


class Txn:
    """One transaction: the shard's row, read at its start and written at its end."""

    __slots__ = (
        "bytes", "cancelling", "chain", "commits", "counter", "dead", "epoch", "execute",
        "executemany", "next_position", "open", "scheduled", "seq", "session", "tasks", "touched",
    )  # fmt: skip

    def __init__(self, db: sqlite3.Connection, epoch: int) -> None:
        self.execute = db.execute
        self.executemany = db.executemany
        (
            self.epoch, self.commits, self.chain, self.next_position, self.seq, self.open,
            self.tasks, self.scheduled, self.cancelling, self.dead, self.session, self.counter,
        ) = db.execute(
            "SELECT epoch, commits, chain, next_position, seq, open, tasks, scheduled, cancelling,"
            " dead, session, counter FROM shard"
        ).fetchone()  # fmt: skip
        if self.epoch != epoch or not epoch:  # an opener that took nothing owns nothing
            raise StaleEpoch(f"the journal's epoch is {self.epoch}, not {epoch}", epoch=self.epoch)
        self.bytes = 0
        self.touched = False

    def wrote(self, *parts: bytes) -> None:
        """Say that something was written; `parts` is what the commit's checksum covers of it."""
        self.touched = True
        for part in parts:
            self.chain = crc32(part, self.chain)

    def next_seq(self) -> int:
        self.seq = seq = int(self.seq) + 1
        return seq

    def finish(self) -> Mark:
        """Write the row back, as the last statement before COMMIT."""
        self.commits += 1
        self.execute(
            "UPDATE shard SET commits = ?, chain = ?, next_position = ?, seq = ?, open = ?,"
            " tasks = ?, scheduled = ?, cancelling = ?, dead = ?, counter = ?",
            (
                self.commits, self.chain, self.next_position, self.seq, self.open,
                self.tasks, self.scheduled, self.cancelling, self.dead, self.counter,
            ),
        )  # fmt: skip
        return Mark(self.commits, self.chain)


class _Request(Generic[T]):
    __slots__ = ("bare", "done", "error", "result", "wake", "work")

    def __init__(self, work: Callable[[Any], T], bare: bool) -> None:
        self.work = work
        self.bare = bare  #: gets the connection and makes its own transactions
        self.wake = threading.Lock()
        self.wake.acquire()
        self.done = False
        self.result: T
        self.error: BaseException | None = None


class Committer:
    """The writing connection of a journal, and who may use it next."""

    def __init__(self, db: sqlite3.Connection, path: str, mark: MarkFile, ballast: Ballast) -> None:
        self.epoch = 0  #: set by `take`
        self.ballast = ballast
        self.requests = 0
        self.commits = 0
        #: why nothing is written any more
        self.broken: ChimeraError | None = None
        self._db = db
        self._path = path
        self._mark = mark
        self._mutex = threading.Lock()
        self._queue: list[_Request[Any]] = []
        self._busy = False
        self._heir: _Request[Any] | None = None  #: was told to write what is queued
        self._unsaved_bytes = 0  #: written since the last checkpoint, about
        self._wal_bytes = 0  #: length of the WAL at the last checkpoint

    def run(self, work: Callable[[Txn], T]) -> T:
        """Run `work` in a transaction that is committed when this returns.

        `work` may be run again after a failed attempt whose writes were undone: it must change
        nothing but the database. Raises what `work` raises, StaleEpoch, StoreFull, JournalBroken.
        """
        return self._run(_Request(work, bare=False))

    def alone(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` with the writing connection, between transactions."""
        return self._run(_Request(work, bare=True))

    def _run(self, request: _Request[T]) -> T:
        with self._mutex:
            self._queue.append(request)
            must_wait, self._busy = self._busy, True
        if must_wait:
            try:
                request.wake.acquire()
            except BaseException:
                self._give_up(request)
                raise
        if not request.done:
            self._serve()
        if request.error is not None:
            raise request.error
        return request.result

    def _give_up(self, request: _Request[Any]) -> None:
        """Take back a request whose caller was interrupted while it waited."""
        with self._mutex:
            if request in self._queue:
                self._queue.remove(request)
            if self._heir is request:
                self._pass_on()

    def _pass_on(self) -> None:
        """Let the first one that waits write; called with the mutex held."""
        self._heir = self._queue[0] if self._queue else None
        self._busy = self._heir is not None
        if self._heir is not None:
            self._heir.wake.release()

    def _serve(self) -> None:
        """Write all that is queued, wake its callers, and pass the writer on."""
        with self._mutex:
            self._heir = None
            batch, self._queue = self._queue, []
        try:
            self._write(batch)
        except BaseException:  # an interrupt: nobody may be left waiting for ever
            for request in batch:
                if not request.done:
                    request.error = Unavailable("the writer was interrupted: try again")
                    request.done = True
            raise
        finally:
            for request in batch:
                request.wake.release()
            try:
                self._checkpoint_if_due()
            finally:
                with self._mutex:
                    self._pass_on()

    def _write(self, batch: list[_Request[Any]]) -> None:
        self.requests += len(batch)
        plain = [request for request in batch if not request.bare]
        if len(plain) < 2 or not self._together(plain):
            for request in plain:
                self._singly(request)
        for request in batch:
            if request.bare:
                self._singly(request)

    def _together(self, batch: list[_Request[Any]]) -> bool:
        """One transaction for all; False if any of it failed, so that none of it was written."""
        try:
            results = self._transact([request.work for request in batch])
        except Exception:  # who is at fault shows when each runs alone
            return False
        for request, result in zip(batch, results, strict=True):
            request.result, request.done = result, True
        return True

    def _singly(self, request: _Request[Any]) -> None:
        try:
            try:
                request.result = self._attempt(request)
            except StoreFull:
                if self.ballast.released:
                    raise
                self.ballast.release()
                request.result = self._attempt(request)
        except Exception as error:
            request.error = error
        request.done = True

    def _attempt(self, request: _Request[T]) -> T:
        if not request.bare:
            result: T = self._transact([request.work])[0]
            return result
        try:
            return request.work(self._db)
        except sqlite3.Error as error:
            raise self.fault(error) from error
        finally:
            self._undo()

    def _transact(self, works: list[Callable[[Txn], Any]]) -> list[Any]:
        self.check()
        try:
            self._db.execute("BEGIN IMMEDIATE")
            txn = Txn(self._db, self.epoch)
            results = [work(txn) for work in works]
            if txn.touched:
                mark = txn.finish()
                self._db.execute("COMMIT")
                self.acknowledge(mark)
                self._unsaved_bytes += txn.bytes + _OVERHEAD_BYTES
            return results
        except sqlite3.Error as error:
            raise self.fault(error) from error
        finally:
            self._undo()

    def check(self) -> None:
        """Raise if this journal writes nothing any more."""
        if self.broken is not None:
            raise from_wire(self.broken.to_wire())  # a raised error keeps its frames: a fresh one

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

    def _checkpoint_if_due(self) -> None:
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
