"""`POST /v1/tasks:batch`: tasks as lines, answered line by line while they still come."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from datetime import datetime, timezone
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from chimera.client import AsyncSwarm
from chimera.client.bulk import BulkTasks
from chimera.errors import ChimeraError, InvalidPayload, InvalidRequest, PayloadTooLarge
from chimera.frames.ids import format_id
from chimera.serve.gateway import GatewayDep, Limits, SwarmDep
from chimera.serve.lines import Bad, Group, Splitter, groups, parse
from chimera.serve.places import Places
from chimera.serve.problems import INTERNAL, described
from chimera.serve.replies import PROBLEMS

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1", tags=["tasks"], responses=PROBLEMS)

MEDIA_TYPE = "application/x-ndjson"
#: bytes that are gathered before lines are parsed: about a frame's worth
GATHER = 128 * 1024
#: gatherings that are on their way to leaders at once
IN_FLIGHT = 4
#: bytes of answers that may wait for a client to read them; past it no more lines are taken
UNREAD_MAX = 32 * 1024 * 1024

#: members of a problem document that a line's error has
_OF_LINES = ("code", "detail", "errors", "retry_after")

_encode = msgspec.json.Encoder().encode
_EXAMPLE = '{"type": "hello", "payload": {"name": "a"}}\n{"type": "hello", "payload": null}\n'
_ANSWER = (
    '{"line": 1, "id": "4a57e9c5-2fe0-8fd5-b400-800000000000"}\n'
    '{"line": 2, "id": "4a57e9c5-2fe0-8fd5-b400-800000000001"}\n'
    '{"done": true, "lines": 2, "accepted": 2, "duplicates": 0, "refused": 0}\n'
)


class _Counts(msgspec.Struct):
    """The answer's last line; without it the answer was cut off."""

    done: bool = True  #: every line that was sent was read
    lines: int = 0
    accepted: int = 0
    duplicates: int = 0  #: of these, submitted before with the same idempotency key
    refused: int = 0
    error: dict[str, Any] | None = None


class Bulk:
    """One bulk, from its first line to its last answer."""

    def __init__(self, swarm: AsyncSwarm, limits: Limits) -> None:
        self._swarm = swarm
        self._patience_s = limits.idle_s
        self._splitter = Splitter(limits.line_bytes)
        self._counts = _Counts()
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._keyed: asyncio.Task[None] | None = None
        self._answers: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._unread = 0
        self._has_room = asyncio.Event()
        self._has_room.set()

    async def answers(self) -> AsyncIterator[bytes]:
        """What is to be sent, as it comes; its size is bounded by what waits to be read."""
        while (piece := await self._answers.get()) is not None:
            self._unread -= len(piece)
            if self._unread <= UNREAD_MAX:
                self._has_room.set()
            yield piece

    def _answer(self, piece: bytes) -> None:
        self._answers.put_nowait(piece)
        self._unread += len(piece)
        if self._unread > UNREAD_MAX:
            self._has_room.clear()

    async def run(self, body: AsyncIterator[bytes]) -> None:
        """Take the whole body in."""
        running: set[asyncio.Task[None]] = set()
        try:
            await self._take(body, running)
        except (HTTPException, PayloadTooLarge) as fault:
            self._counts.done = False
            self._counts.error = (
                described(fault)
                if isinstance(fault, ChimeraError)
                else {"status": fault.status_code, "detail": fault.detail}
            )
        except ClientDisconnect:
            self._counts.done = False
        except Exception as fault:
            self._break(fault)
        finally:
            await asyncio.gather(*running, return_exceptions=True)
            self._answer(_encode(self._counts) + b"\n")
            self._answers.put_nowait(None)

    def _break(self, fault: Exception) -> None:
        """A bug: the answer says that it is not whole, and lines may be sent again."""
        log.error("a bulk of tenant %s", self._swarm.tenant, exc_info=fault)
        self._counts.done = False
        self._counts.error = {"status": 500, **INTERNAL}

    async def _take(self, body: AsyncIterator[bytes], running: set[asyncio.Task[None]]) -> None:
        gathered: list[bytes] = []
        size = 0
        try:
            async for piece in body:
                if whole := self._splitter.feed(piece):
                    gathered.append(whole)
                    size += len(whole)
                if size >= GATHER:
                    taken, gathered, size = gathered, [], 0
                    await self._begin(b"".join(taken), running)
        except (HTTPException, PayloadTooLarge, ClientDisconnect):
            if gathered:  # whole lines that came before are tasks all the same
                await self._begin(b"".join(gathered), running)
            raise
        gathered.append(self._splitter.rest())
        if text := b"".join(gathered):
            await self._begin(text, running)

    async def _begin(self, text: bytes, running: set[asyncio.Task[None]]) -> None:
        try:
            await asyncio.wait_for(self._has_room.wait(), self._patience_s)
        except asyncio.TimeoutError:
            waited_s = self._patience_s
            raise HTTPException(408, f"the answers were not read for {waited_s:g} s") from None
        await self._slots.acquire()
        lines, bad, count = parse(text, self._counts.lines + 1)
        self._counts.lines += count
        self._refuse(bad)
        if not lines:
            self._slots.release()
            return
        found = list(groups(lines))
        before = self._keyed
        task = asyncio.create_task(self._submit_all(found, before))
        if any(group.keys for group in found):
            self._keyed = task
        running.add(task)
        task.add_done_callback(running.discard)

    async def _submit_all(self, found: list[Group], before: asyncio.Task[None] | None) -> None:
        try:
            for group in found:
                if group.keys and before is not None:
                    await asyncio.wait([before])  # order among keys is that of the lines
                await self._submit(group)
        except Exception as fault:
            self._break(fault)
        finally:
            self._slots.release()

    async def _submit(self, group: Group) -> None:
        try:
            options = {**group.options}
            for name in ("not_before", "deadline"):
                if name in options:
                    options[name] = _moment(options[name])
            await self._checked(group)
            if not group.numbers:
                return
            bulk = await self._swarm.submit_many(
                group.type, group.payloads, key=group.keys or None,
                idempotency_key=group.idempotency or None, block=False, checked=True,
                **options,
            )  # fmt: skip
        except ChimeraError as fault:
            accepted: BulkTasks | None = getattr(fault, "bulk", None)
            told = self._accept(group, accepted) if accepted is not None else set()
            rest = (number for at, number in enumerate(group.numbers) if at not in told)
            self._refuse(Bad(number, fault) for number in rest)
        else:
            self._accept(group, bulk.tasks)

    async def _checked(self, group: Group) -> None:
        """Refuse the lines whose payload the contract of the type does not allow."""
        check = await self._swarm.contract(group.type)
        if check is None:
            return
        bad: dict[int, ChimeraError] = {}
        for at, payload in enumerate(group.payloads):
            try:
                check(msgspec.json.decode(payload))
            except InvalidPayload as fault:
                bad[at] = fault
        if bad:
            self._refuse(Bad(group.numbers[at], fault) for at, fault in bad.items())
            group.drop(bad)

    def _accept(self, group: Group, bulk: BulkTasks) -> set[int]:
        """Answer for tasks that are durable; returns which of the group's they are."""
        told: set[int] = set()
        lines: list[bytes] = []
        refused: list[Bad] = []
        for segment in bulk.segments:
            session, shard, first = segment.key
            told.update(segment.indices)
            for offset, index in enumerate(segment.indices):
                skip = segment.skipped.get(offset) if segment.skipped else None
                number = group.numbers[index]
                if skip is None:
                    task_id = format_id(session, shard, first + offset)
                    lines.append(b'{"line":%d,"id":"%b"}\n' % (number, task_id.encode()))
                elif skip.task_id is not None:
                    self._counts.duplicates += 1
                    answer = b'{"line":%d,"id":"%b","duplicate":true}\n'
                    lines.append(answer % (number, skip.task_id.encode()))
                else:
                    refused.append(Bad(number, skip.error or ChimeraError("refused")))
        self._counts.accepted += len(lines)
        if lines:
            self._answer(b"".join(lines))
        self._refuse(refused)
        return told

    def _refuse(self, bad: Iterable[Bad]) -> None:
        lines = [_encode({"line": one.number, "error": _told(one.error)}) for one in bad]
        if lines:
            self._counts.refused += len(lines)
            self._answer(b"\n".join(lines) + b"\n")


