"""The same swarm for coroutines: each verb awaited, none written twice."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from chimera.client import listing
from chimera.client.bulk import BulkTasks, Counts
from chimera.client.contracts import Check
from chimera.client.following import Follower
from chimera.client.listing import PAGE, Page
from chimera.client.many import Keys
from chimera.client.options import When
from chimera.client.reel import Reel
from chimera.client.steps import arun
from chimera.client.submit import SUBMIT_TIMEOUT_S
from chimera.client.swarm import Verbs
from chimera.client.task import Task
from chimera.store.protocol import TaskRecord
from chimera.swarm.policy import TaskPolicy

if TYPE_CHECKING:
    from typing_extensions import Self


class AsyncHandle:
    """One submitted task; see `Handle` for what the verbs say and raise."""

    __slots__ = ("_task",)

    def __init__(self, task: Task) -> None:
        self._task = task

    def __repr__(self) -> str:
        return f"<AsyncHandle of task {self.id}>"

    @property
    def id(self) -> str:
        """The task's id; of the first one, if an idempotency key was used before."""
        return self._task.id

    @property
    def duplicate(self) -> bool:
        """Whether an earlier task had the same idempotency key: this is that task."""
        return self._task.duplicate

    async def result(self, timeout_s: float | None = None) -> Any:
        return await arun(self._task.result(timeout_s))

    async def wait(self, timeout_s: float | None = None) -> str:
        return await arun(self._task.state(timeout_s))

    async def status(self, payload: bool = False) -> TaskRecord:
        return await arun(self._task.record(payload))

    async def progress(self) -> Any:
        return await arun(self._task.progress())

    async def cancel(self, reason: str = "", *, only_waiting: bool = False) -> str:
        return await arun(self._task.cancel(reason, only_waiting))

    async def replay(self) -> AsyncHandle:
        return AsyncHandle(await arun(self._task.replay()))


class AsyncBulk:
    """Many submitted tasks; see `Bulk`."""

    def __init__(self, tasks: BulkTasks) -> None:
        self._tasks = tasks

    def __repr__(self) -> str:
        return f"<AsyncBulk of {len(self)} tasks>"

    @property
    def tasks(self) -> BulkTasks:
        """What it is made of."""
        return self._tasks

    def __len__(self) -> int:
        return self._tasks.total

    def __getitem__(self, index: int) -> AsyncHandle:
        return AsyncHandle(self._tasks.task(index))

    async def results(
        self, timeout_s: float | None = None, return_exceptions: bool = False
    ) -> AsyncIterator[Any]:
        reel = Reel(self._tasks, timeout_s, ordered=True)
        try:
            while (values := await arun(reel.results(return_exceptions))) is not None:
                for one in values:
                    yield one
        finally:
            reel.close()

    async def as_completed(
        self, timeout_s: float | None = None, return_exceptions: bool = False
    ) -> AsyncIterator[tuple[int, Any]]:
        reel = Reel(self._tasks, timeout_s, ordered=False)
        try:
            while (pairs := await arun(reel.completed(return_exceptions))) is not None:
                for pair in pairs:
                    yield pair
        finally:
            reel.close()

    async def wait(self, timeout_s: float | None = None) -> Counts:
        reel = Reel(self._tasks, timeout_s, ordered=False)
        try:
            await arun(reel.drain())
        finally:
            reel.close()
        return self.counts()

    def counts(self) -> Counts:
        """Tasks by state, as far as this handle has heard."""
        return self._tasks.counts()


class AsyncSwarm(Verbs):
    """A connection to a swarm, for coroutines; see `Swarm` for what the verbs say and raise."""

    async def submit(
        self,
        task: Any,
        payload: Any = None,
        *,
        key: str | None = None,
        idempotency_key: str | None = None,
        block: bool = False,
        timeout_s: float = SUBMIT_TIMEOUT_S,
        **given: Any,
    ) -> AsyncHandle:
        steps = self._submit(task, payload, key, idempotency_key, block, timeout_s, given)
        return AsyncHandle(await arun(steps))

    async def call(
        self,
        task: Any,
        payload: Any = None,
        timeout_s: float | None = None,
        *,
        key: str | None = None,
        idempotency_key: str | None = None,
        **given: Any,
    ) -> Any:
        return await arun(self._call(task, payload, timeout_s, key, idempotency_key, given))

    async def submit_many(
        self,
        task: Any,
        payloads: Iterable[Any],
        *,
        key: Keys | None = None,
        idempotency_key: Sequence[str] | Callable[[Any], str] | None = None,
        block: bool = True,
        timeout_s: float = SUBMIT_TIMEOUT_S,
        checked: bool = False,
        **given: Any,
    ) -> AsyncBulk:
        """As `Swarm.submit_many`; `checked`: the payloads were held to their contract already."""
        steps = self._submit_many(
            task, payloads, key, idempotency_key, block, timeout_s, given, checked
        )
        return AsyncBulk(await arun(steps))

    def handle(self, task_id: str) -> AsyncHandle:
        """The handle of a task whose id is known; asks nobody."""
        return AsyncHandle(self._task(task_id))

    async def get(self, task_id: str, payload: bool = False) -> TaskRecord:
        return await arun(self._task(task_id).record(payload))

    async def cancel(self, task_id: str, reason: str = "", *, only_waiting: bool = False) -> str:
        return await arun(self._task(task_id).cancel(reason, only_waiting))

    async def discard(self, task_id: str) -> None:
        """Give a dead letter up: it cannot be replayed any more. Raises NotFound."""
        await arun(self._task(task_id).discard())

    async def progress(self, task_id: str) -> Any:
        return await arun(self._task(task_id).progress())

    async def replay(self, task_id: str) -> AsyncHandle:
        return AsyncHandle(await arun(self._task(task_id).replay()))

    async def list(
        self,
        *,
        type: str | None = None,
        state: str | None = None,
        tag: str | None = None,
        since: When | None = None,
        until: When | None = None,
        dead_letters: bool = False,
    ) -> AsyncIterator[TaskRecord]:
        where = self._chosen(type, state, tag, since, until, dead_letters)
        cursor: str | None = None
        while True:
            tasks, cursor = await arun(listing.page(self.core, where, cursor, PAGE))
            for task in tasks:
                yield task
            if cursor is None:
                return

    async def page(
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
        where = self._chosen(type, state, tag, since, until, dead_letters)
        return await arun(listing.page(self.core, where, cursor, limit))

    async def events(
        self, *, type: str | None = None, for_s: float | None = None
    ) -> AsyncIterator[TaskRecord]:
        follower = Follower(self.core, self.tenant, type, for_s)
        await arun(follower.begin())
        while (found := await arun(follower.next())) is not None:
            yield found

    async def types(self) -> tuple[TaskPolicy, ...]:
        return await arun(self.core.types())

    async def happened(
        self, shard: int, after: int, limit: int
    ) -> tuple[int, builtins.list[tuple[int, TaskRecord]]]:
        """The tenant's tasks that ended in a shard since row `after`, and the last row's number.

        Below 0: nothing, and the number of the newest row.
        """
        found: tuple[int, Any] = await arun(
            self.core.ask(shard, "happened", shard, self.tenant, after, limit)
        )
        return found

    async def contract(self, type: str) -> Check | None:
        """What checks payloads of a type; None: any will do. Raises UnknownTaskType."""
        policy = await arun(self.core.policy(type))
        return self.core.contracts.check(policy)

    async def close(self) -> None:
        self._release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._release()
