"""The outcomes of many tasks as a stream: in submit order or as they come, in bounded memory.

Only a window of segments is asked for at a time; it moves on as the caller takes results.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from chimera.client.bulk import BulkTasks, Segment
from chimera.client.lineup import Lineup
from chimera.client.mailbox import Mailbox
from chimera.client.outcomes import Outcome, Piece, decode_json
from chimera.client.ports import Silent
from chimera.client.steps import FOREVER, Steps
from chimera.client.task import accepted
from chimera.client.wait import SKIPPED, Want
from chimera.errors import ChimeraError, InvalidRequest, NotFound, TaskError, WaitTimeout
from chimera.frames import outcome

#: segments asked for and not yet taken
WINDOW = 64

#: what a task can end with; any other error is about the waiting
_ENDS = (TaskError, InvalidRequest, NotFound)


class _Odd(NamedTuple):
    """Stands for a task that there is more to do for: it failed, its result is a claim, or it was
    not accepted itself, since it was refused or is an alias of an earlier one."""

    segment: Segment
    offset: int
    told: Outcome | None = None  #: None: not accepted itself


@dataclass(slots=True, eq=False)
class _Live:
    """A segment of the window."""

    segment: Segment
    want: Want
    left: int  #: tasks of which nothing was heard


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
        self._lineup = Lineup()
        self._odd = 0  #: values in it that there is more to do for
        self._aside: deque[_Odd] = deque()  #: for those who take no order
        self._fault: ChimeraError | None = None

    def results(self, return_exceptions: bool) -> Steps[list[Any] | None]:
        """The next results in submit order, as many as are there; None at the end.

        Raises what a task ended with, unless that is to be returned in its place.
        """
        if self._fault is not None:
            raise self._fault
        values = yield from self._next_in_order()
        if values is None or not self._odd:
            return values
        self._odd -= sum(type(one) is _Odd for one in values)
        return (yield from self._finished(values, return_exceptions))

    def completed(self, return_exceptions: bool) -> Steps[list[tuple[int, Any]] | None]:
        """The next (index, result) pairs as they come; None at the end."""
        if self._fault is not None:
            raise self._fault
        found = yield from self._next_completed()
        if found is None:
            return None
        indices, values = found
        values = yield from self._finished(values, return_exceptions)
        return list(zip(indices, values, strict=False))

    def drain(self) -> Steps[None]:
        """Wait until everything is heard; nothing is decoded."""
        while True:
            self._admit()
            self._aside.clear()
            if not self._live:
                return
            yield from self._hear()

    def close(self) -> None:
        """No more will be taken: stop asking."""
        wants = [live.want for live in self._live if live.left]
        if wants and self._core.is_open:
            self._core.engine.do(lambda: self._core.waiter.drop(wants))
        self._live.clear()
        self._lineup = Lineup()
        self._following = None

    def _next_in_order(self) -> Steps[list[Any] | None]:
        while True:
            self._admit()
            values = self._lineup.take(self._first_following())
            if values:
                self._leave()
                return values
            if not self._lineup and self._following is None:
                return None
            if any(live.left for live in self._live):
                live, piece = yield from self._hear()
                self._note(live.segment, piece)

    def _next_completed(self) -> Steps[tuple[Sequence[int], list[Any]] | None]:
        while True:
            self._admit()
            if self._aside:
                skipped = self._aside.popleft()
                return (skipped.segment.indices[skipped.offset],), [skipped]
            if not self._live:
                return None
            live, piece = yield from self._hear()
            values = piece.plain()
            if values is None:
                values = _results(live.segment, piece)
            return _indices(live.segment, piece), values

    def _finished(self, values: list[Any], return_exceptions: bool) -> Steps[list[Any]]:
        """The results, claims fetched and duplicates looked up."""
        for at, told in enumerate(values):
            if type(told) is _Odd:
                try:
                    values[at] = yield from self._resolved(told)
                except _ENDS as fault:
                    if return_exceptions:
                        values[at] = fault
                    elif at:  # first what came before it
                        self._fault = fault
                        return values[:at]
                    else:
                        raise
        return values

    def _resolved(self, odd: _Odd) -> Steps[Any]:
        left = max(self._until - time.monotonic(), 0.0)
        by = odd.segment.accepted
        task = accepted(self._core, self._bulk.tenant, by, odd.offset, odd.told)
        return (yield from task.result(left))

    def _note(self, segment: Segment, piece: Piece) -> None:
        """Put a piece's results into their places."""
        values = piece.plain()
        if values is None:
            values = _results(segment, piece)
            self._odd += sum(type(one) is _Odd for one in values)
        self._lineup.put(_indices(segment, piece), values)

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
            skipped = [_Odd(segment, offset) for offset in segment.skipped]
            if self._ordered:
                self._lineup.expect(segment.indices)
                self._lineup.put([segment.indices[one.offset] for one in skipped], skipped)
                self._odd += len(skipped)
            else:
                self._aside += skipped
            if live.left or self._ordered:
                self._live.add(live)
        if fresh:
            self._core.check()
            self._core.engine.do(lambda: self._core.waiter.want(fresh))

    def _must_admit(self) -> bool:
        """Whether the next segment has the task whose turn it is: shards interleave."""
        first = self._first_following()
        return self._ordered and first is not None and first <= self._lineup.start

    def _first_following(self) -> int | None:
        """Index of the first task that is in no segment of the window; None: there is none."""
        return None if self._following is None else self._following.indices[0]

    def _enter(self, segment: Segment) -> _Live:
        count = segment.accepted.count
        states = bytearray(count)
        for offset in segment.skipped:
            states[offset] = SKIPPED
        want = Want(
            self._bulk.tenant, segment.key, segment.accepted.position, count, True,
            heard=lambda piece: self._heard.put((live, piece)),
            failed=self._heard.put,
            states=states,
        )  # fmt: skip
        live = _Live(segment, want, want.left)
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
        if not live.left and not self._ordered:
            self._live.discard(live)
        return live, piece

    def _leave(self) -> None:
        """Segments leave the window when all their results were taken: it bounds what is held."""
        start = self._lineup.start
        self._live = {live for live in self._live if live.segment.indices[-1] >= start}


def _results(segment: Segment, piece: Piece) -> list[Any]:
    """The results, and what stands for those that there is more to do for."""
    return [
        decode_json(told.body)
        if told.state == outcome.SUCCEEDED and not told.is_claim and told.fault is None
        else _Odd(segment, offset, told)
        for offset, told in piece.outcomes()
    ]


def _indices(segment: Segment, piece: Piece) -> Sequence[int]:
    """Which of the bulk's tasks a piece is about."""
    offsets = piece.indices
    if isinstance(offsets, range):
        return segment.indices[offsets.start : offsets.stop]
    return [segment.indices[offset] for offset in offsets]
