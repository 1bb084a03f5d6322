"""The journal's port: everything of one shard, and the only place its tasks' fate is written.

Every write is one transaction that checks the epoch first (P1) and raises StaleEpoch when it is
another. Writers on several threads share commits: whoever gets the commit lock writes all that is
queued and wakes the rest. Positions are the shard's own numbers, dense from 0, one a task.
Times are Unix milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from chimera.errors import ChimeraError
from chimera.swarm.facts import OpenFrame as OpenFrame
from chimera.swarm.facts import Park as Park
from chimera.swarm.facts import Recovered as Recovered
from chimera.swarm.facts import Scheduled as Scheduled
from chimera.swarm.facts import Settlement as Settlement
from chimera.swarm.facts import Single as Single
from chimera.swarm.reports import Owner


class SourcePosition(NamedTuple):
    """How far a foreign log has been read into a shard, e.g. one partition of a Kafka topic."""

    name: str  #: of the source, unique within the shard
    position: int  #: the next one to read there


@dataclass(frozen=True, slots=True)
class Skipped:
    """A task of an appended frame that will not run: a duplicate, or one refused (P14)."""

    index: int  #: in the frame
    task_id: str | None  #: the first task with this idempotency key, if it is a duplicate
    error: ChimeraError | None  #: else why it was refused


@dataclass(frozen=True, slots=True)
class Receipt:
    """An appended frame: durable."""

    position: int  #: of its first task
    count: int
    duplicate: bool  #: the same frame was appended before; nothing was written now
    skipped: tuple[Skipped, ...] = ()
    parked: tuple[int, ...] = ()  #: indices of tasks moved to the schedule (not_before ahead)


@dataclass(frozen=True, slots=True)
class Settled:
    """What a settlement did."""

    recorded: int  #: tasks that got their outcome
    already: int  #: tasks that had one; nothing was changed for them (P8)


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """Everything known of one task."""

    task_id: str
    position: int
    type: str
    tenant: str
    priority: int
    #: queued, scheduled, cancelling, succeeded, failed, cancelled or expired (`running` is the
    #: leader's word)
    state: str
    attempts: int  #: that have ended; the leader adds the one that runs
    accepted_at: int  #: by the clock of who owned the journal then
    settled_at: int | None
    due: int | None
    key: str | None
    tags: tuple[str, ...]
    cancel_requested: bool
    replay_of: str | None
    replayed_as: str | None
    payload: bytes | None = None
    body: bytes | None = None  #: result or Failure, JSON; or the claim check of it
    body_is_claim: bool = False
    dead_letter: bool = False  #: failed, and not given up


@dataclass(frozen=True, slots=True)
class Filter:
    """Which tasks to list; None: any."""

    tenant: str | None = None
    type: str | None = None
    state: str | None = None
    tag: str | None = None
    since: int | None = None  #: accepted then or later
    until: int | None = None  #: accepted before
    dead_letters: bool = False  #: only what failed and was not given up


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What is recorded in some ranges."""

    #: outcome frames that touch them; a Single of the same task wins over its byte (P8)
    frames: tuple[bytes, ...]
    singles: tuple[Single, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One recorded row: an outcome frame or the outcome of a single task."""

    seq: int
    at: int  #: when it was recorded
    frame: bytes | None
    single: Single | None


class Archived(NamedTuple):
    """A settled task, as the archive keeps it."""

    seq: int  #: of the recorded row
    task_id: str
    tenant: str
    type: str
    key: str | None
    priority: int
    tags: tuple[str, ...]
    state: str  #: succeeded, failed, cancelled or expired
    attempts: int
    accepted_at: int
    settled_at: int
    replay_of: str | None
    payload: bytes | None  #: JSON, or its claim check; None if the stored bytes are corrupt
    payload_is_claim: bool
    body: bytes  #: result or Failure, JSON; or its claim check
    body_is_claim: bool


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What a sweep gave back."""

    frames: int
    idempotency_keys: int
    #: swept although an abandoned consumer had not read it (P10)
    unread: int


class Journal(Protocol):
    """One shard's durable mailbox."""

    shard: int
    #: set when the journal opened below what its side file promises (P4)
    lost_tail: bool

    @property
    def epoch(self) -> int:
        """What this opener took; 0 before `take`."""
        ...

    @property
    def next_position(self) -> int:
        """Where the next accepted task goes."""
        ...

    def owner(self) -> tuple[int, Owner | None]:
        """The epoch in the journal, and who raised it."""
        ...

    def take(self, expected_epoch: int, owner: Owner) -> int:
        """Raise the epoch by compare-and-swap (P2), then checkpoint and fsync (P4).

        Returns the new epoch. Raises StaleEpoch with `epoch` in its details if the journal holds
        another.
        """
        ...

    def append(
        self,
        frames: Sequence[bytes],
        now: int,
        queue_bound: int,
        source: SourcePosition | None = None,
    ) -> list[Receipt | ChimeraError]:
        """Accept frames durably; one answer each.

        Refusals: Overloaded, IdConflict, OutcomeUnknown (older than half the resend window),
        CorruptFrame, StoreFull. A task inside a frame that repeats an idempotency key is recorded
        as alias or refusal, and the rest of the frame accepted. After a refused frame with keys,
        later frames with keys of the same producer in this call are refused with NotOwner-like
        Unavailable, so that order holds (P11). Raises StaleEpoch.

        `source`: how far the source of these frames is read with them, kept in the same
        transaction, and never lowered. If a frame is refused it stays where it was: read again,
        those that were accepted are recognised. Without frames only the position is kept. What
        comes from a source may be of any age.
        """
        ...

    def source_position(self, name: str) -> int | None:
        """Where to go on reading a source, asked after `take`; None: it was never read."""
        ...

    def settle(self, settlement: Settlement, now: int) -> Settled:
        """Record outcomes, per still-open task (P8). Raises StaleEpoch, StoreFull."""
        ...

    def cancel(self, position: int, reason: str, now: int) -> int:
        """Write the intent to cancel (P9); returns the task's state (OPEN if it goes on)."""
        ...

    def memo(self, position: int, step: str) -> bytes | None:
        """The stored value of `ctx.once(step)`."""
        ...

    def memoise(self, position: int, step: str, value: bytes) -> bytes:
        """Store it unless there is one; returns the stored one (P18). Raises StaleEpoch."""
        ...

    def snapshot(self, tenant: str, type: str, key: str) -> bytes | None:
        """The state that a handler left for a key."""
        ...

    def replay(self, position: int, now: int) -> tuple[str, Receipt, bytes]:
        """Make a new task of a dead letter (P17): its id, receipt and frame.

        A repeated request answers the same id, with `duplicate` set. Raises NotFound.
        """
        ...

    def discard(self, position: int) -> None:
        """Give a dead letter up: it is failed for good, and cannot be replayed. Raises NotFound."""
        ...

    def probe(self) -> None:
        """Write and commit something, to see whether that can be done. Raises StoreFull, …"""
        ...

    def happened(self, after_seq: int, limit: int) -> tuple[int, Sequence[tuple[int, TaskRecord]]]:
        """The tasks of up to `limit` recorded rows past `after_seq`, and the last row's number.

        What retention took is left out. Below 0: nothing, and the number of the newest row.
        """
        ...

    def outbox(self, after_seq: int, limit: int) -> Sequence[Entry]:
        """Up to `limit` recorded rows past `after_seq`, in the order of recording (P10)."""
        ...

    def export(self, after_seq: int, upto_seq: int, limit: int) -> Sequence[Archived]:
        """The tasks of up to `limit` recorded rows with numbers in (after_seq, upto_seq]."""
        ...

    def claims(self, before: int) -> Sequence[bytes]:
        """Claim checks in the frames that were written by `before` and are still there."""
        ...

    def published(self, consumer: str) -> int:
        """The number up to which a consumer has read the outbox; 0 if it is not known."""
        ...

    def publish(self, consumer: str, seq: int, now: int) -> None:
        """Note that a consumer has read up to `seq`, which is never lowered.

        What it has not read yet is not swept, unless it says nothing for as long as outcomes are
        kept (P10). Raises StaleEpoch.
        """
        ...

    def forget(self, consumer: str) -> None:
        """Hold nothing back for a consumer any more. Raises StaleEpoch."""
        ...

    def recover(self) -> Recovered:
        """What is open, read after `take`."""
        ...

    def read(self, position: int, *, parked: bool = False) -> tuple[int, bytes]:
        """The command frame that holds a position, and where it starts; with `parked` the frame
        of one in the schedule. Raises NotFound, CorruptFrame."""
        ...

    def due(self, since: int, until: int, limit: int) -> list[Scheduled]:
        """Parked tasks due in [since, until], earliest first."""
        ...

    def parked(self, positions: Sequence[int]) -> list[Scheduled]:
        """Those of some tasks that are parked."""
        ...

    def quarantine(self, position: int, now: int) -> list[Single]:
        """End the open tasks of a corrupt command frame as `failed: corrupt` (P4)."""
        ...

    def outcomes(self, ranges: Sequence[tuple[int, int]], bytes_max: int) -> Outcomes:
        """What is recorded in [start, stop) ranges, up to about `bytes_max`, in order."""
        ...

    def find(self, tenant: str, session: int, counter: int, bodies: bool = True) -> TaskRecord:
        """One task by the parts of its id; an alias resolves to the first. Raises NotFound, or the
        error for which the task was refused."""
        ...

    def list(
        self,
        where: Filter,
        cursor: int | None,
        limit: int,
        among: Sequence[tuple[int, int]] | None = None,
    ) -> Sequence[TaskRecord]:
        """Tasks below the cursor (a position), newest first; without payloads and bodies, but for
        those that say why a dead letter failed, where only these are asked for.

        `among`: only those at these [start, stop) positions, each range within a frame.
        """
        ...

    def sweep(self, now: int, limit: int) -> SweepResult:
        """Remove what is past its retention, and give the space back. Raises StaleEpoch."""
        ...

    def stats(self) -> dict[str, Any]:
        """`open`, `tasks`, `bytes`, `commits`, `requests`, `schedule`, `dead`, and `session`: a
        number that the journal drew when it was made."""
        ...

    def close(self) -> None:
        """Checkpoint and close; a closed journal can be taken by another process at once.

        It names no owner any more, unless a newer one has taken it: nobody ends who let it go.
        """
        ...
