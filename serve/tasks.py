"""`/v1/tasks`: submit one, look at it, wait for it, cancel it, list many."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import AwareDatetime, BeforeValidator, Field

from chimera.client import AsyncHandle, AsyncSwarm
from chimera.client.listing import LIMIT_MAX
from chimera.errors import (
    ChimeraError,
    InvalidRequest,
    NotFound,
    TaskError,
    Unavailable,
    WaitTimeout,
)
from chimera.serve.gateway import Gateway, GatewayDep, SwarmDep
from chimera.serve.models import (
    ENDED,
    LEFT_OUT,
    State,
    TaskPage,
    TaskRequest,
    TaskView,
    submitted,
    view,
)
from chimera.serve.problems import TRACEPARENT
from chimera.serve.replies import NOT_MODIFIED, PROBLEMS, IfNoneMatch, etagged

router = APIRouter(prefix="/v1/tasks", tags=["tasks"], responses=PROBLEMS)

#: a key as it is, or as a string of structured fields (RFC 9651)
KEY_PATTERN = r'^([!#-~][ -~]*|"([ !#-\[\]-~]|\\["\\])+")$'
#: characters of its header
KEY_MAX = 1024
#: that a request may wait for a task's end, seconds
WAIT_MAX_S = 60.0
#: after which a request that could not wait may ask again, seconds
AGAIN_S = 1
_DATE = re.compile(r"\d{4}-\d\d-\d\d[Tt ]")
_PREFER_WAIT = re.compile(r"(?:^|[,;\s])wait=\"?(\d{1,4})\"?(?=$|[,;\s])")

ID_PATTERN = r"^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
TaskId = Annotated[
    str,
    Path(
        description="A task's id.",
        pattern=ID_PATTERN,
        examples=["4a57e9c5-2fe0-8fd5-b400-800000000000"],
    ),
]
Wait = Annotated[
    float,
    Query(
        ge=0,
        le=WAIT_MAX_S,
        description="Seconds to wait for the task's end; also `Prefer: wait=5`. Where too many"
        " wait already the answer comes at once, with `Retry-After`.",
    ),
]


def _written_out(value: Any) -> Any:
    """A number is none here: the framework would take one that is out of bounds for a moment."""
    if not (isinstance(value, str) and _DATE.match(value)):
        raise ValueError("it is no moment as RFC 3339 has it")
    return value


Rfc3339 = Annotated[AwareDatetime, BeforeValidator(_written_out)]
#: of Unix seconds
MOMENT_MAX = 1e11
_Moment = Annotated[float, Field(ge=0, lt=MOMENT_MAX)] | Rfc3339
Since = Annotated[
    _Moment | None, Query(description="Accepted then or later: Unix seconds, or RFC 3339.")
]
Until = Annotated[_Moment | None, Query(description="Accepted before: Unix seconds, or RFC 3339.")]
Prefer = Annotated[str | None, Header(description="`wait=SECONDS` or `respond-async` (RFC 7240).")]


def _waiting(wait: float, prefer: str | None) -> tuple[float, dict[str, str]]:
    """Seconds to wait, and the header that says which preference was followed."""
    if wait or not prefer:
        return wait, {}
    found = _PREFER_WAIT.search(prefer)
    if found is None:
        return 0.0, {}
    seconds = min(float(found[1]), WAIT_MAX_S)
    return seconds, {"Preference-Applied": f"wait={seconds:g}"}


def _key_of(request: TaskRequest, header: str | None) -> None:
    """Take the idempotency key of the header: a structured-field string, or a bare one."""
    if header is None:
        return
    key = header
    if header.startswith('"'):
        key = re.sub(r"\\(.)", r"\1", header[1:-1])
    if request.idempotency_key not in (None, key):
        raise InvalidRequest("Idempotency-Key and `idempotency_key` of the body differ: give one")
    request.idempotency_key = key


@router.post(
    "",
    status_code=202,
    summary="Submit a task",
    responses={
        200: {"model": TaskView, "description": "The task has ended."},
        202: {
            "model": TaskView,
            "description": "The task is durable; `Location` says where to ask for it.",
        },
    },
)
async def submit(
    body: TaskRequest,
    swarm: SwarmDep,
    gateway: GatewayDep,
    wait: Wait = 0.0,
    prefer: Prefer = None,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=KEY_MAX,
            pattern=KEY_PATTERN,
            description="Repeat safely with it.",
        ),
    ] = None,
    traceparent: Annotated[str | None, Header(description="W3C trace context.")] = None,
) -> Response:
    """Accept a task durably. Single submits that arrive together share a frame."""
    _key_of(body, idempotency_key)
    seconds, applied = _waiting(wait, prefer)
    trace = traceparent if TRACEPARENT.match(traceparent or "") else None
    handle = await swarm.submit(body.type, body.payload, traceparent=trace, **body.given())
    found = submitted(handle.id, body, swarm.tenant)
    if seconds:
        found, waited = await _after(gateway, swarm, handle, seconds, found)
        applied = applied if waited else _unheeded(found)
    elif handle.duplicate:
        found = view(await handle.status(payload=True))
    found.duplicate = handle.duplicate
    status = 200 if found.state in ENDED else 202
    return _answer(found, status, {"Location": found.url, **applied})


async def _after(
    gateway: Gateway, swarm: AsyncSwarm, handle: AsyncHandle, seconds: float,
    else_: TaskView | None = None,
) -> tuple[TaskView, bool]:  # fmt: skip
    """The task once it has ended, or after so many seconds as it is then; whether it was waited.

    It is not where as many requests as may wait do so already: it is looked at at once.
    """
    if waits := gateway.may_wait:
        with gateway.waits.one(), suppress(WaitTimeout, TaskError, Unavailable):
            await handle.wait(seconds)
    try:
        return await look(swarm, handle), waits
    except ChimeraError:
        if else_ is None:
            raise
        return else_, waits  # it was accepted: that is what the answer must say


def _unheeded(found: TaskView) -> dict[str, str]:
    """Headers of an answer for which nobody waited: when to come again."""
    return {} if found.state in ENDED else {"Retry-After": f"{AGAIN_S}"}


async def look(swarm: AsyncSwarm, handle: AsyncHandle) -> TaskView:
    """The task as it is now, with how far it is if it runs. Raises NotFound."""
    record = await handle.status(payload=True)
    progress = None
    if record.state in ("running", "cancelling"):
        progress = await swarm.progress(record.task_id)
    return view(record, progress)


def _answer(found: TaskView, status: int, headers: dict[str, str]) -> Response:
    return Response(found.model_dump_json(), status, headers, "application/json")


@router.get(
    "",
    summary="List tasks, newest first",
    response_model=TaskPage,
    response_model_exclude={"tasks": {"__all__": {*LEFT_OUT, "failure"}}},
)
async def listing(
    swarm: SwarmDep,
    type: Annotated[str | None, Query(max_length=200)] = None,
    state: Annotated[State | None, Query()] = None,
    tag: Annotated[str | None, Query(max_length=128)] = None,
    since: Since = None,
    until: Until = None,
    cursor: Annotated[str | None, Query(max_length=20_000)] = None,
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = 100,
) -> TaskPage:
    """One page of the tenant's tasks that fit.

    A page may hold fewer than `limit` tasks, or none, and still have a next one.
    """
    records, following = await swarm.page(
        type=type, state=state, tag=tag, since=since, until=until, cursor=cursor, limit=limit
    )
    return TaskPage(tasks=[view(record) for record in records], cursor=following)


@router.get("/{task_id}", summary="Look at a task", response_model=TaskView, responses=NOT_MODIFIED)
async def show(
    task_id: TaskId,
    swarm: SwarmDep,
    gateway: GatewayDep,
    wait: Wait = 0.0,
    prefer: Prefer = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """State, attempts, progress, outcome and times; with `wait`, once it has ended."""
    handle = swarm.handle(task_id)
    seconds, applied = _waiting(wait, prefer)
    if seconds:
        found, waited = await _after(gateway, swarm, handle, seconds)
        applied = applied if waited else _unheeded(found)
    else:
        found = await look(swarm, handle)
    return etagged(if_none_match, found.model_dump_json().encode(), applied)


@router.get(
    "/{task_id}/result",
    summary="Read a result as it is, however large",
    response_class=JSONResponse,
    responses={200: {"content": {"application/json": {"schema": {}}}}},
)
async def result(task_id: TaskId, swarm: SwarmDep) -> Response:
    """The JSON text that the handler returned, streamed from where it is kept."""
    record = await swarm.get(task_id, payload=True)
    if record.state != "succeeded" or record.body is None:
        raise NotFound(f"task {task_id} has no result: it is {record.state}")
    if not record.body_is_claim:
        return Response(record.body, media_type="application/json")
    size, pieces = await asyncio.to_thread(swarm.core.blobs.pieces, record.body)
    headers = {"Content-Length": str(size)}
    return StreamingResponse(pieces, media_type="application/json", headers=headers)


@router.delete(
    "/{task_id}",
    summary="Cancel a task",
    response_model=TaskView,
    responses={202: {"model": TaskView, "description": "It will end when its attempt does."}},
)
async def cancel(
    task_id: TaskId,
    swarm: SwarmDep,
    reason: Annotated[str, Query(max_length=1000)] = "",
    only_waiting: Annotated[bool, Query(description="One that runs is let be.")] = False,
) -> Response:
    """Cancel it durably: one that waits ends at once, one that runs when its attempt ends.

    A task that has ended stays as it is; the answer says how.
    """
    state = await swarm.cancel(task_id, reason, only_waiting=only_waiting)
    found = await look(swarm, swarm.handle(task_id))
    if state == "running" and found.state not in ENDED:
        found.state = "running"  # why it was let be: it may wait for its next attempt by now
    return _answer(found, 200 if only_waiting or state in ENDED else 202, {})
