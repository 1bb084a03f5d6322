"""Lists of tasks, newest first, driven by the smallest table that knows the filter."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from typing import Any

from chimera.errors import CorruptFrame
from chimera.frames import outcome
from chimera.store.journal.reads import FrameView, views
from chimera.store.journal.shelf import SPANS_MAX, Execute
from chimera.store.protocol import Filter, TaskRecord

#: tables that hold just the tasks of a state, a row a task
_BY_STATE = {"failed": "dead", "scheduled": "schedule"}
_CODES = {name: code for code, name in outcome.NAMES.items()}
#: whether a frame `c` has an outcome of the kind `:code`; `states` is null where all succeeded
_HAS_OUTCOME = f"""
(EXISTS (SELECT 1 FROM outcomes o
         WHERE o.position >= c.position AND o.position < c.position + c.count
         AND (instr(o.states, :byte) OR o.states IS NULL AND :code = {outcome.SUCCEEDED}))
 OR EXISTS (SELECT 1 FROM singles s
            WHERE s.position >= c.position AND s.position < c.position + c.count
            AND s.state = :code))
"""


#: a round looks at no more tasks, however few pass
_TASKS_MAX = 65_536
#: and at so many times more than the one before
_GROWTH = 8


def list_tasks(
    execute: Execute, shard: int, where: Filter, cursor: int | None, limit: int
) -> list[TaskRecord]:
    """Tasks below the cursor that pass the filter.

    In rounds of a constant number of queries: one round, if all that is looked at passes.
    """
    found: list[TaskRecord] = []
    candidates = _candidates(execute, where, 1 << 62 if cursor is None else cursor)
    quota = limit
    while len(found) < limit and (spans := _some(candidates, quota)):
        frames = views(execute, shard, [start for start, _ in spans])
        starts = [frame.position for frame in frames]
        for start, stop in spans:
            at = bisect_right(starts, start) - 1
            if at < 0 or start >= starts[at] + frames[at].count:
                continue  # swept
            for position in reversed(range(start, stop)):
                index = position - starts[at]
                if len(found) < limit and _passes(frames[at], index, where):
                    found.append(frames[at].record(index, bodies=False))
        quota = min(quota * _GROWTH, _TASKS_MAX)
    return found


def _some(candidates: Iterator[tuple[int, int]], quota: int) -> list[tuple[int, int]]:
    """The next spans, until there are so many tasks in them, or as many as a shelf takes."""
    found = []
    for start, stop in islice(candidates, SPANS_MAX):
        found.append((start, stop))
        quota -= stop - start
        if quota <= 0:
            break
    return found


def _passes(frame: FrameView, index: int, where: Filter) -> bool:
    state = frame.state(index)
    if state is None or where.state not in (None, state):
        return False
    if where.tenant not in (None, frame.tenant) or where.type not in (None, frame.type):
        return False
    try:
        return where.tag is None or where.tag in frame.tags(index)
    except CorruptFrame:
        return True  # found by its row in the table of tags


def _candidates(execute: Execute, where: Filter, below: int) -> Iterator[tuple[int, int]]:
    """Spans of positions that may pass, each within a frame, newest first."""
    values: tuple[Any, ...] = (below,)
    if where.tag is not None:
        query, values = "tags WHERE position < ? AND tag = ?", (below, where.tag)
    elif where.state in _BY_STATE:
        query = f"{_BY_STATE[where.state]} WHERE position < ?"
    else:
        yield from _of_frames(execute, where, below)
        return
    for (position,) in execute(f"SELECT position FROM {query} ORDER BY position DESC", values):
        yield position, position + 1


def _of_frames(execute: Execute, where: Filter, below: int) -> Iterator[tuple[int, int]]:
    source, condition = "commands c", "swept IS NULL"
    if where.state == "queued":
        source, condition = "open_frames c", "true"
    elif where.state is not None:
        # without this, a state that is rare would have every frame looked at in Python
        condition += f" AND {_HAS_OUTCOME}"
    code = _CODES.get(where.state or "", 0)
    for position, count in execute(
        f"SELECT position, count FROM {source} WHERE position < :below AND {condition}"
        " AND tenant = coalesce(:tenant, tenant) AND type = coalesce(:type, type)"
        " ORDER BY position DESC",
        {
            "below": below,
            "tenant": where.tenant,
            "type": where.type,
            "code": code,
            "byte": bytes((code,)),
        },
    ):
        yield position, min(position + count, below)
