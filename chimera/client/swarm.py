"""A swarm as its users see it: submit, call, find, list, cancel, replay; blocking verbs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from chimera import names
from chimera.client import listing
from chimera.client.bulk import BulkTasks
from chimera.client.core import Core
from chimera.client.following import Follower
from chimera.client.handle import Bulk, Handle
from chimera.client.listing import PAGE, Page
from chimera.client.many import Keys, submit_many
from chimera.client.options import When, options
from chimera.client.steps import Steps, run
from chimera.client.submit import SUBMIT_TIMEOUT_S, Submission, call, submit
from chimera.client.task import Task, by_id
from chimera.errors import InvalidRequest
from chimera.store.protocol import Filter, TaskRecord
from chimera.swarm.policy import TaskPolicy

if TYPE_CHECKING:
    from typing_extensions import Self


class Verbs:
    """The steps of each verb, bound to a swarm and a tenant; `Swarm` and `AsyncSwarm` do them."""

    def __init__(self, core: Core, tenant: str, release: Callable[[], None]) -> None:
        self.core = core
        self._release = release
        self.tenant = names.check(tenant)

    @property
    def name(self) -> str:
        """The swarm's name."""
        return self.core.swarm

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}, tenant {self.tenant!r}>"

    def _submission(
        self, task: Any, blocking: bool, timeout_s: float, given: dict[str, Any]
    ) -> Submission:
        return Submission(type_name(task), self.tenant, options(**given), blocking, timeout_s)

    def _submit(
        self, task: Any, payload: Any, key: str | None, idempotency_key: str | None,
        block: bool, timeout_s: float, given: dict[str, Any],
    ) -> Steps[Task]:  # fmt: skip
        what = self._submission(task, block, timeout_s, given)
        return submit(self.core, what, payload, key, idempotency_key)

    def _call(
        self, task: Any, payload: Any, timeout_s: float | None, key: str | None,
        idempotency_key: str | None, given: dict[str, Any],
    ) -> Steps[Any]:  # fmt: skip
        what = self._submission(task, False, SUBMIT_TIMEOUT_S, given)
        return call(self.core, what, payload, key, idempotency_key, timeout_s)

    def _submit_many(
        self, task: Any, payloads: Iterable[Any], key: Keys | None, idempotency_key: Any,
        block: bool, timeout_s: float, given: dict[str, Any], checked: bool = False,
    ) -> Steps[BulkTasks]:  # fmt: skip
        what = replace(self._submission(task, block, timeout_s, given), checked=checked)
        return submit_many(self.core, what, payloads, key, idempotency_key)

    def _chosen(
        self, type: str | None, state: str | None, tag: str | None, since: When | None,
        until: When | None, dead_letters: bool,
    ) -> Filter:  # fmt: skip
        return listing.chosen(self.tenant, type, state, tag, since, until, dead_letters)

    def _task(self, task_id: str) -> Task:
        return by_id(self.core, self.tenant, task_id)


