"""The outcomes of many tasks as a stream: in submit order or as they come, in bounded memory.

Only a window of segments is asked for at a time; it moves on as the caller takes results.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from chimera.client.bulk import BulkTasks, Segment
from chimera.client.mailbox import Mailbox
from chimera.client.outcomes import Outcome, Piece, decode_json
from chimera.client.ports import Silent
from chimera.client.steps import FOREVER, Steps
from chimera.client.task import accepted, value
from chimera.client.wait import SKIPPED, Want
from chimera.errors import ChimeraError, InvalidRequest, NotFound, TaskError, WaitTimeout
from chimera.frames import outcome

#: segments asked for and not yet taken
WINDOW = 64

_PENDING = object()
#: stands for a task that was not accepted itself: refused, or an alias of an earlier one
_SKIPPED = Outcome(SKIPPED, b"")
#: what a task can end with; any other error is about the waiting
_ENDS = (TaskError, InvalidRequest, NotFound)


@dataclass(frozen=True, slots=True)
class Batch:
    """Some tasks of a segment and their results."""

    segment: Segment
    offsets: Sequence[int]
    #: a result a task; an Outcome where there is more to do: it failed, or its result is a claim
    values: list[Any]


@dataclass(slots=True, eq=False)
class _Live:
    """A segment of the window."""

    segment: Segment
    want: Want
    values: list[Any]  #: as in Batch; `_PENDING` while nothing was heard
    left: int  #: tasks of which nothing was heard
    at: int = 0  #: how many of its tasks were taken, in order


class Reel:
    """One pass over the outcomes of a bulk. Not safe for threads."""

    def __init__(self, bulk: BulkTasks, timeout_s: float | None, ordered: bool) -> None:
        self._bulk = bulk
        self._core = bulk.core
        self._until = time.monotonic() + (FOREVER if timeout_s is None else timeout_s)
        self._ordered = ordered
        self._heard: Mailbox[tuple[_Live, Piece] | ChimeraError] = Mailbox()
        self._upcoming: Iterator[Segment] = iter(bulk.segments)
        self._following: Segment | None = next(self._upcoming, None)
        self._live: set[_Live] = set()
        #: (index of the next task to take, tie-breaker, segment)
        self._order: list[tuple[int, int, _Live]] = []
        self._aside: deque[Batch] = deque()  #: skipped tasks, for those who take no order
        self._fault: ChimeraError | None = None

    def results(self, return_exceptions: bool) -> Steps[list[Any] | None]:
        """The next results in submit order, as many as are there; None at the end.

        Raises what a task ended with, unless that is to be returned in its place.
        """
        if self._fault is not None:
            raise self._fault
        batch = yield from self._next_in_order()
        if batch is None:
            return None
        return (yield from self._finished(batch, return_exceptions))

    def completed(self, return_exceptions: bool) -> Steps[list[tuple[int, Any]] | None]:
        """The next (index, result) pairs as they come; None at the end."""
        if self._fault is not None:
            raise self._fault
        batch = yield from self._next_completed()
        if batch is None:
            return None
        values = yield from self._finished(batch, return_exceptions)
        indices = batch.segment.indices
        return [(indices[offset], one) for offset, one in zip(batch.offsets, values, strict=False)]

    def drain(self) -> Steps[None]:
        """Wait until everything is heard; nothing is decoded."""
        while True:
            self._admit()
            self._aside.clear()
            if not self._live:
                return
            live, _ = yield from self._hear()
            if not live.left:
                self._live.discard(live)

    def close(self) -> None:
        """No more will be taken: stop asking."""
        wants = [live.want for live in self._live if live.left]
        if wants and self._core.is_open:
            self._core.engine.do(lambda: self._core.waiter.drop(wants))
        self._live.clear()
        self._order.clear()
        self._following = None

    def _next_in_order(self) -> Steps[Batch | None]:
        while True:
            self._admit()
            if not self._order:
                return None
            batch = self._take()
            if batch.values:
                return batch
            live, piece = yield from self._hear()
            _note(live, piece)

    def _next_completed(self) -> Steps[Batch | None]:
        while True:
            self._admit()
            if self._aside:
                return self._aside.popleft()
            if not self._live:
                return None
            live, piece = yield from self._hear()
            if not live.left:
                self._live.discard(live)
            values = piece.plain()
            if values is None:
                values = [_result(told) for _, told in piece.outcomes()]
            return Batch(live.segment, piece.indices, values)

    def _finished(self, batch: Batch, return_exceptions: bool) -> Steps[list[Any]]:
        """The batch's results, claims fetched and duplicates looked up."""
        values = batch.values
        for at, told in enumerate(values):
            if type(told) is Outcome:
                try:
                    values[at] = yield from self._resolved(batch, at, told)
                except _ENDS as fault:
                    if return_exceptions:
                        values[at] = fault
                    elif at:  # first what came before it
                        self._fault = fault
                        return values[:at]
                    else:
                        raise
        return values

    def _resolved(self, batch: Batch, at: int, told: Outcome) -> Steps[Any]:
        if told is not _SKIPPED:
            return (yield from value(self._core, told))
        left = max(self._until - time.monotonic(), 0.0)
        of = batch.segment.accepted
        task = accepted(self._core, self._bulk.tenant, of, batch.offsets[at])
        return (yield from task.result(left))

    def _admit(self) -> None:
        """Fill the window; refilled by halves, so that polls ask for many segments at once."""
        if len(self._live) > WINDOW // 2 and not self._must_admit():
            return
        fresh = []
        while self._following is not None and (len(self._live) < WINDOW or self._must_admit()):
            segment, self._following = self._following, next(self._upcoming, None)
            live = self._enter(segment)
            if live.left:
                fresh.append(live.want)
            if self._ordered:
                heapq.heappush(self._order, (segment.indices[0], id(live), live))
            elif segment.skipped:
                skipped = list(segment.skipped)
                self._aside.append(Batch(segment, skipped, [_SKIPPED] * len(skipped)))
            if self._ordered or live.left:
                self._live.add(live)
        if fresh:
            self._core.check()
            self._core.engine.do(lambda: self._core.waiter.want(fresh))

    def _must_admit(self) -> bool:
        """Whether the next segment has the task whose turn it is: shards interleave."""
        if not self._order or self._following is None:
            return False
        return self._following.indices[0] < self._order[0][0]

    def _enter(self, segment: Segment) -> _Live:
        count = segment.accepted.count
        states = bytearray(count)
        values = [_PENDING] * count if self._ordered else []
        for offset in segment.skipped:
            states[offset] = SKIPPED
            if self._ordered:
                values[offset] = _SKIPPED
        want = Want(
            self._bulk.tenant, segment.key, segment.accepted.position, count, True,
            heard=lambda piece: self._heard.put((live, piece)),
            failed=self._heard.put,
            states=states,
        )  # fmt: skip
        live = _Live(segment, want, values, want.left)
        return live

    def _hear(self) -> Steps[tuple[_Live, Piece]]:
        """Wait for one piece, and count what it says."""
        try:
            heard = yield self._heard.take(), max(self._until - time.monotonic(), 0.0)
        except Silent:
            counts = self._bulk.counts()
            raise WaitTimeout(
                f"{counts.open} of {counts.total} tasks are not done yet", open=counts.open
            ) from None
        if isinstance(heard, ChimeraError):
            raise heard
        live, piece = heard
        known = live.segment.states
        if isinstance(piece.indices, range):
            known[piece.indices.start : piece.indices.stop] = piece.states
        else:
            for offset, state in zip(piece.indices, piece.states, strict=True):
                known[offset] = state
        live.left -= len(piece.indices)
        return live, piece

    def _take(self) -> Batch:
        """What is ready of the tasks whose turn it is."""
        _, tie, live = self._order[0]
        indices = live.segment.indices
        limit = len(indices)
        turns = [entry[0] for entry in self._order[1:3]]
        if self._following is not None:
            turns.append(self._following.indices[0])
        if turns and indices[-1] > min(turns):  # another segment has its turn before our end
            border = min(turns)
            limit = next(at for at in range(live.at, limit) if indices[at] > border)
        start = stop = live.at
        if not live.left:
            stop = limit
        else:
            while stop < limit and live.values[stop] is not _PENDING:
                stop += 1
        if stop < len(indices):
            live.at = stop
            heapq.heapreplace(self._order, (indices[stop], tie, live))
        else:
            heapq.heappop(self._order)
            self._live.discard(live)
        return Batch(live.segment, range(start, stop), live.values[start:stop])


def _result(told: Outcome) -> Any:
    """The result, or the outcome itself if there is more to do."""
    if told.state == outcome.SUCCEEDED and not told.is_claim and told.fault is None:
        return decode_json(told.body)
    return told


def _note(live: _Live, piece: Piece) -> None:
    """Put a piece's results into their places."""
    plain = piece.plain()
    if plain is not None:
        start = piece.indices[0]
        live.values[start : start + len(plain)] = plain
        return
    for offset, told in piece.outcomes():
        live.values[offset] = _result(told)
