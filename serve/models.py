"""What goes over HTTP: requests and answers, with the examples that the tests send."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from chimera.frames import outcome
from chimera.frames.limits import KEY_BYTES_MAX, TAGS_MAX
from chimera.store.protocol import TaskRecord
from chimera.swarm.policy import CLASSES

State = Literal[
    "queued", "scheduled", "running", "cancelling", "succeeded", "failed", "cancelled", "expired"
]
Priority = Literal["critical", "normal", "batch"]
ENDED = frozenset(outcome.NAMES.values())


class Options(BaseModel):
    """What may be said of a task besides type and payload."""

    model_config = ConfigDict(extra="forbid")

    key: str | None = Field(default=None, min_length=1, max_length=KEY_BYTES_MAX,
        description="Tasks with the same key run one at a time, in submit order.",
    )  # fmt: skip
    idempotency_key: str | None = Field(default=None, min_length=1, max_length=KEY_BYTES_MAX,
        description="Makes a repeated request the same task; also as header `Idempotency-Key`.",
    )  # fmt: skip
    delay_s: float | None = Field(default=None, strict=True, ge=0, le=3.2e8,
        description="Run it so much later.",
    )  # fmt: skip
    not_before: datetime | None = Field(default=None, description="Run it then, not before.")
    deadline: datetime | None = Field(default=None, description="Unless begun by then, it expires.")
    priority: Priority | None = None
    tags: list[str] = Field(default=[], max_length=TAGS_MAX, description="To find it by.")
    max_attempts: int | None = Field(default=None, strict=True, ge=1, le=1000)
    attempt_timeout_s: float | None = Field(default=None, strict=True, ge=0.001, le=2.6e6)

    def given(self) -> dict[str, Any]:
        """As keyword arguments of `submit`."""
        set_ = self.model_fields_set & Options.model_fields.keys()
        found = {name: value for name in set_ if (value := getattr(self, name)) is not None}
        for name in ("not_before", "deadline"):
            if isinstance(moment := found.get(name), datetime) and moment.tzinfo is None:
                found[name] = moment.replace(tzinfo=timezone.utc)
        return found


class TaskRequest(Options):
    """A task to run."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"type": "hello", "payload": {"name": "world"}},
                {"type": "hello", "payload": {"name": "you"}, "key": "you", "tags": ["greeting"]},
            ]
        },
    )

    type: str = Field(min_length=1, max_length=200, description="A task type with a handler.")
    payload: Any = Field(default=None, description="What the handler gets: any JSON.")


class TaskFailure(BaseModel):
    """Why a task did not succeed."""

    error: str = Field(description="Name of the exception, or what ended the task.")
    message: str
    traceback: str | None = None


class TaskView(BaseModel):
    """A task as it is known now."""

    id: str = Field(description="The task's id.")
    type: str
    tenant: str
    state: State
    url: str = Field(description="Where to ask for it again.")
    priority: Priority = "normal"
    key: str | None = None
    tags: list[str] = []
    attempts: int = Field(default=0, description="Attempts that have begun.")
    progress: Any = Field(default=None, description="What the handler said last of how far it is.")
    accepted_at: datetime | None = None
    due_at: datetime | None = Field(default=None, description="When a waiting one is to run.")
    ended_at: datetime | None = None
    cancel_requested: bool = False
    duplicate: bool = Field(default=False, description="An earlier submit had the same key.")
    replay_of: str | None = None
    replayed_as: str | None = None
    dead_letter: bool = Field(default=False, description="It failed, and was not given up.")
    payload: Any = None
    result: Any = Field(default=None, description="What the handler returned.")
    result_url: str | None = Field(default=None, description="Where a large result is to be read.")
    failure: TaskFailure | None = None


class TaskPage(BaseModel):
    """Some tasks, newest first."""

    tasks: list[TaskView]
    cursor: str | None = Field(default=None, description="Of the next page; null: no more.")


#: of tasks on a page: what is not looked up for it is left out, as null would say something else
LEFT_OUT = ("payload", "result", "result_url", "progress")


def url(task_id: str) -> str:
    """Where a task is asked for."""
    return f"/v1/tasks/{task_id}"


def moment(unix_ms: int | None) -> datetime | None:
    """Unix milliseconds as a moment."""
    return None if unix_ms is None else datetime.fromtimestamp(unix_ms / 1000, timezone.utc)


def submitted(id: str, request: TaskRequest, tenant: str) -> TaskView:
    """A task that was accepted just now."""
    waits = request.delay_s or request.not_before
    return TaskView(
        id=id, type=request.type, tenant=tenant, url=url(id), key=request.key, tags=request.tags,
        state="scheduled" if waits else "queued", priority=request.priority or "normal",
    )  # fmt: skip


def view(record: TaskRecord, progress: Any = None, duplicate: bool = False) -> TaskView:
    """A task's record."""
    found = TaskView(
        id=record.task_id,
        type=record.type,
        tenant=record.tenant,
        state=_state(record),
        url=url(record.task_id),
        priority=_priority(record.priority),
        key=record.key,
        tags=list(record.tags),
        attempts=record.attempts,
        progress=progress,
        accepted_at=moment(record.accepted_at),
        due_at=moment(record.due),
        ended_at=moment(record.settled_at),
        cancel_requested=record.cancel_requested,
        duplicate=duplicate,
        replay_of=record.replay_of,
        replayed_as=record.replayed_as,
        dead_letter=record.dead_letter,
    )
    if record.payload is not None:
        found.payload = _json(record.payload)
    if record.state == "succeeded":
        if record.body_is_claim:
            found.result_url = url(record.task_id) + "/result"
        elif record.body is not None:
            found.result = _json(record.body)
    elif record.body is not None and not record.body_is_claim:
        found.failure = _failure(record.body)
    return found


def _state(record: TaskRecord) -> State:
    state: Any = record.state
    return "cancelling" if record.cancel_requested and state not in ENDED else state


def _priority(index: int) -> Priority:
    name: Any = CLASSES[index]
    found: Priority = name
    return found


def _failure(body: bytes) -> TaskFailure:
    try:
        said = outcome.decode_failure(body)
    except msgspec.MsgspecError:
        return TaskFailure(error="", message=body.decode("utf-8", "replace"))
    return TaskFailure(error=said.error, message=said.message, traceback=said.traceback or None)


def _json(text: bytes) -> Any:
    """What it says; the text itself if that cannot be read: a record came from outside so."""
    try:
        return msgspec.json.decode(text) if text else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return text.decode("utf-8", "replace")
