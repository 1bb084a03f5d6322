"""What a journal in memory keeps: frames, tasks, and a disk that outlives its opener."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from chimera.frames import ids, outcome
from chimera.store.journal import append
from chimera.store.journal.schedule import Cutter
from chimera.store.protocol import Park, Receipt, Scheduled, Single, Skipped, TaskRecord
from chimera.swarm.reports import Owner


@dataclass(slots=True)
class Frame:
    """An appended frame."""

    arrival: append.Arrival
    at: int
    receipt: Receipt
    cutter: Cutter
    swept: int | None = None


@dataclass(slots=True)
class Task:
    """What became of one task."""

    frame: Frame
    index: int
    skip: Skipped | None = None
    outcome: Single | None = None
    claimed: bool = False  #: the body is a claim check
    settled_at: int | None = None
    park: Park | None = None
    cancel: bool = False
    replayed: Task | None = None
    discarded: bool = False  #: a dead letter that was given up

    @property
    def open(self) -> bool:
        return self.outcome is None and self.skip is None

    @property
    def position(self) -> int:
        return self.frame.receipt.position + self.index

    @property
    def id(self) -> str:
        of = self.frame.arrival.of
        return ids.format_id(of.session, of.shard, of.first + self.index)

    @property
    def key(self) -> str | None:
        return self.frame.cutter.key(self.index)

    @property
    def state(self) -> str:
        if self.outcome is not None:
            return outcome.NAMES[self.outcome.state]
        if self.cancel:
            return "cancelling"
        return "queued" if self.park is None else "scheduled"

    @property
    def is_dead_letter(self) -> bool:
        return self.state == "failed" and not self.discarded

    def scheduled(self) -> Scheduled | None:
        park, head = self.park, self.frame.arrival.head
        if park is None:
            return None
        return Scheduled(
            self.position, park.due, park.attempt, park.holds_key,
            self.key, head.type, head.tenant, head.priority,
        )  # fmt: skip

    def record(self, bodies: bool) -> TaskRecord:
        head, done = self.frame.arrival.head, self.outcome
        again = self.replayed
        return TaskRecord(
            task_id=self.id,
            position=self.position,
            type=head.type,
            tenant=head.tenant,
            priority=head.priority,
            state=self.state,
            attempts=done.attempts if done else self.park.attempt - 1 if self.park else 0,
            accepted_at=self.frame.at,
            settled_at=self.settled_at,
            due=self.park.due if self.park else None,
            key=self.key,
            tags=self.frame.cutter.tags(self.index),
            cancel_requested=self.cancel,
            replay_of=head.replay_of,
            replayed_as=again.id if again else None,
            payload=self.frame.cutter.payload(self.index) if bodies else None,
            body=done.body if done and bodies else None,
            body_is_claim=self.claimed and bodies,
            dead_letter=self.is_dead_letter,
        )


@dataclass(slots=True)
class MemoryDisk:
    """What outlives an opener: give the same one to two journals to test a takeover."""

    epoch: int = 0
    owner: Owner | None = None
    full: bool = False  #: set by a test: appends are refused
    lost_tail: bool = False  #: set by a test
    corrupt: set[int] = field(default_factory=set)  #: frames that cannot be read; set by a test
    frames: list[Frame] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)  #: by position
    open: int = 0  #: tasks accepted and not settled
    outcomes: list[tuple[int, bytes]] = field(default_factory=list)  #: (position, frame)
    singles: list[Single] = field(default_factory=list)
    ended: list[Task] = field(default_factory=list)  #: in the order of recording
    keys: dict[bytes, tuple[bytes, int, int]] = field(default_factory=dict)
    memos: dict[tuple[int, str], bytes] = field(default_factory=dict)
    snapshots: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    #: consumers of the outbox: how far they have read, and when they said so
    consumers: dict[str, tuple[int, int]] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    commits: int = 0
    replays: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)
