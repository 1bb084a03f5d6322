"""What the gateway answers, as what the client in the cluster would give: records and errors."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from chimera.client.outcomes import Outcome
from chimera.errors import ChimeraError, InvalidRequest, NotReady, OutcomeUnknown, from_wire
from chimera.frames import outcome
from chimera.store.protocol import TaskRecord
from chimera.swarm.policy import CLASSES, TaskPolicy

#: header that says for whom
TENANT_HEADER = "Chimera-Tenant"
_NULL = msgspec.Raw(b"null")
#: members of a problem document that say nothing that the error does not
_DOCUMENT = frozenset({"type", "title", "status", "detail", "instance", "code"})
#: answers that say, whoever gives them, that nothing was done yet; 502 and 504 do not
_BETWEEN = frozenset({408, 429, 503})


@dataclass(frozen=True, slots=True)
class Call:
    """A request to the gateway."""

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 10.0  #: for the whole answer


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Failure(msgspec.Struct):
    """Why a task did not succeed."""

    error: str = ""
    message: str = ""
    traceback: str | None = None


class View(msgspec.Struct):
    """A task, as the gateway shows it; members that we do not know are let be."""

    id: str
    type: str
    tenant: str
    state: str
    priority: str = "normal"
    key: str | None = None
    tags: tuple[str, ...] = ()
    attempts: int = 0
    progress: Any = None
    accepted_at: datetime | None = None
    due_at: datetime | None = None
    ended_at: datetime | None = None
    cancel_requested: bool = False
    duplicate: bool = False
    replay_of: str | None = None
    replayed_as: str | None = None
    dead_letter: bool = False
    payload: msgspec.Raw = _NULL
    result: msgspec.Raw = _NULL
    result_url: str | None = None
    failure: Failure | None = None

    @property
    def ended(self) -> bool:
        """Whether it has its outcome."""
        return self.state in outcome.NAMES.values()

    def outcome(self) -> Outcome:
        """What became of it; its result is elsewhere if `result_url` is set."""
        state = next((key for key, name in outcome.NAMES.items() if name == self.state), None)
        return Outcome(outcome.OPEN if state is None else state, self._body(), False, self.attempts)

    def record(self) -> TaskRecord:
        """As the journal would tell it; its place there is not known here."""
        return TaskRecord(
            task_id=self.id, position=-1, type=self.type, tenant=self.tenant,
            priority=CLASSES.index(self.priority), state=self.state, attempts=self.attempts,
            accepted_at=_ms(self.accepted_at) or 0, settled_at=_ms(self.ended_at),
            due=_ms(self.due_at), key=self.key, tags=self.tags,
            cancel_requested=self.cancel_requested, replay_of=self.replay_of,
            replayed_as=self.replayed_as, payload=bytes(self.payload),
            body=self._body() or None, body_is_claim=self.result_url is not None,
            dead_letter=self.dead_letter,
        )  # fmt: skip

    def _body(self) -> bytes:
        if self.state == "succeeded":
            return b"" if self.result_url else bytes(self.result)
        if self.failure is None:
            return b""
        said = self.failure
        return msgspec.json.encode(outcome.Failure(said.error, said.message, said.traceback or ""))


class Pages(msgspec.Struct):
    """A page of tasks."""

    tasks: list[View]
    cursor: str | None = None


class TaskType(msgspec.Struct):
    """A task type, as the gateway shows it."""

    type: str
    priority: str
    max_attempts: int
    attempt_timeout_s: float
    contract: msgspec.Raw = _NULL
    rate_per_s: float | None = None
    max_running: int | None = None

    def policy(self) -> TaskPolicy:
        """As the swarm has it, as far as it is told."""
        contract = bytes(self.contract)
        return TaskPolicy(
            type=self.type, max_attempts=self.max_attempts, rate_per_s=self.rate_per_s,
            attempt_timeout_s=self.attempt_timeout_s, max_running=self.max_running,
            priority=CLASSES.index(self.priority),
            contract=None if contract == b"null" else contract.decode(),
        )  # fmt: skip


class TaskTypes(msgspec.Struct):
    """All of them."""

    types: list[TaskType]


def decode(answer: Answer, kind: Any) -> Any:
    """An answer's body. Raises ChimeraError if it is not what the gateway would say."""
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as fault:
        raise ChimeraError(f"this is no gateway of Chimera: its answer is {fault}") from fault


def problem(answer: Answer) -> ChimeraError:
    """The error that an answer means, by its problem document's `code`."""
    try:
        told = msgspec.json.decode(answer.body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        told = None
    if not isinstance(told, dict) or not isinstance(told.get("code"), str):
        return _unspoken(answer)
    return described(told, answer.status, answer.headers)


def described(
    told: Mapping[str, Any], status: int, headers: Mapping[str, str] | None = None
) -> ChimeraError:
    """The error of a problem document, or of a line that answers a bulk."""
    details = {name: value for name, value in told.items() if name not in _DOCUMENT}
    wait_s = retry_after(headers or {})
    if wait_s is not None and "retry_after" not in details:
        details["retry_after"] = wait_s
    code = str(told.get("code", "error"))
    message = str(told.get("detail") or told.get("title") or code)
    made = from_wire({"code": code, "message": message, "details": details})
    if type(made) is ChimeraError and status in _BETWEEN:
        return NotReady(message, **details)
    if type(made) is ChimeraError and 400 <= status < 500:
        return InvalidRequest(message, **details, reason=code)
    return made


def _unspoken(answer: Answer) -> ChimeraError:
    text = answer.body[:200].decode("utf-8", "replace").strip()
    told = f"HTTP {answer.status}" + (f": {text}" if text else "")
    if answer.status in _BETWEEN:
        return NotReady(told, retry_after=retry_after(answer.headers) or 0.2)
    if answer.status >= 500:
        return OutcomeUnknown(told)
    return ChimeraError(f"this is no gateway of Chimera: {told}")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a `Retry-After`, which may also be a date; None without one."""
    given = headers.get("retry-after")
    if given is None:
        return None
    try:
        return max(float(given), 0.0)
    except ValueError:
        pass
    try:
        return max(email.utils.parsedate_to_datetime(given).timestamp() - time.time(), 0.0)
    except (TypeError, ValueError):
        return None


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)
