"""What waits for a worker: priority class, then tenant (weighted fair), then type.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): the tenant that was given the least
expected time, divided by its weight, is next; so a tenant of slow tasks gets no more than its
share. A piece is a range of tasks, so that the fast lane costs nothing a task.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Any

from chimera.swarm.policy import CLASSES, TaskPolicy

#: expected seconds of work that a tenant of weight 1 is given at a turn
QUANTUM_S = 0.0025
#: every so many turns the lowest class goes first, so that it is never starved
LOW_FIRST_EVERY = 8
#: pieces of a queue that are looked at to tell how long it is
SAMPLE = 64


@dataclass(slots=True)
class Piece:
    """A range of tasks of one command frame."""

    shard: int
    frame: int  #: position at which the command frame starts
    first: int
    stop: int
    task_bytes: int  #: bytes a task, on average
    tenant: str
    policy: TaskPolicy
    attempt: int = 1
    since: float = 0.0  #: when it was accepted, or due, by the machine's clock; 0: not known
    #: of the whole frame, from position `frame`; scoped by tenant
    keys: list[str | None] | None = None
    deadlines: list[int] | None = None  #: likewise
    from_schedule: bool = False
    listed: bool = False  #: its tasks stand in the key book's order already
    forced: bool = False  #: it was held back long enough: it is split
    options: dict[str, Any] | None = None  #: overrides of the type's policy, in `policy` already
    trace_id: str | None = None

    @property
    def lane(self) -> tuple[str, int]:
        """What it stands in line with: keyed pieces of one shard do not hold up another's."""
        return self.policy.type, -1 if self.keys is None else self.shard

    @property
    def count(self) -> int:
        return self.stop - self.first

    def cut(self, count: int) -> Piece:
        """Take the first `count` tasks off."""
        part = replace(self, stop=self.first + count)
        self.first += count
        return part

    def part(self, first: int, stop: int) -> Piece:
        return replace(self, first=first, stop=stop)


def runs(piece: Piece, positions: list[int], *, listed: bool = False) -> list[Piece]:
    """Positions in order, as pieces of whole runs."""
    out: list[Piece] = []
    start = 0
    for i in range(1, len(positions) + 1):
        if i == len(positions) or positions[i] != positions[i - 1] + 1:
            part = piece.part(positions[start], positions[i - 1] + 1)
            part.listed = listed or piece.listed
            out.append(part)
            start = i
    return out


def scoped(tenant: str, key: str) -> str:
    """A key of one tenant is not another's."""
    return key if tenant == "default" else f"{tenant}\0{key}"


class Names(dict[str | None, str | None]):
    """A tenant's keys, scoped, each kept once however many tasks with it wait."""

    def __init__(self, tenant: str) -> None:
        self._tenant = tenant

    def __missing__(self, key: str | None) -> str | None:
        made = self[key] = None if key is None else scoped(self._tenant, key)
        return made


@dataclass(slots=True)
class _Tenant:
    name: str
    weight: int
    #: virtual time: expected seconds taken so far, divided by the weight
    taken: float
    lanes: dict[tuple[str, int], deque[Piece]] = field(default_factory=dict)
    turn: deque[tuple[str, int]] = field(default_factory=deque)  #: lanes with work


@dataclass(slots=True)
class _Level:
    """One priority class."""

    tenants: dict[str, _Tenant] = field(default_factory=dict)
    #: (virtual time, tie-breaker, tenant) of each tenant with work
    heap: list[tuple[float, int, _Tenant]] = field(default_factory=list)
    clock: float = 0.0  #: virtual time of the tenant served last


