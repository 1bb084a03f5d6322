"""The journals that a leader has open, and the way to take one over.

Only this process opens them, only through SQLite. `Shards` is shared by the threads that accept,
record and read; the machine never sees it.
"""

from __future__ import annotations

import heapq
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import msgspec

from chimera import names
from chimera.actors import processes
from chimera.actors.claim import owner_at, raise_epoch
from chimera.actors.clock import unix_ms
from chimera.errors import (
    ChimeraError,
    CorruptFrame,
    InvalidRequest,
    LostTail,
    NotOwner,
    NotReady,
    StaleEpoch,
    StoreFull,
    UnknownTaskType,
)
from chimera.frames import command
from chimera.store import opened
from chimera.store.journal import SqliteJournal
from chimera.store.protocol import Journal, Receipt, Recovered, SourcePosition
from chimera.swarm.leader.events import (
    Appended,
    Event,
    Kind,
    NewFrame,
    Quarantined,
    ShardLost,
    Taken,
)
from chimera.swarm.policy import CLASSES, TASK_OPTIONS, TaskPolicy
from chimera.swarm.reports import LeaderConfig, Owner, ShardInfo, TakeOrder

T = TypeVar("T")

#: bytes of accepted frames kept in memory until they are dispatched; others are read again
CACHE_BYTES_MAX = 32 * 1024 * 1024


@dataclass(slots=True)
class Hosted:
    """One open journal."""

    journal: Journal
    state: str  #: `taking`, `serving`, `draining` or `lost_tail`
    lock: threading.Lock = field(default_factory=threading.Lock)
    told: int = 0  #: the machine knows all positions below
    #: accepted frames that wait for an earlier one to be told, by position
    early: list[tuple[int, int, NewFrame, Kind, int | None]] = field(default_factory=list)


