"""What became of a range of tasks, read without touching a blob."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chimera.frames import outcome

#: in place of a state: the task was a duplicate or refused when its frame came in
SKIPPED = 0xFF

Execute = Callable[..., Any]


def load(execute: Execute, position: int, count: int, skips: bytes | None) -> bytearray:
    """A byte a task of the command frame at `position`: its state, OPEN if it has none."""
    states = bytearray(count)
    if skips is not None:
        states[:] = skips.translate(_SKIP)
    stop = position + count
    for at, size, found in execute(
        "SELECT position, count, states FROM outcomes WHERE position >= ? AND position < ?",
        (position, stop),
    ):
        start = at - position
        if found is None:
            states[start : start + size] = bytes((outcome.SUCCEEDED,)) * size
        else:
            for index, state in enumerate(found, start):
                if state:
                    states[index] = state
    for at, state in execute(
        "SELECT position, state FROM singles WHERE position >= ? AND position < ?",
        (position, stop),
    ):
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
