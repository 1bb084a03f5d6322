"""Every error of Chimera, its code, whose fault it is and what the edge answers.

ChimeraError
├── InvalidRequest            the caller's fault: the same request will never succeed
│   ├── UnknownTaskType · InvalidPayload · PayloadTooLarge · DeadlinePassed
│   ├── IdConflict · IdempotencyConflict · RecordTooLarge
│   ├── BadRecord · UnknownSchema · RegistryFault
│   └── SpecError · HandlerLoadError
├── Unavailable               try again: `retry_after` says when
│   ├── Overloaded · NotOwner · NotReady (Unreachable) · BusUnavailable
│   └── StoreFull · StoreRefused · JournalBroken
├── OutcomeUnknown            it may or may not have been accepted: ask by id
├── WaitTimeout · NotFound
├── PreconditionFailed        it was changed since the caller looked: look again
├── TaskError                 a task ended otherwise than well
│   └── TaskFailed · TaskCancelled · TaskExpired
├── Fenced                    somebody newer owns this
│   └── StaleEpoch · StaleTerm
├── BusUnauthorized · TopicMissing · PositionLost      the broker wants an operator
├── CorruptFrame · LostTail   stored bytes are not what was written
├── WrongVersion              Ray, or what stored something, does not fit this Chimera
├── StoreMismatch             the store is not that of the swarm that lives
├── WrongSwarm                the gateway is of another swarm than the one that is meant
└── ImpossibleStep            a bug of ours: a machine met an event that its table forbids
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar


class ChimeraError(Exception):
    """Something went wrong in Chimera."""

    #: stable, machine-readable name of the fault
    code: ClassVar[str] = "error"
    #: the HTTP status that says the same
    status: int = 500
    #: whether the same request may succeed later
    retryable: ClassVar[bool] = False

    def __init__(self, message: str = "", **details: Any) -> None:
        super().__init__(message or (type(self).__doc__ or "").split("\n")[0])
        self.details = details

    @property
    def message(self) -> str:
        return str(self.args[0])

    def to_wire(self) -> dict[str, Any]:
        """As plain data, so that no exception is ever pickled between processes."""
        return {"code": self.code, "message": self.message, "details": self.details}

    def __reduce__(self) -> Any:
        return from_wire, (self.to_wire(),)


class InvalidRequest(ChimeraError):
    """The request is wrong and will stay so."""

    code = "invalid_request"
    status = 400


class UnknownTaskType(InvalidRequest):
    """No handler is registered for this task type."""

    code = "unknown_task_type"
    status = 404


class InvalidPayload(InvalidRequest):
    """The payload is not JSON, or not what the task type expects."""

    code = "invalid_payload"
    status = 422


class PayloadTooLarge(InvalidRequest):
    """The payload is over the limit."""

    code = "payload_too_large"
    status = 413


class DeadlinePassed(InvalidRequest):
    """The deadline is in the past."""

    code = "deadline_passed"
    status = 422


class IdConflict(InvalidRequest):
    """The same task ids were submitted before with other content."""

    code = "id_conflict"
    status = 409


class IdempotencyConflict(InvalidRequest):
    """The idempotency key was used before with another payload."""

    code = "idempotency_conflict"
    status = 422


class RecordTooLarge(InvalidRequest):
    """The record is over what its topic takes."""

    code = "record_too_large"
    status = 413


class BadRecord(InvalidRequest):
    """A record of a broker cannot be read, and never will be."""

    code = "bad_record"


class UnknownSchema(BadRecord):
    """The registry has no schema with the id that a record names. `details` has `id`."""

    code = "unknown_schema"


class SpecError(InvalidRequest):
    """The swarm's spec is malformed. `details` has `line` and `key`."""

    code = "invalid_spec"
    status = 422


class HandlerLoadError(InvalidRequest):
    """A module of handlers cannot be loaded. `details` has `module`."""

    code = "handler_load_error"
    status = 422


class RegistryFault(InvalidRequest):
    """The schema registry refuses. `details` has `error_code`, as its REST API has it."""

    code = "registry_fault"

    def __init__(self, message: str = "", **details: Any) -> None:
        super().__init__(message, **details)
        self.status = self.error_code // 100 if self.error_code > 999 else self.error_code

    @property
    def error_code(self) -> int:
        """What Confluent's registry says in that case: 40401, 42201, 409 …"""
        return int(self.details.get("error_code", 50001))


