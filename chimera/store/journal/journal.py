"""A shard's journal in a SQLite file, as its owner sees it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from chimera.errors import ChimeraError, StoreFull
from chimera.store.journal import faults, recovery, schema, sweep
from chimera.store.journal.ballast import Ballast
from chimera.store.journal.commit import Committer
from chimera.store.journal.mark import MarkFile
from chimera.store.journal.readers import Readers
from chimera.store.journal.verbs import SqlJournal
from chimera.store.protocol import Receipt, SourcePosition, SweepResult
from chimera.swarm.reports import Owner

_DAY_S = 86400.0


class SqliteJournal(SqlJournal):
    """One shard's durable mailbox in one SQLite file: see `chimera.store.protocol.Journal`.

    All methods may be called from any thread. Nothing in the process may open the file but
    through SQLite: closing another descriptor of it would drop SQLite's locks.
    """

    _committer: Committer
    _readers: Readers

    def __init__(
        self,
        path: str,
        shard: int,
        *,
        fsync: bool,
        swarm_id: str = "",
        resend_window_s: float = _DAY_S,
        outcome_retention_s: float = 7 * _DAY_S,
        idempotency_retention_s: float = _DAY_S,
        ballast_bytes: int = 16 << 20,
    ) -> None:
        """Open the journal, and make it if there is none; nothing may be written before `take`.

        `fsync`: a commit survives power loss, not only the process. `ballast_bytes`: disk space
        held back for settling (0: none). Raises ChimeraError if the file is another shard's or
        swarm's, Unavailable if another process is in the way, JournalBroken, StoreFull.
        """
        self._raised = 0
        ballast = Ballast(path + ".ballast", ballast_bytes)
        try:
            db = _open(path, shard, fsync, swarm_id)
        except StoreFull:  # even opening needs some room
            ballast.release()
            db = _open(path, shard, fsync, swarm_id)
        ballast.restore()
        try:
            mark = MarkFile(path + ".mark")
            #: the journal opened below what its side file promises (P4)
            self.lost_tail = recovery.lost_tail(db, mark)
        except BaseException:
            db.close()
            raise
        committer = Committer(db, path, mark, ballast)
        readers = Readers(path, committer.fault)
        kept = sweep.Retention.of(outcome_retention_s, idempotency_retention_s, resend_window_s)
        super().__init__(shard, committer, readers, kept)

    def take(self, expected_epoch: int, owner: Owner) -> int:
        """Raise the epoch by compare-and-swap (P2), then checkpoint and fsync (P4).

        Raises StaleEpoch with the journal's `epoch` if that is not `expected_epoch`, Unavailable
        if another process is in the way: then the same call may be made again.
        """

        def work(db: sqlite3.Connection) -> int:
            self._committer.check()
            self._raised = recovery.take(db, expected_epoch, owner, self._raised, self.lost_tail)
            recovery.empty_wal(db, self._committer)
            self._committer.epoch = self._raised
            return self._raised

        return self._committer.alone(work)

    def _is_full(self) -> bool:
        return self._committer.ballast.released

    def append(
        self,
        frames: Sequence[bytes],
        now: int,
        queue_bound: int,
        source: SourcePosition | None = None,
    ) -> list[Receipt | ChimeraError]:
        """Accept frames durably; one answer each (see the port)."""
        self._committer.ballast.restore()
        return super().append(frames, now, queue_bound, source)

    def probe(self) -> None:
        """Write and commit something. Raises StoreFull if there is no room for tasks either."""
        super().probe()
        if self._is_full():
            raise StoreFull(f"no room for shard {self.shard}", retry_after=1.0)

    def sweep(self, now: int, limit: int) -> SweepResult:
        """Remove what is past its retention, and give the space back. Raises StaleEpoch."""
        result = super().sweep(now, limit)
        self._shrink()
        return result

    def _shrink(self) -> None:
        """Give free space back to the file system, in pieces that hold nobody up for long."""
        ballast = self._committer.ballast
        kept = 0 if ballast.released else sweep.FREE_PAGES_KEPT
        for _ in range(sweep.VACUUM_ROUNDS):
            if not self._committer.run(lambda txn: sweep.vacuum(txn, kept)):
                break
            # only a checkpoint makes the file shorter
            self._committer.alone(lambda db: self._committer.checkpoint(db, "PASSIVE"))
        ballast.restore()

    def _bytes(self, execute: Callable[..., Any]) -> int:
        pages, free = sweep.size(execute)
        return (pages - free) * schema.PAGE_BYTES

    def close(self) -> None:
        """Checkpoint and close; another process can take the journal at once.

        It names no owner then: the next one would end this process, which lives and is well (P3).
        """
        self._readers.close()
        if self.epoch:
            with contextlib.suppress(ChimeraError, sqlite3.Error):
                self._committer.alone(lambda db: recovery.disown(db, self.epoch))
        self._committer.close()


def _open(path: str, shard: int, fsync: bool, swarm_id: str) -> sqlite3.Connection:
    try:
        db = schema.connect(path, fsync=fsync)
        try:
            schema.create(db, shard, swarm_id)
        except BaseException:
            db.close()
            raise
    except sqlite3.Error as error:
        raise faults.translate(error, path) from error
    if fsync:
        folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return db
