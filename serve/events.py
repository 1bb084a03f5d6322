"""`/v1/events`: what ends, as server-sent events that go on where they were cut off."""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse

from chimera.client import AsyncSwarm
from chimera.client.listing import Position
from chimera.errors import InvalidRequest, Unavailable
from chimera.serve.gateway import Gateway, GatewayDep, SwarmDep
from chimera.serve.models import view
from chimera.serve.places import Placed
from chimera.serve.replies import PROBLEMS
from chimera.store.protocol import TaskRecord

router = APIRouter(prefix="/v1", tags=["events"], responses=PROBLEMS)

MEDIA_TYPE = "text/event-stream"
#: between two looks at the journals, seconds
LOOK_S = 0.5
#: without events, a comment after so long: proxies cut silent connections, seconds
SILENCE_S = 15.0
#: recorded rows that are read at once, a shard; one may be a frame of a thousand tasks
ROWS = 8

_marks = msgspec.msgpack.Decoder(dict[int, Position])
#: one of them: `itemSchema` is OpenAPI 3.2's, and tools for 3.1 know it
_ITEM = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": "For `Last-Event-ID`."},
        "event": {"type": "string", "description": "`task.` and the state it ended in."},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/TaskView"},
        },
        "retry": {"type": "integer", "minimum": 0, "description": "Milliseconds."},
    },
}
_EXAMPLE = 'id: gQBk\nevent: task.succeeded\ndata: {"id":"4a57e9c5-…","state":"succeeded"}\n\n'


@router.get(
    "/events",
    summary="Follow what ends",
    response_class=StreamingResponse,
    responses={200: {"content": {MEDIA_TYPE: {"itemSchema": _ITEM, "example": _EXAMPLE}}}},
)
async def events(
    swarm: SwarmDep,
    gateway: GatewayDep,
    request: Request,
    last_event_id: Annotated[
        str | None, Header(max_length=20_000, description="Go on after this event.")
    ] = None,
    type: Annotated[str | None, Query(max_length=200)] = None,
    for_s: Annotated[
        float | None, Query(ge=0, le=86_400, description="End after so many seconds.")
    ] = None,
) -> StreamingResponse:
    """An event for each of the tenant's tasks that ends: `task.succeeded`, `task.failed`, …

    At least once: after a cut, `Last-Event-ID` may bring the last few again. A stream ends when its
    replica is replaced: another one goes on with it.
    """
    gateway.streams.check()  # before leaders are asked: those who are refused come again soon
    marks = await _begin(swarm, last_event_id)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    stream = _stream(swarm, gateway, request, marks, type, for_s)
    return Placed(gateway.streams, stream, media_type=MEDIA_TYPE, headers=headers)


async def _begin(swarm: AsyncSwarm, last: str | None) -> dict[int, int]:
    """Shard → the number of the last row that was told."""
    shards = range(swarm.core.link.settings.ring)
    if last:
        marks = _parse(last)
        if set(marks) != set(shards):
            raise InvalidRequest("Last-Event-ID is none of this swarm's")
        return marks
    looks = [swarm.happened(shard, -1, ROWS) for shard in shards]
    found = await asyncio.gather(*looks)
    return {shard: last for shard, (last, _) in zip(shards, found, strict=True)}


async def _stream(
    swarm: AsyncSwarm, gateway: Gateway, request: Request, marks: dict[int, int],
    type: str | None, for_s: float | None,
) -> AsyncIterator[bytes]:  # fmt: skip
    until = None if for_s is None else time.monotonic() + for_s
    told_at = time.monotonic()
    # whoever is cut off before the first event must know after what to go on, too
    yield f"retry: 1000\nid: {_format(marks)}\n\n".encode()
    while not (gateway.draining or await request.is_disconnected()):
        idle = True
        for shard, mark in tuple(marks.items()):
            try:
                last, found = await swarm.happened(shard, mark, ROWS)
            except Unavailable:
                continue  # it is being taken over
            for at, (seq, record) in enumerate(found):
                # a row may hold many tasks: it is told when its last one is
                if at + 1 == len(found) or found[at + 1][0] != seq:
                    marks[shard] = seq
                if type in (None, record.type):
                    told_at = time.monotonic()
                    yield _event(marks, record)
            idle = idle and last == mark
            marks[shard] = last
        if until is not None and time.monotonic() >= until:
            return
        if time.monotonic() - told_at > SILENCE_S:
            told_at = time.monotonic()
            yield b": nothing\n\n"
        if idle:
            await asyncio.sleep(LOOK_S)


def _event(marks: dict[int, int], record: TaskRecord) -> bytes:
    data = view(record).model_dump_json(exclude_none=True)
    return f"id: {_format(marks)}\nevent: task.{record.state}\ndata: {data}\n\n".encode()


def _format(marks: dict[int, int]) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(marks)).decode().rstrip("=")


def _parse(text: str) -> dict[int, int]:
    try:
        return _marks.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError, msgspec.MsgspecError) as fault:
        raise InvalidRequest("Last-Event-ID is none of ours") from fault