def _told(fault: ChimeraError) -> dict[str, Any]:
    told: dict[str, Any] = described(fault)
    kept: dict[str, Any] = {name: told[name] for name in _OF_LINES if name in told}
    return {"status": fault.status, **kept}


class _Answer(Response):
    """Sends answers as they come, while the body is still being read."""

    def __init__(self, bulk: Bulk, body: AsyncIterator[bytes], places: Places) -> None:
        super().__init__(media_type=MEDIA_TYPE)
        del self.headers["content-length"]
        self._bulk = bulk
        self._body = body
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._places.one():
            await self._exchange(send)

    async def _exchange(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        taking = asyncio.create_task(self._bulk.run(self._body))
        try:
            async for piece in self._bulk.answers():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await taking  # what was read is submitted, whoever still listens


def _moment(given: str | float) -> datetime | float:
    if not isinstance(given, str):
        return given
    try:
        found = datetime.fromisoformat(given.replace("Z", "+00:00"))
    except ValueError as fault:
        raise InvalidRequest(f"{given!r} is no moment: {fault}") from fault
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


@router.post(
    "/tasks:batch",
    summary="Submit many tasks, one a line",
    response_class=Response,
    responses={
        200: {
            "description": "A line for each line, in any order, and one that counts them.",
            "content": {MEDIA_TYPE: {"schema": {"type": "string"}, "example": _ANSWER}},
        }
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {MEDIA_TYPE: {"schema": {"type": "string"}, "example": _EXAMPLE}},
        }
    },
)
async def batch(request: Request, swarm: SwarmDep, gateway: GatewayDep) -> Response:
    """Each line is a task as `POST /v1/tasks` takes it; a bad one is told with its number.

    The last line of the answer counts all; without it the answer was cut off, and lines with an
    `idempotency_key` can be sent again.
    """
    if request.headers.get("content-length", "0") == "0" and (
        "transfer-encoding" not in request.headers
    ):
        raise InvalidRequest("there is no body: send a task a line")
    return _Answer(Bulk(swarm, gateway.limits), request.stream(), gateway.bulks)
