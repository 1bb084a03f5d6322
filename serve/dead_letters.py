"""`/v1/dead-letters`: tasks that failed for good, to be looked at, run again or given up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator

from chimera.client import AsyncSwarm
from chimera.client.listing import no_dead_letter
from chimera.errors import NotFound
from chimera.serve.gateway import SwarmDep
from chimera.serve.models import LEFT_OUT, TaskPage, TaskView, view
from chimera.serve.replies import PROBLEMS
from chimera.serve.tasks import ID_PATTERN, MOMENT_MAX, Rfc3339, Since, TaskId, Until, look

router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"], responses=PROBLEMS)

_Moment = Annotated[float, Field(strict=True, ge=0, lt=MOMENT_MAX)] | Rfc3339


class Selection(BaseModel):
    """Which dead letters: those named, those that fit the filter, or all."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"type": "mail.send", "dry_run": True}, {"tag": "import-7", "limit": 100}]
        },
    )

    ids: list[Annotated[str, Field(pattern=ID_PATTERN)]] | None = Field(
        default=None, max_length=1000
    )
    type: str | None = Field(default=None, max_length=200)
    tag: str | None = Field(default=None, max_length=128)
    since: _Moment | None = Field(default=None, description="Accepted then or later.")
    until: _Moment | None = Field(default=None, description="Accepted before.")
    all: bool = Field(default=False, strict=True, description="Whatever they are.")
    limit: int = Field(default=1000, strict=True, ge=1, le=1000, description="How many at most.")
    dry_run: bool = Field(default=False, strict=True, description="Only say which they are.")

    @model_validator(mode="after")
    def _one_of_them(self) -> Selection:
        is_filter = any(one is not None for one in (self.type, self.tag, self.since, self.until))
        if (self.ids is not None) + is_filter + self.all != 1:
            raise ValueError("say which: `ids`, or a filter (type, tag, since, until), or `all`")
        return self


class Done(BaseModel):
    """What became of the dead letters that were chosen."""

    ids: list[str] = Field(description="The dead letters.")
    new_ids: list[str] = Field(default=[], description="The tasks that replay them, in that order.")
    dry_run: bool = False


@router.get(
    "",
    summary="List dead letters, newest first",
    response_model=TaskPage,
    response_model_exclude={"tasks": {"__all__": {*LEFT_OUT}}},
)
async def listing(
    swarm: SwarmDep,
    type: Annotated[str | None, Query(max_length=200)] = None,
    tag: Annotated[str | None, Query(max_length=128)] = None,
    since: Since = None,
    until: Until = None,
    cursor: Annotated[str | None, Query(max_length=20_000)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> TaskPage:
    """With why they failed, but for the traceback.

    Those that were replayed are among them, with `replayed_as`; those given up are not.
    """
    records, following = await swarm.page(
        type=type, tag=tag, since=since, until=until, dead_letters=True, cursor=cursor, limit=limit
    )
    tasks = [view(record) for record in records]
    for task in tasks:
        if task.failure is not None:
            task.failure.traceback = None
    return TaskPage(tasks=tasks, cursor=following)


@router.get("/{task_id}", summary="Look at a dead letter")
async def show(task_id: TaskId, swarm: SwarmDep) -> TaskView:
    """With its payload and why it failed."""
    found = await look(swarm, swarm.handle(task_id))
    if not found.dead_letter:
        raise no_dead_letter(task_id, found.state)
    return found


@router.post("/{task_id}/replay", summary="Run a dead letter again", status_code=202)
async def replay(task_id: TaskId, swarm: SwarmDep) -> TaskView:
    """As a new task; asked twice, the same one."""
    return await look(swarm, await swarm.replay(task_id))


@router.delete("/{task_id}", summary="Give a dead letter up", status_code=204)
async def discard(task_id: TaskId, swarm: SwarmDep) -> None:
    """It stays failed, and cannot be replayed any more."""
    await swarm.discard(task_id)


@router.post("/replay", summary="Run many dead letters again")
async def replay_many(chosen: Selection, swarm: SwarmDep) -> Done:
    """Those that were replayed before are left alone."""
    ids = [one async for one in _chosen(swarm, chosen)]
    if chosen.dry_run:
        return Done(ids=ids, dry_run=True)
    made: dict[str, str] = {}
    for one in ids:
        with _passed_over(chosen):
            made[one] = (await swarm.replay(one)).id
    return Done(ids=list(made), new_ids=list(made.values()))


@router.post("/discard", summary="Give many dead letters up")
async def discard_many(chosen: Selection, swarm: SwarmDep) -> Done:
    """They stay failed, and cannot be replayed any more."""
    ids = [one async for one in _chosen(swarm, chosen)]
    if chosen.dry_run:
        return Done(ids=ids, dry_run=True)
    done: list[str] = []
    for one in ids:
        with _passed_over(chosen):
            await swarm.discard(one)
            done.append(one)
    return Done(ids=done)


def _passed_over(chosen: Selection) -> AbstractContextManager[None]:
    """What a filter finds may have been given up; who names a task is told so."""
    return suppress(NotFound) if chosen.ids is None else nullcontext()


async def _chosen(swarm: AsyncSwarm, chosen: Selection) -> AsyncIterator[str]:
    if chosen.ids is not None:
        for one in chosen.ids[: chosen.limit]:
            record = await swarm.get(one)
            if not record.dead_letter:
                raise no_dead_letter(one, record.state)
            yield record.task_id
        return
    left = chosen.limit
    async for record in swarm.list(
        type=chosen.type, tag=chosen.tag, since=chosen.since, until=chosen.until,
        dead_letters=True,
    ):  # fmt: skip
        if record.replayed_as is None:
            yield record.task_id
            left -= 1
        if not left:
            return