class Unavailable(ChimeraError):
    """Not now: try again after `retry_after` seconds."""

    code = "unavailable"
    status = 503
    retryable = True

    @property
    def retry_after(self) -> float:
        """Seconds to wait before the next try."""
        return float(self.details.get("retry_after", 0.1))


class Overloaded(Unavailable):
    """The shard's queue is full."""

    code = "overloaded"
    status = 429


class NotOwner(Unavailable):
    """This leader does not own the shard (any more)."""

    code = "not_owner"


class NotReady(Unavailable):
    """The swarm, or the part asked, is still starting."""

    code = "not_ready"


class Unreachable(NotReady):
    """Nothing answers at the gateway's URL."""

    code = "unreachable"


class StoreFull(Unavailable):
    """The disk is full: submits are refused until there is room, reads go on."""

    code = "store_full"
    status = 507


class StoreRefused(Unavailable):
    """The database refuses user or password: somebody must mend that first."""

    code = "store_refused"


class JournalBroken(Unavailable):
    """The journal's disk failed: its owner must give the shard up, the next one reads anew."""

    code = "journal_broken"


class BusUnavailable(Unavailable):
    """The broker did not answer in time; what was sent may have been written."""

    code = "bus_unavailable"


class OutcomeUnknown(ChimeraError):
    """The request may or may not have been accepted: ask by id."""

    code = "outcome_unknown"
    status = 504


class WaitTimeout(ChimeraError, TimeoutError):
    """The wait ended before the task did; the task goes on."""

    code = "wait_timeout"
    status = 504
    retryable = True


class NotFound(ChimeraError):
    """What was asked for is not there, or its retention is over."""

    code = "not_found"
    status = 404


class PreconditionFailed(ChimeraError):
    """It was changed since the caller looked."""

    code = "precondition_failed"
    status = 412


class TaskError(ChimeraError):
    """A task ended otherwise than well.

    `details` has its `id`.
    """

    code = "task_error"


class TaskFailed(TaskError):
    """The task failed for good and is a dead letter.

    `details` has `type`, `attempts` and `traceback` too.
    """

    code = "task_failed"


class TaskCancelled(TaskError):
    """The task was cancelled."""

    code = "task_cancelled"


class TaskExpired(TaskError):
    """The task's deadline passed before it could run."""

    code = "task_expired"


class Fenced(ChimeraError):
    """Somebody newer owns this."""

    code = "fenced"
    status = 409


class StaleEpoch(Fenced):
    """The shard's epoch is another: this process is no longer its owner."""

    code = "stale_epoch"


class StaleTerm(Fenced):
    """The order comes from a former incarnation of its sender."""

    code = "stale_term"


class BusUnauthorized(ChimeraError):
    """The broker refuses our credentials, certificate or permissions."""

    code = "bus_unauthorized"
    status = 502


class TopicMissing(ChimeraError):
    """The topic, or a partition of it, is not there: provision it."""

    code = "topic_missing"
    status = 503


class PositionLost(ChimeraError):
    """The broker no longer keeps what is next. `details`: `partition`, `position`."""

    code = "position_lost"


class CorruptFrame(ChimeraError):
    """A frame's bytes are not what was written."""

    code = "corrupt"


class LostTail(ChimeraError):
    """A journal lost commits that were acknowledged."""

    code = "lost_tail"


class WrongVersion(ChimeraError):
    """What runs, or what wrote the store, does not fit this version of Chimera."""

    code = "wrong_version"


class StoreMismatch(ChimeraError):
    """The store is not that of the swarm whose actors live."""

    code = "store_mismatch"
    status = 409


class WrongSwarm(ChimeraError):
    """The gateway is of another swarm than the one that is meant."""

    code = "wrong_swarm"
    status = 409


class ImpossibleStep(ChimeraError):
    """A machine met an event that its table forbids."""

    code = "impossible_step"


def _tree(root: type[ChimeraError]) -> dict[str, type[ChimeraError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found.update(_tree(child))
    return found


_BY_CODE = _tree(ChimeraError)


def from_wire(wire: dict[str, Any]) -> ChimeraError:
    """The error that `to_wire` described; an unknown code becomes a plain ChimeraError."""
    kind = _BY_CODE.get(wire["code"], ChimeraError)
    return kind(wire["message"], **wire.get("details", {}))


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error, then what led to it, last first, each once.

    A client that keeps an error and raises it again while it handles what that error led to makes
    a ring of `__cause__` and `__context__`: Python only takes care of rings of the latter.
    """
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__
