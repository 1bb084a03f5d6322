"""The journal's verbs in SQL, whatever the database: each is one transaction or one snapshot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from chimera.errors import ChimeraError, StoreFull
from chimera.store.journal import (
    append,
    corrupt,
    export,
    listing,
    outbox,
    reads,
    recovery,
    replay,
    schedule,
    settle,
    sweep,
)
from chimera.store.journal.combine import Combiner
from chimera.store.journal.pace import Pace
from chimera.store.journal.txn import Txn
from chimera.store.protocol import (
    Archived,
    Entry,
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


class Snapshots(Protocol):
    """Where reads come from: each sees one moment's state."""

    def snapshot(self) -> AbstractContextManager[Callable[..., Any]]:
        """`execute` within one transaction. Raises our errors for the database's."""
        ...


class SqlJournal:
    """What journals in SQL have in common: see `chimera.store.protocol.Journal`.

    All methods may be called from any thread that runs no event loop.
    """

    #: the journal opened below what was acknowledged (P4)
    lost_tail: bool

    def __init__(
        self, shard: int, committer: Combiner, readers: Snapshots, retention: sweep.Retention
    ) -> None:
        self.shard = shard
        self._committer = committer
        self._readers = readers
        self._retention = retention
        self._cursor = sweep.Cursor()
        self._pace = Pace()

    def _is_full(self) -> bool:
        """Whether there is no room for new tasks."""
        return False

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

        Raises StaleEpoch, Unavailable if the database does not answer, JournalBroken.
        """
        arrivals = [append.prepare(frame, self.shard) for frame in frames]
        excess = sum(a.of.count for a in arrivals if not isinstance(a, ChimeraError))

        def work(txn: Txn) -> list[Receipt | ChimeraError]:
            rules = append.Rules(
                shard=self.shard,
                # what a log has kept was accepted there, however long ago that was
                resend_window_ms=self._retention.resend if source is None else append.ANY_AGE,
                queue_bound=queue_bound,
                now=now,
                full=self._is_full(),
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

    def list(
        self,
        where: Filter,
        cursor: int | None,
        limit: int,
        among: Sequence[tuple[int, int]] | None = None,
    ) -> list[TaskRecord]:
        """Tasks below the cursor (a position), newest first; without payloads and bodies, but for
        those that say why a dead letter failed, where only these are asked for.

        `among`: only those at these [start, stop) positions, each range within a frame.
        """
        with self._readers.snapshot() as execute:
            return listing.list_tasks(execute, self.shard, where, cursor, limit, among)

    # -- publishing what happened

    def outbox(self, after_seq: int, limit: int) -> Sequence[Entry]:
        """What was recorded past `after_seq`, in the order of recording (P10)."""
        with self._readers.snapshot() as execute:
            return outbox.read(execute, after_seq, limit)

    def happened(self, after_seq: int, limit: int) -> tuple[int, Sequence[tuple[int, TaskRecord]]]:
        """The tasks of up to `limit` recorded rows past `after_seq`, and the last row's number."""
        if after_seq < 0:
            with self._readers.snapshot() as execute:
                return int(execute("SELECT seq FROM shard").fetchone()[0]), []
        with self._readers.snapshot() as execute:
            return outbox.happened(execute, self.shard, after_seq, limit)

    def export(self, after_seq: int, upto_seq: int, limit: int) -> Sequence[Archived]:
        """The tasks of up to `limit` recorded rows with numbers in (after_seq, upto_seq]."""
        with self._readers.snapshot() as execute:
            return export.export(execute, self.shard, after_seq, upto_seq, limit)

    def claims(self, before: int) -> Sequence[bytes]:
        """Claim checks in the frames that were written by `before` and are still there."""
        with self._readers.snapshot() as execute:
            return export.claims(execute, before)

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
        """Write and commit something, to see whether that can be done. Raises StoreFull."""
        self._committer.run(lambda txn: txn.wrote())

    def sweep(self, now: int, limit: int) -> SweepResult:
        """Remove what is past its retention. Raises StaleEpoch."""

        def work(txn: Txn) -> tuple[SweepResult, sweep.Cursor]:
            return sweep.sweep(txn, self._cursor, now, limit, self._retention)

        result, self._cursor = self._committer.run(work)
        return result

    def stats(self) -> dict[str, Any]:
        """See the port; `seq` and `full` besides."""
        with self._readers.snapshot() as execute:
            open_tasks, tasks, scheduled, dead, seq, session = execute(
                "SELECT open, tasks, scheduled, dead, seq, session FROM shard"
            ).fetchone()
            size = self._bytes(execute)
        return {
            "open": open_tasks,
            "tasks": tasks,
            "schedule": scheduled,
            "dead": dead,
            "seq": seq,
            "session": session,
            "bytes": size,
            "commits": self._committer.commits,
            "requests": self._committer.requests,
            "full": self._is_full(),
        }

    def _bytes(self, execute: Callable[..., Any]) -> int:
        """What the journal takes in its database."""
        raise NotImplementedError


def _memo(execute: Any, position: int, step: str) -> bytes | None:
    row = execute(
        "SELECT value FROM memos WHERE position = ? AND step = ?", (position, step)
    ).fetchone()
    return row and bytes(row[0])
