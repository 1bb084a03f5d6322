"""Which keys are busy, and who waits behind them (G5, P15).

A key is busy from the dispatch of a task of it until that task's outcome is recorded. Tasks that
meet a busy key are set aside (a position in a queue of the key) and read past, so that other keys
are never held up. Order is that of acceptance, whatever the tasks' types and priorities.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter, deque
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from typing import cast

from chimera.swarm.leader.ranks import Ranks
from chimera.swarm.leader.ready import Piece, runs, scoped


@dataclass(slots=True)
class KeyBook:
    """The keys of one shard. A key here is scoped by tenant (see `scoped`)."""

    #: tasks of a key that are dispatched and not recorded
    busy: dict[str, int] = field(default_factory=dict)
    #: the key of each task counted in `busy`
    flying: dict[int, str] = field(default_factory=dict)
    #: positions in order, of tasks that wait for their key's turn
    waiting: dict[str, deque[int]] = field(default_factory=dict)
    #: the pieces that waiting positions come from, by frame
    aside: dict[int, Piece] = field(default_factory=dict)
    #: waiting tasks set aside, by frame: `aside` is forgotten at 0
    aside_tasks: dict[int, int] = field(default_factory=dict)
    starts: list[int] = field(default_factory=list)  #: the frames of `aside`, in order
    #: waiting tasks that came from the schedule
    late: dict[int, Piece] = field(default_factory=dict)
    #: tasks that wait in their key's order for a retry, with their key: nobody overtakes them (P16)
    asleep: dict[int, str] = field(default_factory=dict)
    #: waiting tasks that were dispatched before: the first of their keys, in that order
    returned: set[int] = field(default_factory=set)
    #: pieces held back as a whole, by tenant, in order
    held: dict[str, list[Piece]] = field(default_factory=dict)
    held_since: float = 0.0
    #: fresh keyed pieces by tenant, in order of position, that nobody has looked at
    unread: dict[str, deque[Piece]] = field(default_factory=dict)
    ranks: Ranks = field(default_factory=Ranks)

    def enlist(self, piece: Piece) -> None:
        """A fresh keyed piece joined the ready queue."""
        self.unread.setdefault(piece.tenant, deque()).append(piece)

    def claim(self, piece: Piece, mine: set[str], now: float) -> list[Piece]:
        """What of a piece may be dispatched now; the rest waits.

        `mine` are the keys of the flight in the making: behind a task of the same flight nothing
        has to wait. All earlier pieces of the tenant are put in order first: a task of a more
        urgent class must not overtake an earlier one of its key.
        """
        if piece.keys is None:
            return [piece]
        if piece.listed:
            return self._claim_in_turn(piece, mine)
        if not piece.from_schedule:
            self._read_up_to(piece)
        if self.held.get(piece.tenant) and not piece.forced:
            self._hold_back(piece, now)
            return []
        start = piece.first - piece.frame
        keys = piece.keys[start : piece.stop - piece.frame]
        wanted = set(keys) - {None}
        parts = [piece]
        if not wanted.isdisjoint(self.waiting):
            parts = self._behind(piece, self.waiting)
        if not wanted.isdisjoint(self.busy) and not wanted & self.busy.keys() <= mine:
            if piece.forced:
                blocked = self.busy.keys() - mine
                parts = [rest for part in parts for rest in self._behind(part, blocked)]
            else:
                for part in parts:
                    self._hold_back(part, now)
                return []
        for part in parts:
            self._fly(part, mine)
        return parts

    def _claim_in_turn(self, piece: Piece, mine: set[str]) -> list[Piece]:
        """Tasks that stand in their keys' order: those whose turn it is."""
        assert piece.keys is not None
        granted: list[int] = []
        for position in range(piece.first, piece.stop):
            key = piece.keys[position - piece.frame]
            if key is None:
                granted.append(position)
                continue
            queue = self.waiting.get(key)
            if not queue or queue[0] != position or position in self.asleep:
                continue  # not its turn, or dispatched already through another piece
            if position in self.late and not piece.from_schedule:
                continue  # it is another attempt now
            if key in self.busy and key not in mine:
                continue
            queue.popleft()
            if not queue:
                del self.waiting[key]
            if position not in self.returned:
                self.ranks.note(position, key, piece.from_schedule)
            self.returned.discard(position)
            self._unset_aside(piece)
            mine.add(key)
            self.busy[key] = self.busy.get(key, 0) + 1
            self.flying[position] = key
            granted.append(position)
        return runs(piece, granted)

    def _behind(self, piece: Piece, blocked: Container[str]) -> list[Piece]:
        """Set aside the tasks whose keys are blocked; returns the rest."""
        assert piece.keys is not None
        free: list[int] = []
        newly: set[str] = set()
        for position in range(piece.first, piece.stop):
            key = piece.keys[position - piece.frame]
            if key is None or (key not in blocked and key not in newly):
                free.append(position)
            else:
                newly.add(key)
                self.waiting.setdefault(key, deque()).append(position)
                self._set_aside(piece)
        return runs(piece, free)

    def _fly(self, piece: Piece, mine: set[str]) -> None:
        """A whole piece is dispatched."""
        assert piece.keys is not None
        keys = piece.keys[piece.first - piece.frame : piece.stop - piece.frame]
        self.ranks.note_all(keys, piece.first, piece.from_schedule)
        counts, busy = _counts(keys), self.busy
        flying = zip(range(piece.first, piece.stop), keys, strict=True)
        self.flying.update((position, key) for position, key in flying if key is not None)
        if busy.keys().isdisjoint(counts):
            busy.update(counts)
        else:
            for key, count in counts.items():
                busy[key] = busy.get(key, 0) + count
        mine.update(counts)

    def _hold_back(self, piece: Piece, now: float) -> None:
        """Wait, as a whole, for keys that are merely in flight: splitting would cost far more."""
        if not self.held:
            self.held_since = now
        self.held.setdefault(piece.tenant, []).append(piece)
        if not piece.from_schedule:
            queue = self.unread.setdefault(piece.tenant, deque())
            index = 0
            while index < len(queue) and queue[index].first < piece.first:
                index += 1
            queue.insert(index, piece)

    def unhold(self, now: float, patience_s: float | None = None) -> list[Piece]:
        """What was held back, to be tried again.

        With `patience_s` only what has waited so long; it is then split, so that no key is held up
        by others (G5).
        """
        if not self.held or (patience_s is not None and now - self.held_since < patience_s):
            return []
        held = [piece for pieces in self.held.values() for piece in pieces]
        self.held.clear()
        for piece in held:
            piece.forced = patience_s is not None
        return held

    def _read_up_to(self, piece: Piece) -> None:
        queue = self.unread.get(piece.tenant)
        if not queue:
            return
        while queue and queue[0].frame < piece.frame:
            self._list(queue.popleft())
        if queue and queue[0] is piece:  # else a part of it was cut off, and its rest waits
            queue.popleft()
        if not queue:
            del self.unread[piece.tenant]

    def _list(self, piece: Piece) -> None:
        """Put a piece's tasks in their keys' order; it stays where it is in the ready queue."""
        assert piece.keys is not None
        for position in range(piece.first, piece.stop):
            key = piece.keys[position - piece.frame]
            if key is not None:
                self.waiting.setdefault(key, deque()).append(position)
                self._set_aside(piece)
        piece.listed = True

    def _set_aside(self, piece: Piece) -> None:
        if piece.from_schedule:
            self.late[piece.first] = piece
            return
        if piece.frame not in self.aside:
            self.aside[piece.frame] = piece.part(piece.first, piece.stop)
            insort(self.starts, piece.frame)
        self.aside_tasks[piece.frame] = self.aside_tasks.get(piece.frame, 0) + 1

    def _unset_aside(self, piece: Piece) -> None:
        if piece.from_schedule:
            self.late.pop(piece.first, None)
            return
        left = self.aside_tasks[piece.frame] - 1
        if left:
            self.aside_tasks[piece.frame] = left
        else:
            del self.aside_tasks[piece.frame], self.aside[piece.frame]
            del self.starts[bisect_left(self.starts, piece.frame)]

    def _source(self, position: int) -> Piece:
        """The piece that a waiting position comes from."""
        late = self.late.get(position)
        if late is not None:
            return late
        return self.aside[self.starts[bisect_right(self.starts, position) - 1]]

    def hold(self, position: int, key: str) -> None:
        """A task that runs elsewhere keeps its key busy."""
        if position not in self.flying:
            self.flying[position] = key
            self.busy[key] = self.busy.get(key, 0) + 1

    def sleep(self, position: int) -> None:
        """A dispatched task waits for its retry: first of its key but for what came before it."""
        key = self.flying.get(position)
        if key is not None:
            self._release(position)
            self._put_back(key, position)
            self.asleep[position] = key

    def restore(self, position: int, tenant: str, key: str) -> None:
        """A new owner finds a task that waits for its retry: it is put in its key's order."""
        scoped_key = scoped(tenant, key)
        unread = self.unread.get(tenant, deque())
        while unread and unread[0].frame <= position:
            self._list(unread.popleft())
        if not unread:
            self.unread.pop(tenant, None)
        queue = self.waiting.setdefault(scoped_key, deque())
        index = sum(1 for other in queue if other < position)
        queue.insert(index, position)
        self.returned.add(position)
        self.asleep[position] = scoped_key

    def wake(self, piece: Piece) -> list[Piece] | None:
        """A retry is due: what is ready now; None if nobody waits for it here."""
        key = self.asleep.pop(piece.first, None)
        if key is None:
            return None
        piece.listed = True
        self.late[piece.first] = piece
        return self._next_of([key])

    def _put_back(self, key: str, position: int) -> None:
        """Into the prefix of tasks that were dispatched before, in that order."""
        queue = self.waiting.setdefault(key, deque())
        rank_of = self.ranks.of
        rank = rank_of(position)
        index = 0
        while index < len(queue) and queue[index] in self.returned and rank_of(queue[index]) < rank:
            index += 1
        queue.insert(index, position)
        self.returned.add(position)

    def _release(self, position: int) -> str | None:
        """One task of its key less in flight; the key, if it is free now."""
        key = self.flying.pop(position)
        left = self.busy[key] - 1
        if left:
            self.busy[key] = left
            return None
        del self.busy[key]
        return key

    def pieces(self) -> Iterator[Piece]:
        """Pieces set aside or held back; the others are in the ready queue."""
        yield from self.aside.values()
        yield from self.late.values()
        for pieces in self.held.values():
            yield from pieces

    def settle(self, ranges: Iterable[tuple[int, int]]) -> list[Piece]:
        """Outcomes are recorded: what they held up is ready now."""
        freed: list[str] = []
        land, busy = self.flying.pop, self.busy
        for first, stop in ranges:
            ended = [land(position, None) for position in range(first, stop)]
            if self.ranks:
                for position, key in enumerate(ended, first):
                    if key is not None:
                        self.ranks.forget(position, key)
            for key, count in _counts(ended).items():
                left = busy[key] - count
                if left:
                    busy[key] = left
                    continue
                del busy[key]
                if key in self.waiting:
                    freed.append(key)
        return self._next_of(freed)

    def give_back(self, piece: Piece) -> list[Piece]:
        """Dispatched tasks that did not run wait again, before all others of their keys."""
        freed: list[str] = []
        loose: list[int] = []
        for position in range(piece.stop - 1, piece.first - 1, -1):
            key = self.flying.get(position)
            if key is None:
                loose.append(position)
                continue
            self._put_back(key, position)
            self._set_aside(piece)
            if self._release(position) is not None:
                freed.append(key)
        return runs(piece, sorted(loose)) + self._next_of(freed)

    def drop_waiting(self, position: int) -> None:
        """A task gets its outcome without running: its key is busy until that is recorded."""
        key = self._waiting_key(position)
        if key is None:
            return
        queue = self.waiting[key]
        queue.remove(position)
        self.returned.discard(position)
        self.ranks.forget(position, key)
        if not queue:
            del self.waiting[key]
        if self.asleep.pop(position, None) is None:
            self._unset_aside(self._source(position))
        self.hold(position, key)

    def _waiting_key(self, position: int) -> str | None:
        if position in self.asleep:
            return self.asleep[position]
        if position not in self.late and (not self.starts or position < self.starts[0]):
            return None
        source = self._source(position)
        index = position - source.frame
        if source.keys is None or index >= len(source.keys):
            return None
        key = source.keys[index]
        return key if key is not None and position in self.waiting.get(key, ()) else None

    def overdue(self, unix_ms: int) -> list[int]:
        """Waiting tasks whose deadline has passed."""
        sources = [*self.aside.values(), *self.late.values()]
        return [
            position
            for source in sources
            if source.deadlines is not None
            for position in range(source.frame, source.frame + len(source.deadlines))
            if 0 < source.deadlines[position - source.frame] <= unix_ms
            and self._waiting_key(position) is not None
        ]

    def replaced(self, piece: Piece, parts: list[Piece]) -> None:
        """A piece in the ready queue was cut into parts."""
        queue = self.unread.get(piece.tenant)
        if queue is None:
            return
        for index, known in enumerate(queue):
            if known is piece:
                del queue[index]
                for part in reversed(parts):
                    queue.insert(index, part)
                break
        if not queue:
            del self.unread[piece.tenant]

    def _next_of(self, keys: list[str]) -> list[Piece]:
        """The first waiting tasks of keys that are free, with those of the same frame behind."""
        ready: dict[int, tuple[Piece, list[int]]] = {}
        for key in dict.fromkeys(keys):
            queue = self.waiting.get(key)
            if not queue or key in self.busy or queue[0] in self.asleep:
                continue
            source = self._source(queue[0])
            stop = source.frame + len(source.keys or ())
            positions = ready.setdefault(id(source), (source, []))[1]
            for position in queue:
                if not source.frame <= position < stop or position in self.asleep:
                    break
                if position in self.late and not source.from_schedule:
                    break
                positions.append(position)
        return [
            part
            for source, positions in ready.values()
            for part in runs(source, sorted(positions), listed=True)
        ]


def _counts(keys: Iterable[str | None]) -> dict[str, int]:
    """How many tasks of each key there are."""
    found = Counter(keys)
    del found[None]
    return cast("dict[str, int]", found)
