"""The journal as its owner sees it: each verb is one transaction or one snapshot."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Sequence
from typing import Any

from chimera.errors import ChimeraError, StoreFull
from chimera.store.journal import (
    append,
    corrupt,
    faults,
    listing,
    outbox,
    reads,
    recovery,
    replay,
    schedule,
    schema,
    settle,
    sweep,
)
from chimera.store.journal.ballast import Ballast
from chimera.store.journal.commit import Committer, Txn
from chimera.store.journal.mark import MarkFile
from chimera.store.journal.pace import Pace
from chimera.store.journal.readers import Readers
from chimera.store.protocol import (
    Filter,
    Outcomes,
    Receipt,
    Recovered,
    Scheduled,
    Settled,
    Settlement,
    Single,
    SourcePosition,
    SweepResult,
    TaskRecord,
)
from chimera.swarm.reports import Owner

_DAY_S = 86400.0


class SqliteJournal:
    """One shard's durable mailbox in one SQLite file: see `chimera.store.protocol.Journal`.

    All methods may be called from any thread. Nothing in the process may open the file but
    through SQLite: closing another descriptor of it would drop SQLite's locks.
    """

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
        self.shard = shard
        self._retention = sweep.Retention(
            outcomes=int(outcome_retention_s * 1000),
            idempotency=int(idempotency_retention_s * 1000),
            resend=int(resend_window_s * 1000),
        )
        self._raised = 0
        self._cursor = sweep.Cursor()
        self._pace = Pace()
        ballast = Ballast(path + ".ballast", ballast_bytes)
        try:
            db = self._open(path, fsync, swarm_id)
        except StoreFull:  # even opening needs some room
            ballast.release()
            db = self._open(path, fsync, swarm_id)
        ballast.restore()
        try:
            mark = MarkFile(path + ".mark")
            #: the journal opened below what its side file promises (P4)
            self.lost_tail = recovery.lost_tail(db, mark)
        except BaseException:
            db.close()
            raise
        self._committer = Committer(db, path, mark, ballast)
        self._readers = Readers(path, self._committer.fault)

    def _open(self, path: str, fsync: bool, swarm_id: str) -> sqlite3.Connection:
        try:
            db = schema.connect(path, fsync=fsync)
            try:
                schema.create(db, self.shard, swarm_id)
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

    @property
    def epoch(self) -> int:
        """What this opener took; 0 before `take`."""
        return self._committer.epoch

    @property
    def next_position(self) -> int:
        """Where the next accepted task goes."""
        with self._readers.snapshot() as execute:
            return int(execute("SELECT next_position FROM shard").fetchone()[0])

    # -- ownership

    def owner(self) -> tuple[int, Owner | None]:
        """The epoch in the journal, and who raised it."""
        with self._readers.snapshot() as execute:
            return recovery.owner(execute)

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

    def recover(self) -> Recovered:
        """What is open, read after `take`."""
        with self._readers.snapshot() as execute:
            return recovery.recover(execute)

    # -- tasks in, outcomes out

    def append(
        self,
        frames: Sequence[bytes],
        now: int,
        queue_bound: int,
        source: SourcePosition | None = None,
    ) -> list[Receipt | ChimeraError]:
        """Accept frames durably; one answer each (see the port).

        Raises StaleEpoch, Unavailable if another process is in the way, JournalBroken.
        """
        arrivals = [append.prepare(frame, self.shard) for frame in frames]
        ballast = self._committer.ballast
        ballast.restore()
        excess = sum(a.of.count for a in arrivals if not isinstance(a, ChimeraError))

        def work(txn: Txn) -> list[Receipt | ChimeraError]:
            rules = append.Rules(
                shard=self.shard,
                resend_window_ms=self._retention.resend,
                queue_bound=queue_bound,
                now=now,
                full=ballast.released,
                retry_after=self._pace.wait_for(txn.open + excess - queue_bound),
            )
            return append.append(txn, arrivals, rules, source)

        try:
            return self._committer.run(work)
        except StoreFull as error:
            return [error for _ in frames]

    def source_position(self, name: str) -> int | None:
        """Where to go on reading a source; None: it was never read."""
        with self._readers.snapshot() as execute:
            return append.source_position(execute, name)

    def settle(self, settlement: Settlement, now: int) -> Settled:
        """Record outcomes, per still-open task (P8). Raises StaleEpoch, StoreFull, CorruptFrame."""
        parts = [settle.prepare(frame, self.shard) for frame in settlement.frames]
        done = self._committer.run(lambda txn: settle.settle(txn, settlement, parts, now))
        self._pace.note(now, done.recorded)
        return done

    def cancel(self, position: int, reason: str, now: int) -> int:
        """Write the intent to cancel (P9); the task's state, OPEN if it goes on.

        Raises NotFound, StaleEpoch.
        """
        return self._committer.run(lambda txn: settle.cancel(txn, position, reason, now))

    def replay(self, position: int, now: int) -> tuple[str, Receipt, bytes]:
        """Make a new task of a dead letter (P17). Raises NotFound, CorruptFrame, StaleEpoch."""
        return self._committer.run(lambda txn: replay.replay(txn, self.shard, position, now))

    def discard(self, position: int) -> None:
        """Give a dead letter up: it is failed for good. Raises NotFound, StaleEpoch."""
        self._committer.run(lambda txn: replay.discard(txn, position))

    def quarantine(self, position: int, now: int) -> list[Single]:
        """End what is corrupt of the frame that holds a position; the outcomes it made (P4).

        Raises NotFound, StaleEpoch.
        """
        return self._committer.run(lambda txn: corrupt.quarantine(txn, position, now))

    # -- what handlers keep

    def memo(self, position: int, step: str) -> bytes | None:
        """The stored value of `ctx.once(step)`."""
        with self._readers.snapshot() as execute:
            return _memo(execute, position, step)

    def memoise(self, position: int, step: str, value: bytes) -> bytes:
        """Store it unless there is one; the stored one (P18). Raises StaleEpoch, NotFound."""

        def work(txn: Txn) -> bytes:
            known = _memo(txn.execute, position, step)
            if known is not None:
                return known
            schedule.start_of(txn.execute, position)
            txn.execute("INSERT INTO memos VALUES (?, ?, ?)", (position, step, value))
            txn.bytes += len(value)
            txn.wrote(step.encode(), value)
            return value

        return self._committer.run(work)

    def snapshot(self, tenant: str, type: str, key: str) -> bytes | None:
        """The state that a handler left for a key."""
        with self._readers.snapshot() as execute:
            row = execute(
                "SELECT value FROM snapshots WHERE tenant = ? AND type = ? AND key = ?",
                (tenant, type, key),
            ).fetchone()
            return row and bytes(row[0])

    # -- reads

    def read(self, position: int, *, parked: bool = False) -> tuple[int, bytes]:
        """The command frame that holds a position, and where it starts; with `parked` the frame
        of one in the schedule. Raises NotFound, CorruptFrame with the frame's `position`."""
        read = schedule.read_parked if parked else schedule.read_command
        with self._readers.snapshot() as execute:
            return read(execute, position)

    def due(self, since: int, until: int, limit: int) -> list[Scheduled]:
        """Parked tasks due in [since, until], earliest first."""
        with self._readers.snapshot() as execute:
            return schedule.due(execute, since, until, limit)

    def parked(self, positions: Sequence[int]) -> list[Scheduled]:
        """Those of some tasks that are parked."""
        with self._readers.snapshot() as execute:
            return schedule.parked(execute, positions)

    def outcomes(self, ranges: Sequence[tuple[int, int]], bytes_max: int) -> Outcomes:
        """What is recorded in [start, stop) ranges, up to about `bytes_max`, in order.

        Frames may overlap: a task's outcome is its single, else the one state that is not OPEN.
        Raises CorruptFrame, with the `position` to quarantine.
        """
        with self._readers.snapshot() as execute:
            return reads.outcomes(execute, ranges, bytes_max)

    def find(self, tenant: str, session: int, counter: int, bodies: bool = True) -> TaskRecord:
        """One task by the parts of its id; an alias resolves to the first.

        Raises NotFound, the error for which the task was refused, CorruptFrame.
        """
        with self._readers.snapshot() as execute:
            return reads.find(execute, self.shard, tenant, session, counter, bodies)

    def list(self, where: Filter, cursor: int | None, limit: int) -> list[TaskRecord]:
        """Tasks below the cursor (a position), newest first; without payloads and bodies."""
        with self._readers.snapshot() as execute:
            return listing.list_tasks(execute, self.shard, where, cursor, limit)

    # -- publishing what happened

    def outbox(self, after_seq: int, limit: int) -> Sequence[outbox.Entry]:
        """What was recorded past `after_seq`, in the order of recording (P10)."""
        with self._readers.snapshot() as execute:
            return outbox.read(execute, after_seq, limit)

    def happened(self, after_seq: int, limit: int) -> tuple[int, Sequence[tuple[int, TaskRecord]]]:
        """The tasks of up to `limit` recorded rows past `after_seq`, and the last row's number."""
        if after_seq < 0:
            return int(self.stats()["seq"]), []
        with self._readers.snapshot() as execute:
            return outbox.happened(execute, self.shard, after_seq, limit)

    def published(self, consumer: str) -> int:
        """The number up to which a consumer has published; 0 if it is not known."""
        with self._readers.snapshot() as execute:
            return outbox.watermark(execute, consumer)

    def publish(self, consumer: str, seq: int, now: int) -> None:
        """Note that a consumer has published up to `seq`; it then holds back the sweep."""
        self._committer.run(lambda txn: outbox.advance(txn, consumer, seq, now))

    def forget(self, consumer: str) -> None:
        """Hold nothing back for a consumer any more."""
        self._committer.run(lambda txn: outbox.forget(txn, consumer))

    # -- upkeep

    def probe(self) -> None:
        """Write and commit something. Raises StoreFull if there is no room for tasks either."""
        self._committer.run(lambda txn: txn.wrote())
        if self._committer.ballast.released:
            raise StoreFull(f"no room for shard {self.shard}", retry_after=1.0)

    def sweep(self, now: int, limit: int) -> SweepResult:
        """Remove what is past its retention, and give the space back. Raises StaleEpoch."""

        def work(txn: Txn) -> tuple[SweepResult, sweep.Cursor]:
            return sweep.sweep(txn, self._cursor, now, limit, self._retention)

        result, self._cursor = self._committer.run(work)
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

    def stats(self) -> dict[str, Any]:
        """`open`, `tasks`, `bytes`, `commits`, `requests`, `schedule`, `dead`, `seq`, `full`."""
        with self._readers.snapshot() as execute:
            open_tasks, tasks, scheduled, dead, seq = execute(
                "SELECT open, tasks, scheduled, dead, seq FROM shard"
            ).fetchone()
            pages, free = sweep.size(execute)
        committer = self._committer
        return {
            "open": open_tasks,
            "tasks": tasks,
            "schedule": scheduled,
            "dead": dead,
            "seq": seq,
            "bytes": (pages - free) * schema.PAGE_BYTES,
            "commits": committer.commits,
            "requests": committer.requests,
            "full": committer.ballast.released,
        }

    def close(self) -> None:
        """Checkpoint and close; another process can take the journal at once.

        It names no owner then: the next one would end this process, which lives and is well (P3).
        """
        self._readers.close()
        if self.epoch:
            with contextlib.suppress(ChimeraError, sqlite3.Error):
                self._committer.alone(lambda db: recovery.disown(db, self.epoch))
        self._committer.close()


def _memo(execute: Any, position: int, step: str) -> bytes | None:
    row = execute(
        "SELECT value FROM memos WHERE position = ? AND step = ?", (position, step)
    ).fetchone()
    return row and bytes(row[0])
