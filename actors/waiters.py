"""Who waits for outcomes: wake-ups are hints, the journal is the truth."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from chimera.errors import WaitTimeout
from chimera.frames import outcome
from chimera.store.protocol import Outcomes
from chimera.swarm.facts import Single

if TYPE_CHECKING:
    from chimera.actors.shards import Shards

#: outcome frames of one answer, at most: what Ray carries as separate return values
FRAMES_MAX = 8
#: bytes of one answer, about
BYTES_MAX = FRAMES_MAX * 95 * 1024
#: a wake-up that was missed costs this long at most
POLL_S = 0.5


class OutcomesReply(NamedTuple):
    """The first slot of a leader's `outcomes`."""

    singles: tuple[Single, ...]
    complete: bool  #: everything that was asked for is settled


class Waiters:
    """One condition a shard; a waiter reads the journal when something was recorded."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._conditions: dict[int, threading.Condition] = {}
        self._lock = threading.Lock()
        self._turns: dict[int, int] = {}

    def _condition(self, shard: int) -> threading.Condition:
        with self._lock:
            return self._conditions.setdefault(shard, threading.Condition())

    def settled(self, shard: int) -> None:
        """Something of a shard was recorded."""
        condition = self._condition(shard)
        with condition:
            self._turns[shard] = self._turns.get(shard, 0) + 1
            condition.notify_all()

    def turn(self, shard: int) -> int:
        """Grows whenever something of a shard is recorded here."""
        return self._turns.get(shard, 0)

    def wait_for_turn(self, shard: int, turn: int, wait_s: float) -> None:
        """Wait until something is recorded after `turn`, or `wait_s` seconds."""
        condition = self._condition(shard)
        with condition:
            if self._turns.get(shard, 0) == turn:
                condition.wait(wait_s)

    def wait(
        self,
        shard: int,
        ranges: Sequence[tuple[int, int]],
        wait_s: float,
        least: int = FRAMES_MAX,
    ) -> tuple[Outcomes, bool]:
        """What is recorded in the ranges, and whether that is all.

        Returns when everything is settled, when `least` frames or single rows are there (1: as soon
        as anything is), or after `wait_s`; what is there by then. Raises NotOwner.
        """
        until = time.monotonic() + wait_s
        wanted = sum(stop - first for first, stop in ranges)
        condition = self._condition(shard)
        while True:
            turn = self._turns.get(shard, 0)
            found = self._shards.readable(shard, lambda j: j.outcomes(ranges, BYTES_MAX))
            settled = _count(found, ranges)
            left = until - time.monotonic()
            rows = len(found.frames) + len(found.singles)
            if settled >= wanted or min(settled, rows) >= least or left <= 0:
                return found, settled >= wanted
            with condition:
                if self._turns.get(shard, 0) == turn:
                    condition.wait(min(left, POLL_S))

    def wait_for_one(
        self, shard: int, position: int, wait_s: float
    ) -> tuple[int | None, bytes | None, bool]:
        """State and body of a task's outcome, and whether that is a claim check; state None if it
        did not end in time. Raises NotOwner."""
        found, complete = self.wait(shard, [(position, position + 1)], wait_s)
        if not complete:
            return None, None, False
        if found.singles:
            return found.singles[0].state, found.singles[0].body, False
        for blob in found.frames:
            header = outcome.header(blob)
            state, body = outcome.body(blob, position - header.position)
            if state != outcome.OPEN:
                claims = outcome.columns(blob, header).claims or ()
                return state, body, position - header.position in claims
        raise WaitTimeout("the outcome is recorded but was not found")


def _count(found: Outcomes, ranges: Sequence[tuple[int, int]]) -> int:
    """Tasks of the ranges that have an outcome."""
    count = 0
    settled = {single.position for single in found.singles}
    for first, stop in ranges:
        count += sum(first <= position < stop for position in settled)
    for frame in found.frames:
        header = outcome.header(frame)
        end = header.position + header.count
        for first, stop in ranges:
            a, b = max(first, header.position), min(stop, end)
            if a >= b:
                continue
            if not header.bad and not settled:
                count += b - a
                continue
            states = outcome.states(frame, header)
            count += sum(
                states[p - header.position] != outcome.OPEN and p not in settled
                for p in range(a, b)
            )
    return count
