"""Waiting for outcomes: a few long-polls a shard serve everybody in this process who waits.

Runs on the engine. What is asked for are positions in a shard, which stay what they are when the
shard moves: a poll that dies with its leader is asked again of the next one. What is told to be
settled but not sent along (its body was swept, or it was an alias) is read by id.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from chimera.client.engine import Engine
from chimera.client.outcomes import Outcome, Piece
from chimera.client.ports import LeaderLink
from chimera.errors import ChimeraError, Fenced, Unavailable, from_wire
from chimera.frames import outcome
from chimera.frames.ids import TaskKey

#: seconds that a leader holds a poll; no longer, since a leader that is out of reach says nothing
HOLD_S = 2.0
#: seconds on top of it until a poll counts as unanswered
GRACE_S = 1.5
#: polls in flight a shard: for single tasks, and for bulks
SINGLE_POLLS = 4
BULK_POLLS = 1
#: while a bulk's outcomes flow, a leader gathers that many frames for an answer, this long at most
BULK_LEAST = 8
BULK_HOLD_S = 0.1
#: ranges in one poll
RANGES_MAX = 256
#: ranges of one want; past that it asks for all between its first and last open task
WANT_RANGES_MAX = 32
#: tasks read by id in one call
READ_MAX = 100
BACKOFF_FIRST_S = 0.01
BACKOFF_CAP_S = 0.5

#: state of a task that will not run: it is an alias or was refused, and nobody waits for it
SKIPPED = 255


@dataclass(slots=True, eq=False)
class Want:
    """Outcomes that somebody waits for: of consecutive tasks of one shard."""

    tenant: str
    key: TaskKey  #: id of the first task
    position: int  #: its place in the shard
    count: int
    bulk: bool  #: rather many outcomes in few answers than each as soon as it is there
    #: called on the engine with what was heard; each task once
    heard: Callable[[Piece], None]
    #: called on the engine if nobody can be asked any more
    failed: Callable[[ChimeraError], None]
    #: a byte a task: 0 while nothing is known, else its state
    states: bytearray = field(default_factory=bytearray)
    left: int = 0  #: tasks with nothing known
    dropped: bool = False  #: nobody waits any more
    tries: int = 0  #: answers in a row that brought nothing

    def __post_init__(self) -> None:
        if not self.states:
            self.states = bytearray(self.count)
        self.left = self.states.count(0)

    def ranges(self) -> list[tuple[int, int]]:
        """[start, stop) positions of what is not known."""
        if self.left == self.count:
            return [(self.position, self.position + self.count)]
        found: list[tuple[int, int]] = []
        at = self.states.find(0)
        while at >= 0:
            stop = at + 1
            while stop < self.count and not self.states[stop]:
                stop += 1
            found.append((self.position + at, self.position + stop))
            at = self.states.find(0, stop)
        if len(found) > WANT_RANGES_MAX:
            return [(found[0][0], found[-1][1])]
        return found

    def hear_single(self, position: int, told: Outcome) -> None:
        index = position - self.position
        if 0 <= index < self.count and not self.states[index]:
            self.states[index] = told.state
            self.left -= 1
            self.heard(Piece((index,), bytes((told.state,)), told))

    def hear_frame(self, frame: bytes, header: outcome.Header) -> None:
        """Take what the frame knows of our tasks and nobody told us before."""
        start = max(self.position, header.position)
        stop = min(self.position + self.count, header.position + header.count)
        if start >= stop:
            return
        shift = self.position - header.position
        first, last = start - self.position, stop - self.position
        states = outcome.states(frame, header)[first + shift : last + shift]
        indices: Sequence[int] = range(first, last)
        settled = not header.bad or all(states)
        if not settled or self.states.count(0, first, last) != len(states):
            indices = [i for i in indices if states[i - first] and not self.states[i]]
            states = bytes(states[i - first] for i in indices)
            for index, state in zip(indices, states, strict=True):
                self.states[index] = state
        else:
            self.states[first:last] = states
        if indices:
            self.left -= len(indices)
            self.heard(Piece(indices, states, (frame, shift)))


@dataclass(slots=True, eq=False)
class _Queue:
    """Wants of one shard and kind that no poll asks for just now, and the polls in flight."""

    shard: int
    bulk: bool
    fresh: deque[Want] = field(default_factory=deque)
    polls: int = 0
    #: outcomes of a bulk come one after the other; else the next one is told as soon as it is there
    flowing: bool = True


class Waiter:
    """Asks leaders for outcomes, and passes on what they tell."""

    def __init__(self, engine: Engine, link: LeaderLink) -> None:
        self._engine = engine
        self._link = link
        self._queues: dict[tuple[int, bool], _Queue] = {}
        self._wants: set[Want] = set()
        self._end: ChimeraError | None = None

    def want(self, wants: Sequence[Want]) -> None:
        """Begin to wait."""
        touched = {}
        for one in wants:
            if self._end is not None:
                one.failed(self._end)
            elif one.left:
                self._wants.add(one)
                queue = self._queue(one)
                queue.fresh.append(one)
                touched[queue.shard, queue.bulk] = queue
        for queue in touched.values():
            self._start(queue)

    def drop(self, wants: Sequence[Want]) -> None:
        """Nobody waits for these any more; a poll that asks for them just ends."""
        for one in wants:
            one.dropped = True
            self._wants.discard(one)

    def end(self, fault: ChimeraError) -> None:
        """The engine has ended: nothing will be heard any more."""
        self._end = fault
        for one in tuple(self._wants):
            one.failed(fault)
        self._wants.clear()

    def _queue(self, one: Want) -> _Queue:
        name = (one.key.shard, one.bulk)
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = _Queue(*name)
        return queue

    def _start(self, queue: _Queue) -> None:
        limit = BULK_POLLS if queue.bulk else SINGLE_POLLS
        while queue.fresh and queue.polls < limit:
            wants: list[Want] = []
            ranges: list[tuple[int, int]] = []
            while queue.fresh and len(ranges) < RANGES_MAX:
                one = queue.fresh.popleft()
                if not one.dropped and one.left:
                    wants.append(one)
                    ranges += one.ranges()
            if wants:
                self._poll(queue, wants, merged(ranges))

    def _poll(self, queue: _Queue, wants: list[Want], ranges: list[tuple[int, int]]) -> None:
        queue.polls += 1
        gather = queue.bulk and queue.flowing
        hold_s, least = (BULK_HOLD_S, BULK_LEAST) if gather else (HOLD_S, 1)
        pending = self._link.ask(queue.shard, "outcomes", queue.shard, ranges, hold_s, least)
        began = self._engine.now()

        def answered(answer: Any, fault: BaseException | None) -> None:
            if fault is not None:
                self._unheard(queue, wants, fault)
            else:
                self._heard(queue, wants, answer, self._engine.now() - began)

        self._engine.watch(pending, hold_s + GRACE_S, answered)

    def _heard(self, queue: _Queue, wants: list[Want], answer: Any, took_s: float) -> None:
        reply, *slots = answer
        before = sum(one.left for one in wants)
        for single in reply.singles:  # first: a single row wins over a frame's byte (P8)
            told = Outcome(single.state, single.body, False, single.attempts)
            for one in wants:
                one.hear_single(single.position, told)
        for frame in slots:
            if frame is not None:
                header = outcome.header(frame)
                for one in wants:
                    one.hear_frame(frame, header)
        left = self._unsettled(wants)
        progress = before > sum(one.left for one in left)
        gathered = queue.bulk and queue.flowing
        queue.flowing = progress
        for one in left:
            one.tries = 0 if progress else one.tries + 1
        if reply.complete and left and not progress:
            self._read(queue, left)
        elif left and not progress and not gathered and took_s < HOLD_S / 2:
            self._later(queue, left)
        else:
            self._free(queue, left)

    def _unsettled(self, wants: list[Want]) -> list[Want]:
        left = []
        for one in wants:
            if one.left and not one.dropped:
                left.append(one)
            else:
                self._wants.discard(one)
        return left

    def _unheard(self, queue: _Queue, wants: list[Want], fault: BaseException) -> None:
        """The owner is dead, another or silent: ask again. Any other fault would stay."""
        if isinstance(fault, (Unavailable, Fenced)):
            for one in wants:
                one.tries += 1
            looked = self._link.look()
            self._engine.watch(looked, HOLD_S, lambda *_: self._later(queue, wants))
            return
        error = fault if isinstance(fault, ChimeraError) else ChimeraError(repr(fault))
        for one in self._unsettled(wants):
            self._wants.discard(one)
            one.failed(error)
        self._free(queue, [])

    def _later(self, queue: _Queue, wants: list[Want]) -> None:
        tries = max((one.tries for one in wants), default=0)
        cap = min(BACKOFF_FIRST_S * 2 ** min(tries, 10), BACKOFF_CAP_S)
        wait_s = cap * random.uniform(0.5, 1.0)
        self._engine.later(wait_s, lambda: self._free(queue, wants))

    def _free(self, queue: _Queue, wants: list[Want]) -> None:
        """A poll is over: what it did not bring is asked for again."""
        queue.polls -= 1
        queue.fresh.extendleft(reversed(wants))
        self._start(queue)

    def _read(self, queue: _Queue, wants: list[Want]) -> None:
        """Settled, they say, but not sent along: read by id."""
        one = wants[0]
        indices = [i for i in range(one.count) if not one.states[i]][:READ_MAX]
        session, shard, first = one.key
        keys = [(session, shard, first + i) for i in indices]
        pending = self._link.ask(shard, "get", one.tenant, keys, True)

        def answered(records: Any, fault: BaseException | None) -> None:
            if fault is not None:
                self._unheard(queue, wants, fault)
                return
            for index, record in zip(indices, records, strict=True):
                if isinstance(record, dict):
                    told = Outcome(outcome.FAILED, b"", False, 0, from_wire(record))
                else:
                    told = Outcome.of(record)
                if told.state != outcome.OPEN:
                    one.hear_single(one.position + index, told)
            self._later(queue, self._unsettled(wants))

        self._engine.watch(pending, HOLD_S, answered)


def merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same positions in as few ranges as possible, in order."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], stop))
        else:
            joined.append((start, stop))
    return joined
