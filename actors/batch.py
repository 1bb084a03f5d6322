"""One command frame in a worker's hands: what of it has begun, has ended, and was handed in.

Whoever runs the tasks writes their ends, while the threads that answer the leader read them. A task
begins by being taken from `pending`, and is taken back by closing `pending` before it: single
operations on a deque, so that each task goes to one side without a lock a task.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from chimera.actors.board import BoardWriter
from chimera.api.task import Handler
from chimera.frames import command, outcome
from chimera.frames.bundle import Dispatch
from chimera.frames.ids import format_id
from chimera.frames.outcome import Failure
from chimera.swarm.policy import TaskPolicy
from chimera.swarm.worker import Part, Range

T = TypeVar("T")

#: bytes of header and columns other than snapshots, at most
_ROOM = 512
#: progress of one task is told on no more often than this, seconds
_PROGRESS_S = 0.05


class Owner(Protocol):
    """The owner of a shard, whoever that is: it waits through a failover, for `timeout_s` at most.

    Then it raises Unavailable.
    """

    def memo(self, shard: int, position: int, step: str, timeout_s: float) -> bytes | None: ...

    def memoise(
        self, shard: int, position: int, step: str, value: bytes, timeout_s: float
    ) -> bytes: ...

    def snapshots(
        self, shard: int, tenant: str, type: str, keys: Sequence[str], timeout_s: float
    ) -> list[bytes | None]: ...

    def progress(self, shard: int, position: int, value: Any) -> None: ...


class Shared(NamedTuple):
    """What all batches of one dispatch share."""

    board: BoardWriter
    owner: Owner
    #: (shard, tenant, key) whose later tasks are left open, since an earlier one failed
    blocked: set[tuple[int, str, str]]
    #: the last good state of each (type, tenant, key) met so far
    states: dict[tuple[str, str, str], bytes | None]
    #: of these, the ones that handlers have been given
    restored: set[tuple[str, str, str]]


class Batch:
    """One command frame, or the part of one that was dispatched. Also the source of contexts."""

    def __init__(self, item: Dispatch, header: command.Header, base: int, shared: Shared) -> None:
        """`base` is the ordinal of its first task within the dispatch."""
        self.part = Part(item.shard, item.epoch, item.position, header.count)
        self.base = base
        self.shared = shared
        self.attempt = item.attempt
        self.epoch = item.epoch
        self.type = self.tenant = ""
        self.columns = command.Columns()
        self.claimed: frozenset[int] = frozenset()  #: whose payload is a claim check
        self.policy = TaskPolicy(type="")
        self.handler: Handler | None = None
        self.is_over = False  #: it has its outcome, and is not to be opened
        self.pending: deque[bytes | None] = deque([None])
        #: a task has ended once its body is here; all else of it is written before
        self.bodies: list[bytes | None] = [None] * header.count
        self.states = bytearray((outcome.SUCCEEDED,)) * header.count
        self.claims: set[int] = set()
        self.snapshots: dict[int, bytes] = {}
        self.cancelled: set[int] = set()
        #: by index: told when a task in hand is cancelled
        self.on_cancel: dict[int, Callable[[], object]] = {}
        self._frame, self._header = item.frame, header
        self._lock = threading.Lock()
        self._stopped = False
        self._begun: bytearray | None = None  #: by index; None: in order, from `pending`
        self._spent_us: list[int] | None = None
        self._handed_in = bytearray(header.count)
        self._lap_ns = 0
        self._progress_at: dict[int, float] = {}

    # running

    def open(self) -> command.Head:
        """Read the frame. Raises CorruptFrame."""
        head = command.head(self._frame, self._header)
        self.columns = command.columns(self._frame, self._header)
        self.claimed = frozenset(self.columns.claims or ())
        self.type, self.tenant = head.type, head.tenant
        payloads: list[bytes | None] = [*command.payloads(self._frame, self._header), None]
        self.pending = deque(payloads)
        self._lap_ns = time.monotonic_ns()
        return head

    def spread(self) -> list[bytes]:
        """All payloads, for tasks that run side by side: each begins with `claim`."""
        with self._lock:
            count = self.part.count
            self._begun = bytearray(count)
            self._spent_us = [0] * count
            payloads = [payload for payload in self.pending if payload is not None]
            self.pending = deque([None])
            return payloads

    def claim(self, index: int) -> bool:
        """Begin a task, unless it was taken back."""
        with self._lock:
            assert self._begun is not None
            if not self._stopped:
                self._begun[index] = 1
            return not self._stopped

    def spent(self, index: int, microseconds: int) -> None:
        """How long a task of those that run side by side took."""
        assert self._spent_us is not None
        self._spent_us[index] = microseconds

    def end(self, index: int, state: int, body: bytes) -> None:
        """A task ended other than well."""
        self.states[index] = state
        self.bodies[index] = body

    def end_all(self, state: int, failure: Failure | None) -> None:
        """None of its tasks can be run. Before it is started."""
        self.is_over = True
        self.pending = deque([None])
        self.states = bytearray((state,)) * self.part.count
        body = b"" if failure is None else outcome.encode_failure(failure)
        self.bodies = [body] * self.part.count
        if self.columns.keys:
            slots = map(self.slot, range(self.part.count))
            self.shared.blocked.update(slot for slot in slots if slot is not None)

    # what the leader's questions need

    def stop(self) -> list[Range]:
        """Take back what has not begun; the ranges that were, the first time."""
        with self._lock:
            if self._stopped:
                return []
            self._stopped = True
            if self._begun is None:
                # whoever runs the tasks finds the end here; what is behind it did not begin
                self.pending.appendleft(None)
                left = self._left()
                begun = [True] * (self.part.count - left) + [False] * left
            else:
                begun = [bool(one) for one in self._begun]
            return [
                (self.part.shard, self.part.position + start, stop - start)
                for start, stop in _runs([not one for one in begun])
            ]

    def in_hand(self) -> list[int]:
        """Positions of the tasks that began and have not ended."""
        with self._lock:
            if self._begun is None:
                begun: Iterator[int] = iter(range(self.part.count - self._left()))
            else:
                begun = (index for index, one in enumerate(self._begun) if one)
            return [self.part.position + index for index in begun if self.bodies[index] is None]

    def hand_in(self) -> list[bytes]:
        """Outcome frames of what has ended and was not handed in before."""
        with self._lock:
            if not any(self._handed_in) and None not in self.bodies:
                ranges = [(0, self.part.count)]
            else:
                ranges = _runs(
                    [
                        body is not None and not handed
                        for body, handed in zip(self.bodies, self._handed_in, strict=True)
                    ]
                )
            durations = self._durations(ranges)
            frames = [
                self._pack(start, stop, microseconds * (stop - start) // (last - first))
                for (first, last), microseconds in zip(ranges, durations, strict=True)
                for start, stop in self._fitting(first, last)
            ]
            for first, last in ranges:
                self._handed_in[first:last] = b"\1" * (last - first)
                if last - first < self.part.count:
                    self.bodies[first:last] = [b""] * (last - first)  # the frames have them
            return frames

    def cancel(self, position: int) -> None:
        """A task is to end; one that has not begun will not."""
        index = position - self.part.position
        self.cancelled.add(index)
        tell = self.on_cancel.get(index)
        if tell is not None:
            tell()

    def _left(self) -> int:
        pending = self.pending.copy()
        return len(pending) - pending.count(None)

    def _durations(self, ranges: list[tuple[int, int]]) -> list[int]:
        """Microseconds in the handler, for each range."""
        if self._spent_us is not None:
            spent = self._spent_us
            return [sum(spent[start:stop]) for start, stop in ranges]
        if not self._lap_ns or not ranges:
            return [0] * len(ranges)
        lap_us = (time.monotonic_ns() - self._lap_ns) // 1000
        self._lap_ns = time.monotonic_ns()
        total = sum(stop - start for start, stop in ranges)
        return [max(1, lap_us * (stop - start) // total) for start, stop in ranges]

    # outcome frames

    def _fitting(self, first: int, last: int) -> list[tuple[int, int]]:
        """The range cut so that each part makes a frame of at most `BYTES_MAX`, if it can."""
        parts: list[tuple[int, int]] = []
        room = command.BYTES_MAX - _ROOM
        bodies = self.bodies
        size = sum(len(body) for body in bodies[first:last] if body is not None)
        if not self.snapshots and size + 5 * (last - first) <= room:
            return [(first, last)]
        start, size, states = first, 0, dict[str | None, int]()
        for index in range(first, last):
            key, snapshot = self.key(index), len(self.snapshots.get(index, b"")) + 8
            more = len(bodies[index] or b"") + 9 + snapshot
            if index > start and size + more > room:
                parts.append((start, index))
                start, size, states = index, 0, {}
            size += more - states.get(key, 0)  # of each key only the last state goes
            if index in self.snapshots:
                states[key] = snapshot
        return [*parts, (start, last)]

    def _pack(self, start: int, stop: int, microseconds: int) -> bytes:
        bodies = [body for body in self.bodies[start:stop] if body is not None]
        columns = None
        if self.claims or self.snapshots:
            # other threads add to both meanwhile: they are asked, never iterated
            last = {self.key(i): i for i in range(start, stop) if i in self.snapshots}
            columns = outcome.Columns(
                claims=[i - start for i in range(start, stop) if i in self.claims] or None,
                snapshots={i - start: self.snapshots[i] for i in last.values()} or None,
            )
            if columns == outcome.Columns():
                columns = None
        return outcome.pack(
            self.part.shard,
            self.epoch,
            self.part.position + start,
            self.states[start:stop],
            bodies,
            attempt=self.attempt,
            duration_us=microseconds,
            columns=columns,
        )

    # the source of contexts (chimera.api.context.Source)

    def task_id(self, index: int) -> str:
        of = self._header
        return format_id(of.session, of.shard, of.first + index)

    def key(self, index: int) -> str | None:
        return self.columns.keys[index] if self.columns.keys else None

    def slot(self, index: int) -> tuple[int, str, str] | None:
        """What a task shares with those that it must not run beside: shard, tenant and key."""
        key = self.key(index)
        return None if key is None else (self.part.shard, self.tenant, key)

    def tags(self, index: int) -> Sequence[str]:
        return self.columns.tags[index] if self.columns.tags else ()

    def deadline(self, index: int) -> int:
        return self.columns.deadline[index] if self.columns.deadline else 0

    def is_cancelled(self, index: int) -> bool:
        return index in self.cancelled

    def heartbeat(self) -> None:
        self.shared.board.heartbeat()

    def progress(self, index: int, value: Any) -> None:
        now = time.monotonic()
        if now - self._progress_at.get(index, 0.0) >= _PROGRESS_S:
            self._progress_at[index] = now
            self.shared.owner.progress(self.part.shard, self.part.position + index, value)

    def memo(self, index: int, step: str) -> bytes | None:
        part, timeout_s = self.part, self.policy.attempt_timeout_s
        return self.shared.owner.memo(part.shard, part.position + index, step, timeout_s)

    def memoise(self, index: int, step: str, value: bytes) -> bytes:
        part, timeout_s = self.part, self.policy.attempt_timeout_s
        return self.shared.owner.memoise(part.shard, part.position + index, step, value, timeout_s)

    async def in_thread(self, work: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(None, work, *args)


def _runs(marks: Sequence[bool]) -> list[tuple[int, int]]:
    """[start, stop) of the runs of true marks."""
    out: list[tuple[int, int]] = []
    start: int | None = None
    for index, mark in enumerate(marks):
        if mark and start is None:
            start = index
        elif not mark and start is not None:
            out.append((start, index))
            start = None
    if start is not None:
        out.append((start, len(marks)))
    return out