@dataclass(slots=True)
class ReadyQueue:
    """Pieces of all owned shards."""

    weights: dict[str, int] = field(default_factory=dict)
    tasks: int = 0  #: all that wait
    _levels: list[_Level] = field(default_factory=lambda: [_Level() for _ in CLASSES])
    _turns: int = 0
    _ties: int = 0

    def push(self, piece: Piece, *, front: bool = False) -> None:
        """Put a piece at the end of its queue, or at its front."""
        level = self._levels[min(max(piece.policy.priority, 0), len(CLASSES) - 1)]
        tenant = level.tenants.get(piece.tenant)
        if tenant is None:
            weight = max(1, self.weights.get(piece.tenant, 1))
            tenant = level.tenants[piece.tenant] = _Tenant(piece.tenant, weight, level.clock)
            self._enter(level, tenant)
        queue = tenant.lanes.get(piece.lane)
        if queue is None:
            queue = tenant.lanes[piece.lane] = deque()
            tenant.turn.append(piece.lane)
        (queue.appendleft if front else queue.append)(piece)
        self.tasks += piece.count

    def _enter(self, level: _Level, tenant: _Tenant) -> None:
        self._ties += 1
        heappush(level.heap, (tenant.taken, self._ties, tenant))

    def pull(
        self,
        admit: Callable[[Piece], int],
        cost_s: Callable[[Piece], float],
        room: Callable[[Piece, float], int],
    ) -> Iterator[Piece]:
        """Yield pieces in order until `room` (how many tasks more the caller takes) says 0.

        `admit` is how many tasks of a piece the limits allow now; `cost_s` the expected seconds
        a task.
        """
        self._turns += 1
        low_first = self._turns % LOW_FIRST_EVERY == 0
        for level in reversed(self._levels) if low_first else self._levels:
            stalled: list[_Tenant] = []
            try:
                while level.heap:
                    tenant = level.heap[0][2]
                    queue = self._next_queue(tenant, admit)
                    if queue is None:
                        heappop(level.heap)
                        stalled.append(tenant)
                        continue
                    cost = cost_s(queue[0])
                    allowed = min(admit(queue[0]), room(queue[0], cost))
                    if allowed <= 0:
                        return
                    heappop(level.heap)
                    fair = max(1, int(QUANTUM_S * tenant.weight / cost)) if level.heap else allowed
                    yield self._take(level, tenant, queue, min(allowed, fair), cost)
            finally:
                for tenant in stalled:
                    if level.tenants.get(tenant.name) is tenant:
                        self._enter(level, tenant)

    def _next_queue(self, tenant: _Tenant, admit: Callable[[Piece], int]) -> deque[Piece] | None:
        for _ in range(len(tenant.turn)):
            queue = tenant.lanes[tenant.turn[0]]
            tenant.turn.rotate(-1)
            if admit(queue[0]) > 0:
                return queue
        return None

    def _take(
        self, level: _Level, tenant: _Tenant, queue: deque[Piece], count: int, cost: float
    ) -> Piece:
        head = queue[0]
        if count < head.count:
            piece = head.cut(count)
        else:
            piece = queue.popleft()
            if not queue:
                self._forget(level, tenant, piece.lane)
        self.tasks -= piece.count
        level.clock = max(level.clock, tenant.taken)
        tenant.taken += cost * piece.count / tenant.weight
        if not level.heap:  # nobody else waits: a newcomer is not owed what went before
            level.clock = tenant.taken
        if tenant.lanes:
            self._enter(level, tenant)
        return piece

    def _forget(self, level: _Level, tenant: _Tenant, lane: tuple[str, int]) -> None:
        del tenant.lanes[lane]
        tenant.turn.remove(lane)
        if not tenant.lanes:
            del level.tenants[tenant.name]

    def remove(
        self, shard: int, first: int, stop: int, *, unkeyed: bool = False
    ) -> list[tuple[Piece, list[Piece]]]:
        """Take a range of tasks out; returns the pieces it was cut from, and their rests.

        `unkeyed`: only of pieces without keys.
        """
        cut: list[tuple[Piece, list[Piece]]] = []
        for level, tenant, lane, queue in self._queues():
            hit = [
                piece
                for piece in queue
                if piece.shard == shard
                and piece.first < stop
                and piece.stop > first
                and not (unkeyed and piece.keys is not None)
            ]
            if not hit:
                continue
            rebuilt: deque[Piece] = deque()
            for piece in queue:
                if not any(piece is other for other in hit):
                    rebuilt.append(piece)
                    continue
                rests = [
                    piece.part(a, b)
                    for a, b in ((piece.first, first), (stop, piece.stop))
                    if piece.first <= a < b <= piece.stop
                ]
                rebuilt.extend(rests)
                cut.append((piece, rests))
                self.tasks -= piece.count - sum(rest.count for rest in rests)
            self._replace(level, tenant, lane, rebuilt)
        return cut

    def overdue(self, unix_ms: int) -> list[tuple[Piece, int]]:
        """Tasks that wait here and whose deadline has passed."""
        return [
            (piece, position)
            for _, _, _, queue in self._queues()
            for piece in queue
            if piece.deadlines is not None
            for position in range(piece.first, piece.stop)
            if 0 < piece.deadlines[position - piece.frame] <= unix_ms
        ]

    def pieces(self) -> list[Piece]:
        """Everything that waits here."""
        return [piece for _, _, _, queue in self._queues() for piece in queue]

    def work_s(self, cost_s: Callable[[Piece], float]) -> float:
        """About how much work waits here, in seconds; a long queue is judged by its first part."""
        total = 0.0
        for _, _, _, queue in self._queues():
            part = list(islice(queue, SAMPLE))
            tasks = sum(piece.count for piece in part) * len(queue) / len(part)
            total += tasks * cost_s(part[0])
        return total

    def oldest(self, taken_at: Callable[[int], float]) -> float | None:
        """Since when the longest waiting task waits; None: none does.

        Not known of those that came with their shard: since that was taken, at least.
        """
        heads = [queue[0] for _, _, _, queue in self._queues()]
        return min((head.since or taken_at(head.shard) for head in heads), default=None)

    def _queues(self) -> list[tuple[_Level, _Tenant, tuple[str, int], deque[Piece]]]:
        return [
            (level, tenant, lane, queue)
            for level in self._levels
            for tenant in level.tenants.values()
            for lane, queue in tenant.lanes.items()
        ]

    def _replace(
        self, level: _Level, tenant: _Tenant, lane: tuple[str, int], queue: deque[Piece]
    ) -> None:
        tenant.lanes[lane] = queue
        if not queue:
            self._forget(level, tenant, lane)
        if not tenant.lanes:
            level.heap = [entry for entry in level.heap if entry[2] is not tenant]
            heapify(level.heap)

    def drop_shard(self, shard: int) -> list[Piece]:
        """Take out, and return, everything of a shard, in order of position."""
        dropped: list[Piece] = []
        for level, tenant, lane, queue in self._queues():
            mine = [piece for piece in queue if piece.shard == shard]
            if mine:
                dropped.extend(mine)
                kept = deque(piece for piece in queue if piece.shard != shard)
                self._replace(level, tenant, lane, kept)
        self.tasks -= sum(piece.count for piece in dropped)
        return sorted(dropped, key=lambda piece: piece.first)
