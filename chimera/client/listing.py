"""Listing tasks over all shards, newest first: pages with a cursor that outlives the process."""

from __future__ import annotations

import base64
import binascii
import heapq
from itertools import islice
from typing import Annotated, NamedTuple

import msgspec

from chimera.client.core import Core
from chimera.client.options import When, milliseconds
from chimera.client.steps import Steps
from chimera.errors import InvalidRequest, NotFound
from chimera.frames import outcome
from chimera.store.protocol import Filter, TaskRecord

#: tasks on a page, at most
LIMIT_MAX = 1000
#: and if nobody says how many
PAGE = 100

#: states that a task may be in
STATES = ("queued", "scheduled", "running", "cancelling", *outcome.NAMES.values())

#: as many as a journal can count
Position = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
#: shard → position below which its next page begins; 0 at its end; a shard not begun is missing
_Marks = dict[int, Position]
_decode = msgspec.msgpack.Decoder(_Marks).decode


class Page(NamedTuple):
    """Some tasks, newest first."""

    tasks: list[TaskRecord]  #: without payloads and results
    #: for the next page; None if this is the last
    cursor: str | None


def chosen(
    tenant: str,
    type: str | None,
    state: str | None,
    tag: str | None,
    since: When | None,
    until: When | None,
    dead_letters: bool,
) -> Filter:
    """What a caller wants to have listed. Raises InvalidRequest."""
    if state not in (None, *STATES):
        raise InvalidRequest(f"{state!r} is no state: one of {', '.join(STATES)}")
    if dead_letters and state not in (None, "failed"):
        raise InvalidRequest(f"a dead letter has failed: it is not {state}")
    return Filter(
        tenant, type, state, tag,
        None if since is None else milliseconds(since),
        None if until is None else milliseconds(until),
        dead_letters,
    )  # fmt: skip


def page(core: Core, where: Filter, cursor: str | None, limit: int) -> Steps[Page]:
    """One page of the tasks that fit. Raises InvalidRequest for a cursor that is none of ours."""
    if not 1 <= limit <= LIMIT_MAX:
        raise InvalidRequest(f"limit is 1 to {LIMIT_MAX}, not {limit}")
    ring = core.link.settings.ring
    marks = {} if cursor is None else _parse(cursor)
    found: dict[int, list[TaskRecord]] = {}
    for shard in range(ring):
        if marks.get(shard) != 0:
            arguments = (shard, where, marks.get(shard), limit)
            found[shard] = yield from core.ask(shard, "list_tasks", *arguments)
    # each shard's own order is kept, whatever the clocks of those who submitted say
    streams = [[(shard, one) for one in records] for shard, records in found.items()]
    newest = heapq.merge(*streams, key=lambda one: -one[1].accepted_at)
    taken = list(islice(newest, limit))
    for shard, record in taken:
        marks[shard] = record.position
    for shard, records in found.items():
        is_end = len(records) < limit
        if is_end and (not records or marks.get(shard) == records[-1].position):
            marks[shard] = 0
    more = any(marks.get(shard) != 0 for shard in range(ring))
    return Page([record for _, record in taken], _format(marks) if more else None)


def no_dead_letter(task_id: str, state: str) -> NotFound:
    """What is said of a task that is none."""
    told = "was given up" if state == "failed" else f"is {state}"
    return NotFound(f"task {task_id} is no dead letter: it {told}")


def _format(marks: _Marks) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(marks)).decode().rstrip("=")


def _parse(cursor: str) -> _Marks:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        return _decode(base64.urlsafe_b64decode(padded))
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise InvalidRequest("the cursor is none of ours") from error
