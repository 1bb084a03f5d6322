"""`/v1/task-types`: what can be submitted, and what payloads each type takes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from chimera.errors import UnknownTaskType
from chimera.serve.gateway import SwarmDep
from chimera.serve.replies import NOT_MODIFIED, PROBLEMS, IfNoneMatch, etagged
from chimera.swarm.policy import CLASSES, TaskPolicy

router = APIRouter(prefix="/v1/task-types", tags=["task types"], responses=PROBLEMS)


class TaskType(BaseModel):
    """A task type that has a handler."""

    model_config = ConfigDict(protected_namespaces=())

    type: str
    contract: dict[str, Any] | list[Any] | bool | str | None = Field(
        default=None, description="Schema of its payloads; null: any JSON."
    )
    contract_language: Literal["JSON", "AVRO"] = Field(
        default="JSON", description="What the contract is written in: JSON Schema, or Avro."
    )
    priority: str
    max_attempts: int
    attempt_timeout_s: float
    rate_per_s: float | None = None
    max_running: int | None = None


class TaskTypes(BaseModel):
    """All of them, by name."""

    types: list[TaskType]


def shown(policy: TaskPolicy) -> TaskType:
    """A type, from its policy."""
    contract = None if policy.contract is None else msgspec.json.decode(policy.contract)
    return TaskType(
        type=policy.type, contract=contract,
        contract_language="AVRO" if policy.contract_language == "AVRO" else "JSON",
        priority=CLASSES[policy.priority],
        max_attempts=policy.max_attempts, attempt_timeout_s=policy.attempt_timeout_s,
        rate_per_s=policy.rate_per_s, max_running=policy.max_running,
    )  # fmt: skip


@router.get("", summary="List the task types", response_model=TaskTypes, responses=NOT_MODIFIED)
async def listing(swarm: SwarmDep, if_none_match: IfNoneMatch = None) -> Response:
    """What the workers can run, asked afresh."""
    found = sorted(await swarm.types(), key=lambda policy: policy.type)
    body = TaskTypes(types=[shown(policy) for policy in found])
    return etagged(if_none_match, body.model_dump_json().encode())


@router.get(
    "/{name}", summary="Look at a task type", response_model=TaskType, responses=NOT_MODIFIED
)
async def show(
    name: Annotated[str, Path(max_length=200, examples=["hello"])],
    swarm: SwarmDep,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Its contract, and how it is run."""
    for policy in await swarm.types():
        if policy.type == name:
            return etagged(if_none_match, shown(policy).model_dump_json().encode())
    raise UnknownTaskType(f"no handler is registered for {name!r}")
