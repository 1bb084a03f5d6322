"""Which tasks wait and which run, and cancelling either: the journal knows what has no outcome,
the machine what is in somebody's hands."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from chimera.actors import questions
from chimera.actors.clock import unix_ms
from chimera.errors import Unavailable
from chimera.frames import outcome
from chimera.store.protocol import Filter, Journal, TaskRecord

if TYPE_CHECKING:
    from chimera.actors.shards import Shards
    from chimera.actors.waiters import Waiters

#: states of which a journal says what the machine may know better
WAITING = ("queued", "scheduled")
#: tasks read at once for a list of those that wait, at least: many in a row may run
_STEP = 100
#: for the end of a task that waited to be recorded, seconds
CANCEL_S = 1.0


class Machine(Protocol):
    """The loop of a leader."""

    def ask(self, question: Callable[[Any], Any], otherwise: Any) -> Any:
        """Have the loop's thread look at the machine's state."""
        ...

    def cancel(self, shard: int, position: int, reason: str, *, only_waiting: bool = False) -> None:
        """Tell the machine that a task is to end; before what is asked afterwards."""
        ...


def told(record: TaskRecord, machine: Machine, shard: int) -> TaskRecord:
    """A task as it is now: one that waits, by its journal, may be running."""
    if record.settled_at is not None:
        return record
    running = machine.ask(questions.is_running(shard, record.position), None)
    return _in_hands(record) if running else record


def _in_hands(record: TaskRecord) -> TaskRecord:
    state = "running" if record.state in WAITING else record.state
    return replace(record, state=state, attempts=record.attempts + 1)


def list_tasks(
    journal: Journal, machine: Machine, where: Filter, cursor: int | None, limit: int
) -> list[TaskRecord]:
    """Tasks of a shard, newest first, below the cursor (a position); fewer than `limit` only at
    the end. Raises Unavailable."""
    if where.state not in (None, "running", "cancelling", *WAITING):
        return list(journal.list(where, cursor, limit))
    running = machine.ask(questions.running(journal.shard), None)
    if running is None:
        if where.state is not None:
            raise Unavailable(f"the owner of shard {journal.shard} does not know what runs")
        running = []
    among = running if where.state == "running" else None
    asked = where if among is None else replace(where, state=None)
    step = max(limit, _STEP) if where.state in WAITING else limit
    found: list[TaskRecord] = []
    while len(found) < limit:
        page = journal.list(asked, cursor, step, among)
        now = (_told(record, running) for record in page)
        found += [record for record in now if where.state in (None, record.state)]
        if len(page) < step:
            break
        cursor = page[-1].position
    return found[:limit]


def _told(record: TaskRecord, running: Sequence[tuple[int, int]]) -> TaskRecord:
    at = bisect_right(running, (record.position, 1 << 63)) - 1
    is_running = at >= 0 and record.position < running[at][1]
    return _in_hands(record) if is_running and record.settled_at is None else record


class Cancels:
    """Ends tasks of a leader's shards before their time. Tasks are named by tenant, session and
    counter."""

    def __init__(self, shards: Shards, machine: Machine, waiters: Waiters) -> None:
        self._shards = shards
        self._machine = machine
        self._waiters = waiters

    def cancel(self, shard: int, task: tuple[str, int, int], reason: str) -> str:
        """Cancel a task (P9); its state, `cancelling` if it has no outcome yet."""
        journal = self._shards.journal(shard)
        position = self._find(shard, task).position
        state = journal.cancel(position, reason, unix_ms())
        if state != outcome.OPEN:
            return outcome.NAMES[state]
        self._machine.cancel(shard, position, reason)
        if self._machine.ask(questions.is_running(shard, position), None) is not False:
            return "cancelling"
        ended = self._ended(shard, task, position)
        return "cancelling" if ended is None else ended

    def cancel_waiting(self, shard: int, task: tuple[str, int, int], reason: str) -> str:
        """Cancel a task unless it is in somebody's hands, as the machine decides in one step; its
        state. Raises Unavailable if that cannot be told now: ask again."""
        record = self._find(shard, task)
        if record.settled_at is not None:
            return record.state
        self._machine.cancel(shard, record.position, reason, only_waiting=True)
        is_running = self._machine.ask(questions.is_running(shard, record.position), None)
        if is_running:
            return "running" if record.state in WAITING else record.state
        ended = None if is_running is None else self._ended(shard, task, record.position)
        if ended is None:
            raise Unavailable(
                f"the owner of shard {shard} does not know yet whether the task runs or ended"
            )
        return ended

    def _ended(self, shard: int, task: tuple[str, int, int], position: int) -> str | None:
        """How a task ended that is about to; None if that is not recorded soon."""
        _, ended = self._waiters.wait(shard, [(position, position + 1)], CANCEL_S)
        return self._find(shard, task).state if ended else None

    def _find(self, shard: int, task: tuple[str, int, int]) -> TaskRecord:
        return self._shards.readable(shard, lambda journal: journal.find(*task, bodies=False))
