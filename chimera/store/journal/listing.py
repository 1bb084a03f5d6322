"""Lists of tasks, newest first, driven by the smallest table that knows the filter."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from operator import itemgetter

from chimera.errors import CorruptFrame
from chimera.frames import outcome
from chimera.store.journal.reads import FrameView, views
from chimera.store.journal.shelf import SPANS_MAX, Execute
from chimera.store.protocol import Filter, TaskRecord

#: tables that hold just the tasks of a state, a row a task, and which of their rows
_BY_STATE = {"scheduled": ("schedule", "true"), "cancelling": ("cancels", "open = 1")}
_CODES = {name: code for code, name in outcome.NAMES.items()}
_FAILED = frozenset(_CODES) - {"succeeded"}
#: whether a frame `c` has a task that succeeded; `states` is null where all did
_HAS_SUCCESS = """
(EXISTS (SELECT 1 FROM outcomes o
         WHERE o.position >= c.position AND o.position < c.position + c.count
         AND (o.states IS NULL OR instr(o.states, :byte)))
 OR EXISTS (SELECT 1 FROM singles s
            WHERE s.position >= c.position AND s.position < c.position + c.count
            AND s.state = :code))
"""
#: whether a frame `c` has open tasks that are not scheduled
_HAS_QUEUED = """
c.open > (SELECT count(*) FROM schedule s
          WHERE s.position >= c.position AND s.position < c.position + c.count)
"""
#: where the frame starts that holds the row `c`
_START = "(SELECT max(k.position) FROM commands k WHERE k.position <= c.position)"
#: rows that tell of an outcome `:code` which is not a success, by the indexes of those: `state > 1`
#: is what one of them says of itself
_FAILURES = f"""SELECT c.position, c.count, {_START} FROM outcomes c
 WHERE c.position < :below AND c.states IS NOT NULL AND instr(c.states, :byte) AND {{fits}}
UNION ALL SELECT c.position, 1, {_START} FROM singles c
 WHERE c.position < :below AND c.state > 1 AND c.state = :code AND {{fits}}
ORDER BY 1 DESC
"""
#: whether the task of a row `c` has the tag `:tag`
_HAS_TAG = "EXISTS (SELECT 1 FROM tags t WHERE t.tag = :tag AND t.position = c.position)"
#: whether the task of a row `c` has an outcome, of kinds that are filled in
_ENDED = f"""
(EXISTS (SELECT 1 FROM singles s WHERE s.position = c.position AND {{single}})
 OR EXISTS (SELECT 1 FROM outcomes o
            WHERE o.position >= {_START} AND o.position <= c.position
            AND o.position + o.count > c.position
            AND (o.states IS NULL AND {{success}} OR
                 substr(o.states, CAST(c.position - o.position + 1 AS INTEGER), 1) {{byte}})))
"""
_ENDED_SO = _ENDED.format(
    single="s.state = :code", success=f":code = {outcome.SUCCEEDED}", byte="= :byte"
)
#: whether it has none and is not scheduled
_WAITS = f"""
EXISTS (SELECT 1 FROM open_frames f WHERE f.position = {_START})
AND NOT EXISTS (SELECT 1 FROM schedule s WHERE s.position = c.position)
AND NOT {_ENDED.format(single="true", success="true", byte="<> :byte")}
"""
#: whether a frame is of the tenant and the type, and was accepted between the times; bare columns
#: would have it looked for by the index of ids, which gives no order
_FRAME_FITS = (
    "{0}.tenant = coalesce(:tenant, {0}.tenant) AND {0}.type = coalesce(:type, {0}.type)"
    " AND {0}.at BETWEEN :since AND :last"
)
#: whether the frame that holds a row `c` is
_FITS = f"""
(SELECT {_FRAME_FITS.format("k")}
 FROM commands k WHERE k.position <= c.position ORDER BY k.position DESC LIMIT 1)
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
                    found.append(frames[at].record(index, False, reason=where.dead_letters))
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
    code = _CODES.get(where.state or "", outcome.OPEN)
    rows = execute(
        _query(where),
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
    )
    # rows of one frame may overlap
    for _, of_frame in groupby(rows, key=itemgetter(2)):
        spans = [(position, position + count) for position, count, _ in of_frame]
        yield spans[-1][0], min(max(stop for _, stop in spans), below)


def _query(where: Filter) -> str:
    """What tells position, count, and something that only rows of one span share.

    What can be told of a task without its frame is asked of the database: Python takes a hundred
    times as long, and a snapshot keeps the file from being tidied for as long as it is held.
    """
    is_filtered = (where.tenant, where.type, where.since, where.until) != (None,) * 4
    fits = _FITS if is_filtered else "true"
    if by_task := _by_task(where):
        return _select("1", *by_task, fits)
    if where.state == "queued":
        return _select("c.count", "open_frames", _HAS_QUEUED, fits)
    if where.state in _FAILED:
        return _FAILURES.format(fits=fits)
    fits = _FRAME_FITS.format("c") if is_filtered else "true"
    has_state = "true" if where.state is None else _HAS_SUCCESS
    return _select("c.count", "commands", f"c.swept IS NULL AND {fits}", has_state)


def _select(count: str, table: str, *conditions: str) -> str:
    return (
        f"SELECT c.position, {count}, c.position FROM {table} c"
        f" WHERE c.position < :below AND {' AND '.join(conditions)} ORDER BY c.position DESC"
    )


def _by_task(where: Filter) -> tuple[str, str] | None:
    """The table to go through, a row a task, and which of its rows; None if there is none."""
    has_tag = "true" if where.tag is None else _HAS_TAG
    if where.dead_letters:
        return "dead", has_tag if where.state in (None, "failed") else "false"
    if where.state in _BY_STATE:
        table, condition = _BY_STATE[where.state]
        return table, f"{condition} AND {has_tag}"
    if where.tag is None:
        return None
    in_state = {None: "true", "queued": _WAITS}.get(where.state, _ENDED_SO)
    return "tags", f"c.tag = :tag AND {in_state}"
