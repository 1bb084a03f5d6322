"""Every event as a plain object; its fields are those of the newest schema, which explains them.

Times are Unix milliseconds. Payloads, results and details are JSON text in UTF-8.
"""

from __future__ import annotations

import functools
from typing import ClassVar

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What is published and consumed."""

    #: names the schema's files
    name: ClassVar[str]
    #: CloudEvents type
    ce_type: ClassVar[str]


class Failure(msgspec.Struct, frozen=True):
    """Why a task did not succeed."""

    error: str
    message: str = ""
    traceback: str = ""
    retryable: bool = True


class Command(Event, frozen=True, kw_only=True):
    """One task that somebody asks for."""

    name = "command"
    ce_type = "io.chimera.task.command.v1"

    type: str
    payload: bytes
    id: str | None = None
    tenant: str = "default"
    payload_is_claim: bool = False
    key: str | None = None
    idempotency_key: str | None = None
    not_before: int | None = None
    deadline: int | None = None
    priority: str | None = None
    tags: tuple[str, ...] = ()
    created_at: int | None = None
    max_attempts: int | None = None
    backoff_initial_s: float | None = None
    backoff_factor: float | None = None
    backoff_cap_s: float | None = None
    no_retry: tuple[str, ...] | None = None
    attempt_timeout_s: float | None = None
    heartbeat_timeout_s: float | None = None
    replay_of: str | None = None


class CommandFrame(Event, frozen=True, kw_only=True):
    """Up to a thousand commands as our own clients send them: the hot path."""

    name = "command_frame"
    ce_type = "io.chimera.task.command-frame.v1"

    type: str
    count: int
    frame: bytes
    tenant: str = "default"


class Result(Event, frozen=True, kw_only=True):
    """The one outcome of a task."""

    name = "result"
    ce_type = "io.chimera.task.result.v1"

    task_id: str
    type: str
    state: str
    recorded_at: int
    tenant: str = "default"
    attempts: int = 0
    result: bytes | None = None
    result_is_claim: bool = False
    error: Failure | None = None
    key: str | None = None
    tags: tuple[str, ...] = ()
    accepted_at: int | None = None
    started_at: int | None = None
    run_us: int | None = None
    shard: int = -1
    position: int = -1
    epoch: int = 0
    command_id: str | None = None
    command_source: str | None = None


class Origin(msgspec.Struct, frozen=True):
    """Where a record of a broker was read."""

    topic: str
    partition: int = -1
    offset: int = -1
    deliveries: int = 1


class DeadLetter(Event, frozen=True, kw_only=True):
    """What could not be done: a task that failed for good, or a record that is no task."""

    name = "dead_letter"
    ce_type = "io.chimera.task.dead-letter.v1"

    reason: str
    error: Failure
    recorded_at: int
    task_id: str | None = None
    type: str | None = None
    tenant: str | None = None
    attempts: int = 0
    payload: bytes | None = None
    payload_is_claim: bool = False
    record: bytes | None = None
    key: str | None = None
    tags: tuple[str, ...] = ()
    accepted_at: int | None = None
    shard: int = -1
    position: int = -1
    origin: Origin | None = None


class WorkerLifecycle(Event, frozen=True, kw_only=True):
    """A worker came, went or changed hands."""

    name = "worker_lifecycle"
    ce_type = "io.chimera.swarm.worker-lifecycle.v1"

    worker: str
    leader: str
    region: str
    event: str
    at: int
    reason: str = ""
    node: str = ""
    pid: int = 0
    revision: str = ""
    types: tuple[str, ...] = ()


class Shard(msgspec.Struct, frozen=True):
    """A shard, as its owner sees it."""

    shard: int
    epoch: int
    state: str
    open: int
    leader: str = ""


class Latency(msgspec.Struct, frozen=True):
    """How long something took."""

    count: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float


class LeaderReport(Event, frozen=True, kw_only=True):
    """What a leader reports of itself."""

    name = "leader_report"
    ce_type = "io.chimera.swarm.leader-report.v1"

    leader: str
    region: str
    incarnation: int
    number: int
    at: int
    generation: int
    ready: bool
    shards: tuple[Shard, ...] = ()
    workers: int = 0
    worker_target: int = 0
    counters: dict[str, int] = {}
    latency: dict[str, Latency] = {}
    faults: tuple[str, ...] = ()
    lag_ms: float = 0.0


class RegionSummary(Event, frozen=True, kw_only=True):
    """What a coordinator reports of its region."""

    name = "region_summary"
    ce_type = "io.chimera.swarm.region-summary.v1"

    region: str
    coordinator: str
    term: int
    sequence: int
    at: int
    generation: int
    ready: bool
    leaders: int
    leaders_expected: int = 0
    workers: int = 0
    open: int = 0
    shards: tuple[Shard, ...] = ()
    counters: dict[str, int] = {}
    latency: dict[str, Latency] = {}
    failovers: int = 0
    faults: tuple[str, ...] = ()


class Audit(Event, frozen=True, kw_only=True):
    """One entry of the audit log."""

    name = "audit"
    ce_type = "io.chimera.swarm.audit.v1"

    seq: int
    at: int
    actor: str
    action: str
    subject: str
    detail: str
    prev_hash: str
    hash: str


class WorkflowEvent(Event, frozen=True, kw_only=True):
    """One step in the history of a workflow."""

    name = "workflow"
    ce_type = "io.chimera.workflow.event.v1"

    workflow_id: str
    type: str
    sequence: int
    event: str
    at: int
    tenant: str = "default"
    step: str | None = None
    task_id: str | None = None
    detail: bytes | None = None
    error: Failure | None = None


@functools.cache
def kinds() -> dict[str, type[Event]]:
    """Every event's class, by its name."""
    return {kind.name: kind for kind in Event.__subclasses__()}