class Shards:
    """The journals that this leader owns or is taking over."""

    def __init__(self, config: LeaderConfig, owner: Owner, tell: Callable[[Event], None]) -> None:
        self.config = config
        self._owner = owner
        self._tell = tell
        self._hosted: dict[int, Hosted] = {}
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._cache_bytes = 0
        self.types: dict[str, TaskPolicy] = {}  #: what the workers run
        self.lost_tails = 0
        self.duplicates = 0  #: tasks whose idempotency key had been used before

    def journal(self, shard: int) -> Journal:
        """The journal of a shard that is served here. Raises NotOwner."""
        hosted = self._hosted.get(shard)
        if hosted is None or hosted.state != "serving":
            raise NotOwner(f"shard {shard} is not served here", shard=shard)
        return hosted.journal

    def owned(self) -> dict[int, int]:
        """Shard → epoch of all that is served here."""
        return {n: h.journal.epoch for n, h in list(self._hosted.items()) if h.state == "serving"}

    def infos(self, open_tasks: Callable[[int], int]) -> tuple[ShardInfo, ...]:
        """Every shard that is served or under way, for the report."""
        return tuple(
            ShardInfo(number, hosted.journal.epoch, hosted.state, open_tasks(number))
            for number, hosted in sorted(self._hosted.items())
        )

    def configure(self, config: LeaderConfig) -> list[int]:
        """Work by new settings; returns shards that are let go, to be taken anew under them."""
        self.config = config
        waiting = [n for n, hosted in self._hosted.items() if hosted.state == "lost_tail"]
        if not config.accept_lost_tail:
            return []
        for shard in waiting:
            self.drop(shard)
        return waiting

    # accepting

    def append(
        self, shard: int, frames: Sequence[bytes], source: SourcePosition | None = None
    ) -> list[Receipt | dict[str, Any]]:
        """Accept frames; one receipt, or one error as plain data, for each.

        `source`: how far a broker is read with them; kept only if none of them is refused.
        """
        try:
            journal = self.journal(shard)
            heads = [self._check(frame) for frame in frames]
            good = [
                frame
                for frame, head in zip(frames, heads, strict=True)
                if isinstance(head, command.Head)
            ]
            whole = source if len(good) == len(frames) else None
            answers = iter(self._append(journal, good, whole))
        except StaleEpoch:
            self._lose(shard)
            return [NotOwner(f"shard {shard} has a new owner", shard=shard).to_wire()] * len(frames)
        except (NotOwner, StoreFull) as error:
            return [error.to_wire()] * len(frames)
        except ChimeraError as error:
            # what was written is not known: whoever takes the shard next reads it again (P22)
            self._lose(shard)
            return [error.to_wire()] * len(frames)
        out: list[Receipt | dict[str, Any]] = []
        for frame, head in zip(frames, heads, strict=True):
            answer = head if isinstance(head, ChimeraError) else next(answers)
            if isinstance(answer, ChimeraError):
                out.append(answer.to_wire())
                continue
            out.append(answer)
            if not answer.duplicate and isinstance(head, command.Head):
                self.accepted(shard, frame, head, answer)
        return out

    def _lose(self, shard: int) -> None:
        self.drop(shard)
        self._tell(ShardLost(shard))

    def _append(
        self, journal: Journal, frames: list[bytes], source: SourcePosition | None
    ) -> list[Receipt | ChimeraError]:
        if not frames and source is None:
            return []
        return journal.append(frames, unix_ms(), self.config.queue_bound, source)

    def source_position(self, shard: int, name: str) -> int | None:
        """How far a broker was read into a shard. Raises NotOwner."""
        return self.journal(shard).source_position(name)

    def _check(self, frame: bytes) -> command.Head | ChimeraError:
        """The head of a frame that this swarm can run."""
        try:
            head = command.head(frame)
            if not self.types:
                return NotReady("no worker has loaded its handlers yet", retry_after=0.2)
            if head.type not in self.types:
                known = ", ".join(sorted(self.types)) or "none"
                return UnknownTaskType(
                    f"no handler for task type {head.type!r}; there are: {known}", type=head.type
                )
            unknown = set(head.options or ()) - TASK_OPTIONS
            if unknown:
                return InvalidRequest(f"options that a task cannot set: {sorted(unknown)}")
            if head.options:
                msgspec.convert({"type": head.type, **head.options}, TaskPolicy)
        except (ChimeraError, msgspec.ValidationError) as error:
            if isinstance(error, ChimeraError):
                return error
            return InvalidRequest(f"options of the task: {error}")
        return head

    def accepted(self, shard: int, frame: bytes, head: command.Head, receipt: Receipt) -> None:
        """Tell the machine, in the order of positions whatever thread is first."""
        hosted = self._hosted.get(shard)
        if hosted is None:
            return
        new = opened.new_frame(frame, head, receipt)
        due = opened.earliest(frame, receipt)
        accepted = receipt.count - len(receipt.skipped)
        with self._lock:
            self.duplicates += sum(one.task_id is not None for one in receipt.skipped)
        self._remember((shard, receipt.position), frame)
        with hosted.lock:
            kind = (head.type, CLASSES[head.priority], accepted)
            heapq.heappush(hosted.early, (receipt.position, receipt.count, new, kind, due))
            frames: list[NewFrame] = []
            kinds: list[Kind] = []
            total, next_due = 0, None
            while hosted.early and hosted.early[0][0] == hosted.told:
                _, count, frame_event, kind, due = heapq.heappop(hosted.early)
                hosted.told += count
                total += kind[2]
                kinds.append(kind)
                if frame_event.ranges:
                    frames.append(frame_event)
                if due is not None:
                    next_due = due if next_due is None else min(next_due, due)
            if total:
                self._tell(Appended(shard, tuple(frames), total, next_due, tuple(kinds)))

    def _remember(self, key: tuple[int, int], frame: bytes) -> None:
        with self._lock:
            self._cache[key] = frame
            self._cache_bytes += len(frame)
            while self._cache_bytes > CACHE_BYTES_MAX:
                _, old = self._cache.popitem(last=False)
                self._cache_bytes -= len(old)

    def frame(self, shard: int, position: int, *, parked: bool) -> bytes:
        """The command frame that starts at a position. Raises NotFound, CorruptFrame, NotOwner."""
        if not parked:
            with self._lock:
                cached = self._cache.get((shard, position))
            if cached is not None:
                return cached
        return self.journal(shard).read(position, parked=parked)[1]

    def forget(self, shard: int, position: int) -> None:
        """A frame was dispatched whole: it need not be kept in memory."""
        with self._lock:
            frame = self._cache.pop((shard, position), None)
            if frame is not None:
                self._cache_bytes -= len(frame)

    def readable(self, shard: int, read: Callable[[Journal], T]) -> T:
        """Read a journal; a frame that turns out to be corrupt is put aside first (P4).

        Raises NotOwner, and what `read` raises.
        """
        known: set[int] = set()
        while True:
            try:
                return read(self.journal(shard))
            except CorruptFrame as fault:
                position = fault.details.get("position")
                if position is None or position in known:
                    raise
                known.add(position)
                self.quarantine(shard, position)

    def quarantine(self, shard: int, position: int, first: int = -1, stop: int = -1) -> None:
        """End the open tasks of a corrupt frame as `failed: corrupt`; nobody runs them.

        `first` and `stop` are tasks of it that are known.
        """
        journal = self.recording(shard)
        if journal is None:
            return
        self.forget(shard, position)
        ended = [single.position for single in journal.quarantine(position, unix_ms())]
        touched = [*ended, *range(first, stop)] or [position]
        low, high = min(touched), max(touched) + 1
        self._tell(Quarantined(shard, low, high - low, len(ended)))

    # coming and going

    def check_order(self, order: TakeOrder) -> Journal | None:
        """Open the journal and compare its epoch with the order's; None if it is ours already.

        Raises StaleEpoch with the actual epoch (P2), NotOwner if a newer spec than the order's has
        given the shard to another region.
        """
        hosted = self._hosted.get(order.shard)
        if hosted is not None:
            return None
        journal = open_journal(self.config, order.shard)
        try:
            former = owner_at(journal, order)
        except StaleEpoch:
            journal.close()
            raise
        if former is not None and former.generation > order.generation:
            journal.close()
            raise NotOwner(f"shard {order.shard} was given to {former.name} by a newer spec")
        self._hosted[order.shard] = Hosted(journal, "taking")
        return journal

    def take(self, journal: Journal, order: TakeOrder) -> Taken:
        """End the former owner, raise the epoch, read what is open (P2, P3, P4)."""
        hosted = self._hosted[order.shard]
        try:
            # this process may have been stopped since: who has the shard by now is not to be ended
            former = owner_at(journal, order)
            if former is not None and replace(former, generation=0) != self._owner:
                processes.end(former)
            raise_epoch(journal, order.epoch, replace(self._owner, generation=order.generation))
            if journal.lost_tail:
                self.lost_tails += 1
                if self.config.synced and not self.config.accept_lost_tail:
                    hosted.state = "lost_tail"
                    raise LostTail(
                        f"the journal of shard {order.shard} lost commits that were acknowledged; "
                        "set accept_lost_tail to go on without them",
                        shard=order.shard,
                    )
            recovered, frames = self._recover(journal)
            first = journal.due(0, 1 << 62, 1)
        except BaseException:
            if hosted.state != "lost_tail":
                self.drop(order.shard)
            raise
        hosted.told = journal.next_position
        hosted.state = "serving"
        return Taken(
            order.shard,
            journal.epoch,
            frames,
            recovered.holding,
            recovered.cancelling,
            recovered.open_tasks,
            first[0].due if first else None,
            tuple(info.name for info in order.former_workers),
        )

    def _recover(self, journal: Journal) -> tuple[Recovered, tuple[NewFrame, ...]]:
        """What is open. A frame that cannot be read any more is put aside: it costs nobody else."""
        known: int | None = None
        while True:
            recovered = journal.recover()
            try:
                return recovered, tuple(opened.reopened(journal, found) for found in recovered.open)
            except CorruptFrame as fault:
                position = fault.details.get("position")
                if position is None or position == known:
                    raise
                known = position
                journal.quarantine(position, unix_ms())

    def drain(self, shard: int) -> None:
        """Accept nothing more for a shard that is being handed over."""
        hosted = self._hosted.get(shard)
        if hosted is not None:
            hosted.state = "draining"

    def drop(self, shard: int) -> None:
        """Close a journal; another process may have it from now on."""
        hosted = self._hosted.pop(shard, None)
        if hosted is not None:
            hosted.journal.close()
        with self._lock:
            for key in [key for key in self._cache if key[0] == shard]:
                self._cache_bytes -= len(self._cache.pop(key))

    def recording(self, shard: int) -> Journal | None:
        """The journal to record into, also while it is handed over; None if it is not ours."""
        hosted = self._hosted.get(shard)
        return hosted.journal if hosted and hosted.state in ("serving", "draining") else None

    def close(self) -> None:
        for shard in list(self._hosted):
            self.drop(shard)


def open_journal(config: LeaderConfig, shard: int) -> Journal:
    """The journal of a shard, as the settings say."""
    retention: dict[str, Any] = {
        "resend_window_s": config.resend_window_s,
        "outcome_retention_s": config.outcome_retention_s,
        "idempotency_retention_s": config.idempotency_retention_s,
    }
    if config.store:
        from chimera.store.postgres import PostgresJournal  # its driver is an extra

        return PostgresJournal(config.store, shard, swarm=config.swarm, **retention)
    directory = os.path.join(config.data_dir, "journals")
    os.makedirs(directory, exist_ok=True)
    return SqliteJournal(
        os.path.join(directory, names.journal(shard)),
        shard,
        fsync=config.fsync,
        swarm_id=config.swarm,
        **retention,
    )
