"""Lists of tasks, newest first, driven by the smallest table that knows the filter."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import islice

from chimera.errors import CorruptFrame
from chimera.frames import outcome
from chimera.store.journal.reads import FrameView, views
from chimera.store.journal.shelf import SPANS_MAX, Execute
from chimera.store.protocol import Filter, TaskRecord

#: tables that hold just the tasks of a state, a row a task, and which of their rows
_BY_STATE = {"scheduled": ("schedule", "true"), "cancelling": ("cancels", "open = 1")}
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
#: whether the task of a row `c` has the tag `:tag`
_HAS_TAG = "EXISTS (SELECT 1 FROM tags t WHERE t.tag = :tag AND t.position = c.position)"
#: when the task of a row `c` was accepted
_AT = """
(SELECT k.at FROM commands k WHERE k.position <= c.position ORDER BY k.position DESC LIMIT 1)
"""
#: above all positions and times
_NEVER = 1 << 62
#: [start, stop) positions
Span = tuple[int, int]
#: a round looks at no more tasks, however few pass
_TASKS_MAX = 65_536
#: and at so many times more than the one before
_GROWTH = 8


def list_tasks(
    execute: Execute,
    shard: int,
    where: Filter,
    cursor: int | None,
    limit: int,
    among: Sequence[Span] | None = None,
) -> list[TaskRecord]:
    """Tasks below the cursor that pass the filter.

    In rounds of a constant number of queries: one round, if all that is looked at passes.
    """
    found: list[TaskRecord] = []
    below = _NEVER if cursor is None else cursor
    if among is None:
        candidates = _candidates(execute, where, below)
    else:
        candidates = _below(among, below)
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


def _some(candidates: Iterator[Span], quota: int) -> list[Span]:
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
    if where.since is not None and frame.at < where.since:
        return False
    if where.until is not None and frame.at >= where.until:
        return False
    if where.dead_letters and not frame.is_dead_letter(index):
        return False
    try:
        return where.tag is None or where.tag in frame.tags(index)
    except CorruptFrame:
        return True  # found by its row in the table of tags


def _below(among: Sequence[Span], below: int) -> Iterator[Span]:
    for start, stop in sorted(among, reverse=True):
        if start < below:
            yield start, min(stop, below)


def _candidates(execute: Execute, where: Filter, below: int) -> Iterator[Span]:
    """Spans of positions that may pass, each within a frame, newest first."""
    by_task = _by_task(where)
    table, condition = by_task or _by_frame(where)
    if where.since is not None or where.until is not None:
        # clocks differ from owner to owner: the first that is too old is not the last that fits
        at = "c.at" if table == "commands" else _AT
        condition += f" AND {at} BETWEEN :since AND :last"
    code = _CODES.get(where.state or "", 0)
    for position, count in execute(
        f"SELECT c.position, {'1' if by_task else 'c.count'} FROM {table} c"
        f" WHERE c.position < :below AND {condition} ORDER BY c.position DESC",
        {
            "below": below,
            "tenant": where.tenant,
            "type": where.type,
            "tag": where.tag,
            "since": 0 if where.since is None else where.since,
            "last": _NEVER if where.until is None else where.until - 1,
            "code": code,
            "byte": bytes((code,)),
        },
    ):
        yield position, min(position + count, below)


def _by_task(where: Filter) -> tuple[str, str] | None:
    """The table to go through, a row a task, and which of its rows; None if there is none."""
    if where.dead_letters:
        return "dead", "true" if where.tag is None else _HAS_TAG
    if where.tag is not None:
        return "tags", "c.tag = :tag"
    return _BY_STATE.get(where.state or "")


def _by_frame(where: Filter) -> tuple[str, str]:
    """The table to go through, a row a frame, and which of its rows."""
    condition = "c.tenant = coalesce(:tenant, c.tenant) AND c.type = coalesce(:type, c.type)"
    if where.state == "queued":
        return "open_frames", condition
    condition += " AND c.swept IS NULL"
    if where.state is not None:
        # without this, a state that is rare would have every frame looked at in Python
        condition += f" AND {_HAS_OUTCOME}"
    return "commands", condition
