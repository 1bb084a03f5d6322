"""Lists of tasks, newest first, driven by the smallest table that knows the filter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chimera.errors import CorruptFrame
from chimera.frames import outcome
from chimera.store.journal.reads import Execute, FrameView, view
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


def list_tasks(
    execute: Execute, shard: int, where: Filter, cursor: int | None, limit: int
) -> list[TaskRecord]:
    """Tasks below the cursor that pass the filter."""
    found: list[TaskRecord] = []
    frame: FrameView | None = None
    for position in _candidates(execute, where, 1 << 62 if cursor is None else cursor):
        if len(found) >= limit:
            break
        if frame is None or not frame.position <= position < frame.position + frame.count:
            frame = view(execute, shard, position)
            if frame is None:
                continue
        index = position - frame.position
        if _passes(frame, index, where):
            found.append(frame.record(index, bodies=False))
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


def _candidates(execute: Execute, where: Filter, below: int) -> Iterator[int]:
    """Positions that may pass, newest first."""
    values: tuple[Any, ...] = (below,)
    if where.tag is not None:
        query, values = "tags WHERE position < ? AND tag = ?", (below, where.tag)
    elif where.state in _BY_STATE:
        query = f"{_BY_STATE[where.state]} WHERE position < ?"
    else:
        yield from _of_frames(execute, where, below)
        return
    for (position,) in execute(f"SELECT position FROM {query} ORDER BY position DESC", values):
        yield position


def _of_frames(execute: Execute, where: Filter, below: int) -> Iterator[int]:
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
        yield from range(min(position + count, below) - 1, position - 1, -1)
