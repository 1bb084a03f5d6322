"""What became of a range of tasks, read without touching a blob."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from chimera.frames import outcome

#: in place of a state: the task was a duplicate or refused when its frame came in
SKIPPED = 0xFF

Execute = Callable[..., Any]


def load(execute: Execute, position: int, count: int, skips: bytes | None) -> bytearray:
    """A byte a task of the command frame at `position`: its state, OPEN if it has none."""
    span = position, position + count
    rows = execute(
        "SELECT position, count, states FROM outcomes WHERE position >= ? AND position < ?", span
    )
    singles = execute(
        "SELECT position, state FROM singles WHERE position >= ? AND position < ?", span
    )
    return merge(position, count, skips, rows, singles)


def merge(
    position: int,
    count: int,
    skips: bytes | None,
    rows: Iterable[tuple[int, int, bytes | None]],
    singles: Iterable[tuple[int, int]],
) -> bytearray:
    """The same of rows of outcomes (position, count, states) and of singles (position, state)."""
    states = bytearray(count)
    if skips is not None:
        states[:] = skips.translate(_SKIP)
    for at, size, found in rows:
        start = at - position
        if found is None:
            states[start : start + size] = bytes((outcome.SUCCEEDED,)) * size
        else:
            for index, state in enumerate(found, start):
                if state:
                    states[index] = state
    for at, state in singles:
        states[at - position] = state
    return states


_SKIP = bytes([0]) + bytes([SKIPPED]) * 255


def runs(states: bytes | bytearray) -> list[tuple[int, int]]:
    """[start, stop) ranges of OPEN tasks."""
    found = []
    start = states.find(0)
    while start >= 0:
        stop = start
        while stop < len(states) and not states[stop]:
            stop += 1
        found.append((start, stop))
        start = states.find(0, stop)
    return found
