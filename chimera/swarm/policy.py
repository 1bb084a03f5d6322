"""Rules of a task type as data: retries, timeouts, limits, priority."""

from __future__ import annotations

import msgspec

#: priority classes, most urgent first
CLASSES = ("critical", "normal", "batch")
#: fields of a type's policy that one task may have otherwise
TASK_OPTIONS = frozenset(
    {
        "max_attempts", "backoff_initial_s", "backoff_factor", "backoff_cap_s", "no_retry",
        "attempt_timeout_s", "heartbeat_timeout_s",
    }
)  # fmt: skip


class TaskPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How the tasks of one type are run. Defaults and their reasons: docs/defaults.md."""

    type: str
    #: attempts of a task, the first included, before it is a dead letter
    max_attempts: int = 5
    #: the longest wait before the second attempt, seconds; the wait is drawn from [0, this)
    backoff_initial_s: float = 0.2
    #: how much longer each further wait may be
    backoff_factor: float = 2.0
    #: the longest any wait may be, seconds
    backoff_cap_s: float = 30.0
    #: names of exceptions (`ValueError` or `package.Error`) that another attempt cannot help
    no_retry: tuple[str, ...] = ()
    #: seconds an attempt may run before its worker is killed
    attempt_timeout_s: float = 60.0
    #: seconds an attempt may run without `ctx.heartbeat()`; None: no heartbeat is asked for
    heartbeat_timeout_s: float | None = None
    #: tasks that one worker runs at once; more than 1 only for async and I/O-bound handlers
    concurrency: int = 1
    #: index into CLASSES
    priority: int = 1
    #: tasks started a second in the whole swarm; None: no limit
    rate_per_s: float | None = None
    #: tasks that may start at once after a quiet time; None: one second's worth
    rate_burst: int | None = None
    #: tasks that run at the same time in the whole swarm; None: no limit
    max_running: int | None = None
    #: the handler keeps a state for each key, stored with the outcome of its last task
    keyed_state: bool = False
    #: the handler is a coroutine function
    is_async: bool = False
    #: schema of its payload, as text; None: any JSON
    contract: str | None = None
    #: what the contract is written in: `JSON` (Schema) or `AVRO`
    contract_language: str = "JSON"

    @property
    def of_class(self) -> str:
        """Its priority class by name."""
        return CLASSES[min(max(self.priority, 0), len(CLASSES) - 1)]
