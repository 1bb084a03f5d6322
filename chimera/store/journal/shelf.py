"""Command frames side by side: what is asked of one is read for all of them in the same query.

To a database that is reached over a network a list of a hundred tasks is a few questions then, and
not a few hundred.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

from chimera.errors import NotFound
from chimera.frames import command
from chimera.store.journal import schedule, states

Execute = Callable[..., Any]
#: position, count, tenant, session, first, type, priority, flags, at, receipt, replay_of
Row = tuple[Any, ...]

META = "position, count, tenant, session, first, type, priority, flags, at, receipt, replay_of"
#: spans that are asked for at once; fewer are filled up to one of these, as each is a statement
_SIZES = (1, 8, 32, 128, 1024)
SPANS_MAX = _SIZES[-1]
#: of command frames that are in memory at once, bytes
_BLOBS_BYTES = 4 << 20


class Shelf:
    """Some frames, at most SPANS_MAX, none of them swept. Each query is made when it is needed."""

    def __init__(self, execute: Execute, rows: Sequence[Row]) -> None:
        """`rows`: META of each frame, in any order."""
        self._execute = execute
        self.rows = sorted(rows)
        self._starts = [row[0] for row in self.rows]
        self._blobs: dict[int, bytes] = {}

    def _start(self, position: int) -> int:
        """Where the frame that holds a position starts."""
        return int(self._starts[bisect_right(self._starts, position) - 1])

    @cached_property
    def outcomes(self) -> dict[int, list[tuple[int, int, int, int, int, bytes | None]]]:
        """seq, position, count, attempt, at and states of each row of outcomes, by frame."""
        found: dict[int, list[Any]] = {}
        for row in self._ask("seq, position, count, attempt, at, states", "outcomes"):
            found.setdefault(self._start(row[1]), []).append(row)
        return found

    @cached_property
    def singles(self) -> dict[int, dict[int, tuple[int, int, int]]]:
        """State, attempts and time of single outcomes, by position, by frame."""
        found: dict[int, dict[int, tuple[int, int, int]]] = {}
        for position, *row in self._ask("position, state, attempts, at", "singles"):
            found.setdefault(self._start(position), {})[position] = row[0], row[1], row[2]
        return found

    @cached_property
    def parked(self) -> dict[int, tuple[int, int]]:
        """Due time and attempt of what is scheduled, by position."""
        rows = self._ask("position, due, attempt", "schedule")
        return {position: (due, attempt) for position, due, attempt in rows}

    @cached_property
    def cancels(self) -> frozenset[int]:
        """Positions of what somebody wanted cancelled."""
        return frozenset(position for (position,) in self._ask("position", "cancels"))

    @cached_property
    def dead(self) -> dict[int, tuple[int, int] | None]:
        """Session and number of the task that replays a dead letter, by the letter's position."""
        rows = self._ask(
            "dead.position, session, first",
            "dead LEFT JOIN commands ON commands.position = dead.replayed",
            "dead.position",
        )
        return {at: None if session is None else (session, first) for at, session, first in rows}

    def states(self, position: int, count: int, skips: bytes | None) -> bytearray:
        """A byte a task of the frame at `position`, as `states.load` has it."""
        rows = [row[1:3] + row[5:] for row in self.outcomes.get(position, ())]
        ends = [(at, row[0]) for at, row in self.singles.get(position, {}).items()]
        return states.merge(position, count, skips, rows, ends)

    def blob(self, position: int) -> bytes:
        """The frame at `position`; those that come before it in the shelf are read with it.

        Raises CorruptFrame, NotFound.
        """
        if position not in self._blobs:
            group = self._group(position)
            rows = _of(self._execute, "position, frame", "commands", "position", group)
            self._blobs = {start: frame for start, frame in rows if frame is not None}
        if position not in self._blobs:
            raise NotFound(f"no task at position {position}")
        return schedule.checked(self._blobs[position], position)

    def _group(self, position: int) -> list[tuple[int, int]]:
        """Spans of a frame and of those that are read with it, for somebody who goes backwards."""
        group, room = [(position, position + 1)], _BLOBS_BYTES
        if len(self.rows) > 1:
            for start in reversed(self._starts[: bisect_right(self._starts, position - 1)]):
                room -= self._sizes.get(start, 0)
                if room < 0:
                    break
                if start in self._sizes:
                    group.append((start, start + 1))
        return group

    @cached_property
    def _sizes(self) -> dict[int, int]:
        """Of the frames that say something of single tasks, bytes."""
        starts = [(r[0], r[0] + 1) for r in self.rows if r[7] & (command.KEYS | command.TAGS)]
        rows = _of(self._execute, "position, length(frame)", "commands", "position", starts)
        return {position: size for position, size in rows if size is not None}

    def _ask(self, what: str, table: str, column: str = "position") -> list[Any]:
        return _of(self._execute, what, table, column, [(r[0], r[0] + r[1]) for r in self.rows])


def holding(execute: Execute, positions: Sequence[int]) -> list[Row]:
    """META of the frames that hold any of at most SPANS_MAX positions, unless they were swept."""
    if not positions:
        return []
    marks, values = _values([(position,) for position in positions])
    rows = execute(
        f"WITH wanted (place) AS (VALUES {marks}) SELECT DISTINCT place, {META}"
        " FROM wanted CROSS JOIN commands WHERE swept IS NULL"
        " AND position = (SELECT max(position) FROM commands WHERE position <= place)",
        values,
    ).fetchall()
    return list({row[1:] for row in rows if row[0] < row[1] + row[2]})


def _of(
    execute: Execute, what: str, table: str, column: str, spans: Iterable[tuple[int, int]]
) -> list[Any]:
    """Rows whose `column` is in one of the spans, each of them [start, stop)."""
    joined = _joined(spans)
    if not joined:
        return []
    if len(joined) == 1:
        query = f"SELECT {what} FROM {table} WHERE {column} >= ? AND {column} < ?"
        found = execute(query, joined[0]).fetchall()
    else:
        marks, values = _values(joined)
        found = execute(
            f"WITH span (low, high) AS (VALUES {marks}) SELECT {what} FROM span CROSS JOIN"
            f" {table} WHERE {column} >= low AND {column} < high",
            values,
        ).fetchall()
    return list(found)


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same spans, where one follows another as one."""
    found: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if found and found[-1][1] == start:
            found[-1] = found[-1][0], stop
        else:
            found.append((start, stop))
    return found


def _values(rows: Sequence[tuple[int, ...]]) -> tuple[str, list[int]]:
    """Marks and values of a table of numbers; there are few different texts of marks."""
    size = next(size for size in _SIZES if size >= len(rows))
    width = len(rows[0])
    # what fills it up is empty as a span, and below all positions as a position
    filled = [value for row in rows for value in row] + [-1] * width * (size - len(rows))
    row = ", ".join(["CAST(? AS BIGINT)"] * width)
    return ", ".join([f"({row})"] * size), filled