class Swarm(Verbs):
    """A connection to a swarm, for callers that block. Safe for threads, not across a fork."""

    def submit(
        self,
        task: Any,
        payload: Any = None,
        *,
        key: str | None = None,
        idempotency_key: str | None = None,
        block: bool = False,
        timeout_s: float = SUBMIT_TIMEOUT_S,
        **given: Any,
    ) -> Handle:
        """Submit a task; it is durable when this returns (G1).

        `task` is a type's name or a decorated handler, `payload` anything JSON can say (NaN
        becomes null). Tasks with the same `key` run one at a time in submit order. A repeated
        `idempotency_key`, of the same type and `key`, gives the handle of the first task;
        `handle.duplicate` says so. Further options: `delay_s` or `not_before`, `deadline`,
        `priority`, `tags`, `traceparent`, and the task's own `max_attempts`, `attempt_timeout_s`
        and the like (docs/defaults.md).

        Raises UnknownTaskType, InvalidPayload, PayloadTooLarge, DeadlinePassed, InvalidRequest,
        IdempotencyConflict; Overloaded when the queue is full, unless `block` lets it wait;
        OutcomeUnknown or NotReady when nobody answered within `timeout_s` seconds.
        """
        steps = self._submit(task, payload, key, idempotency_key, block, timeout_s, given)
        return Handle(run(steps))

    def call(
        self,
        task: Any,
        payload: Any = None,
        timeout_s: float | None = None,
        *,
        key: str | None = None,
        idempotency_key: str | None = None,
        **given: Any,
    ) -> Any:
        """Submit a task and wait for its result, in one message: the fastest way for one task.

        Raises what `submit` and `Handle.result` raise.
        """
        return run(self._call(task, payload, timeout_s, key, idempotency_key, given))

    def submit_many(
        self,
        task: Any,
        payloads: Iterable[Any],
        *,
        key: Keys | None = None,
        idempotency_key: Sequence[str] | Callable[[Any], str] | None = None,
        block: bool = True,
        timeout_s: float = SUBMIT_TIMEOUT_S,
        **given: Any,
    ) -> Bulk:
        """Submit many tasks of one type; all are durable when this returns.

        `payloads` may be any iterable, an endless one's memory is bounded. `key` is one key for
        all, a list, or a function of the payload; `idempotency_key` a list or a function. While
        queues are full this waits; `timeout_s` counts from the last answer. The rest is as for
        `submit`; a payload that its contract does not allow ends it there. When something went
        wrong the error's `details` tell how many were `accepted` and the `ids` of those that may
        have been.
        """
        steps = self._submit_many(task, payloads, key, idempotency_key, block, timeout_s, given)
        return Bulk(run(steps))

    def handle(self, task_id: str) -> Handle:
        """The handle of a task whose id is known; asks nobody."""
        return Handle(self._task(task_id))

    def get(self, task_id: str, payload: bool = False) -> TaskRecord:
        """What the swarm knows of a task; with `payload`, its payload and body. Raises NotFound."""
        return run(self._task(task_id).record(payload))

    def cancel(self, task_id: str, reason: str = "", *, only_waiting: bool = False) -> str:
        """Cancel a task, durably; returns its state, `cancelling` while an attempt runs on.

        `only_waiting`: one that runs is let be, and its state is `running`.
        """
        return run(self._task(task_id).cancel(reason, only_waiting))

    def progress(self, task_id: str) -> Any:
        """What a running task said last of how far it is; None if it said nothing."""
        return run(self._task(task_id).progress())

    def replay(self, task_id: str) -> Handle:
        """Run a dead letter again, as a new task; asked twice, the same one. Raises NotFound."""
        return Handle(run(self._task(task_id).replay()))

    def discard(self, task_id: str) -> None:
        """Give a dead letter up: it cannot be replayed any more. Raises NotFound."""
        run(self._task(task_id).discard())

    def list(
        self,
        *,
        type: str | None = None,
        state: str | None = None,
        tag: str | None = None,
        since: When | None = None,
        until: When | None = None,
        dead_letters: bool = False,
    ) -> Iterator[TaskRecord]:
        """The tenant's tasks that fit, newest first, without payloads and results; dead
        letters, where only these are asked for, with why they failed.

        `since` and `until` bound when they were accepted (datetimes, or seconds since 1970; the
        first is within). `dead_letters`: only what failed and was not given up.
        """
        where = self._chosen(type, state, tag, since, until, dead_letters)
        cursor: str | None = None
        while True:
            tasks, cursor = run(listing.page(self.core, where, cursor, PAGE))
            yield from tasks
            if cursor is None:
                return

    def page(
        self,
        *,
        type: str | None = None,
        state: str | None = None,
        tag: str | None = None,
        since: When | None = None,
        until: When | None = None,
        dead_letters: bool = False,
        cursor: str | None = None,
        limit: int = PAGE,
    ) -> Page:
        """One page of `list`, and the cursor of the next one."""
        where = self._chosen(type, state, tag, since, until, dead_letters)
        return run(listing.page(self.core, where, cursor, limit))

    def events(
        self, *, type: str | None = None, for_s: float | None = None
    ) -> Iterator[TaskRecord]:
        """The tenant's tasks as they end from now on, for `for_s` seconds or for ever.

        At least once: a shard that is taken over may tell the last few again.
        """
        follower = Follower(self.core, self.tenant, type, for_s)
        run(follower.begin())
        while (found := run(follower.next())) is not None:
            yield found

    def types(self) -> tuple[TaskPolicy, ...]:
        """The task types that have handlers, with their policies."""
        return run(self.core.types())

    def close(self) -> None:
        """Let go of the swarm; tasks go on, handles of this process no longer work."""
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def type_name(task: Any) -> str:
    """The type's name of a decorated handler, or the name itself. Raises InvalidRequest."""
    definition = getattr(task, "chimera_task", None)
    name = task if definition is None else definition.policy.type
    if not isinstance(name, str) or not name:
        raise InvalidRequest(f"{task!r} is neither a task type's name nor a decorated handler")
    return name
