"""`AsyncClient`: the same swarm behind its gateway, for coroutines; each verb awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any

import httpx2

from chimera.client.bulk import Counts
from chimera.client.listing import PAGE, Page
from chimera.client.many import Keys
from chimera.client.options import When
from chimera.client.swarm import type_name
from chimera.http import bulk as bulks
from chimera.http.bulk import IdempotencyKeys
from chimera.http.events import Stream
from chimera.http.reel import AsCompleted, InOrder, Reel, Told, value_of
from chimera.http.send import ERRORS, LIMITS, arun, built, fault_of
from chimera.http.status import status
from chimera.http.verbs import SUBMIT_TIMEOUT_S, Api, Steps
from chimera.http.wire import TENANT_HEADER, Answer, problem
from chimera.store.protocol import TaskRecord
from chimera.swarm.policy import TaskPolicy
from chimera.swarm.reports import SwarmStatus

if TYPE_CHECKING:
    from typing_extensions import Self


class AsyncHandle:
    """One submitted task; see `chimera.http.Handle` for what the verbs say and raise."""

    __slots__ = ("_client", "duplicate", "id")

    def __init__(self, client: AsyncClient, id: str, duplicate: bool = False) -> None:
        self._client = client
        self.id = id
        self.duplicate = duplicate

    def __repr__(self) -> str:
        return f"<AsyncHandle of task {self.id}>"

    async def result(self, timeout_s: float | None = None) -> Any:
        client = self._client
        return await arun(client.http, client.api.result(self.id, timeout_s))

    async def wait(self, timeout_s: float | None = None) -> str:
        client = self._client
        return (await arun(client.http, client.api.ended(self.id, timeout_s))).state

    async def status(self, payload: bool = False) -> TaskRecord:
        return await self._client.get(self.id, payload)

    async def progress(self) -> Any:
        return await self._client.progress(self.id)

    async def cancel(self, reason: str = "", *, only_waiting: bool = False) -> str:
        return await self._client.cancel(self.id, reason, only_waiting=only_waiting)

    async def replay(self) -> AsyncHandle:
        return await self._client.replay(self.id)


class AsyncBulk:
    """Many submitted tasks; see `chimera.http.Bulk`."""

    def __init__(self, client: AsyncClient, tasks: bulks.Bulk) -> None:
        self._client = client
        self.tasks = tasks

    def __repr__(self) -> str:
        return f"<AsyncBulk of {len(self)} tasks>"

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, index: int) -> AsyncHandle:
        place = range(len(self))[index]
        return AsyncHandle(self._client, self.tasks.id(place), place in self.tasks.duplicates)

    def __iter__(self) -> Iterator[AsyncHandle]:
        return (self[index] for index in range(len(self)))

    def ids(self) -> Iterator[str]:
        """The ids of those that were accepted, in submit order."""
        return self.tasks.ids()

    async def results(
        self, timeout_s: float | None = None, return_exceptions: bool = False
    ) -> AsyncIterator[Any]:
        async with aclosing(self._told(InOrder, timeout_s, return_exceptions)) as told:
            async for _, value in told:
                yield value

    def as_completed(
        self, timeout_s: float | None = None, return_exceptions: bool = False
    ) -> AsyncIterator[tuple[int, Any]]:
        return self._told(AsCompleted, timeout_s, return_exceptions)

    async def wait(self, timeout_s: float | None = None) -> Counts:
        async for _ in self.as_completed(timeout_s, return_exceptions=True):
            pass
        return self.counts()

    def counts(self) -> Counts:
        """Tasks by state, as far as this handle has heard."""
        return self.tasks.counts()

    async def _told(
        self, kind: type[Reel], timeout_s: float | None, keep: bool
    ) -> AsyncGenerator[tuple[int, Any], None]:
        reel = kind(self._client.api, self.tasks, timeout_s)
        asked: set[asyncio.Task[tuple[int, Told]]] = set()
        try:
            while not reel.over:
                asked |= {asyncio.create_task(self._ask(*one)) for one in reel.asks()}
                done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
                for one in done:
                    asked.discard(one)
                    for index, told in reel.heard(*one.result()):
                        yield index, value_of(told, keep)
        finally:
            for one in asked:
                one.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    async def _ask(self, index: int, steps: Steps[Told]) -> tuple[int, Told]:
        return index, await arun(self._client.http, steps)


class AsyncClient:
    """A swarm behind its gateway at `url`; see `chimera.Client` for what its verbs say."""

    def __init__(
        self,
        url: str,
        *,
        tenant: str = "default",
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.api = Api(url, tenant)
        self.http = httpx2.AsyncClient(
            base_url=self.api.url, limits=LIMITS, transport=transport,
            headers={"User-Agent": "chimera", TENANT_HEADER: tenant},
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<AsyncClient of {self.api.url}, tenant {self.api.tenant!r}>"

    @property
    def tenant(self) -> str:
        """For whom it submits."""
        return self.api.tenant

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
        name = type_name(task)
        steps = self.api.submit(name, payload, key, idempotency_key, block, timeout_s, given)
        return AsyncHandle(self, *(await arun(self.http, steps)))

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
        made = await self.submit(task, payload, key=key, idempotency_key=idempotency_key, **given)
        return await made.result(timeout_s)

    async def submit_many(
        self,
        task: Any,
        payloads: Iterable[Any],
        *,
        key: Keys | None = None,
        idempotency_key: IdempotencyKeys | None = None,
        block: bool = True,
        timeout_s: float = SUBMIT_TIMEOUT_S,
        **given: Any,
    ) -> AsyncBulk:
        name = type_name(task)
        steps = bulks.submit_many(
            self.api, name, payloads, key, idempotency_key, block, timeout_s, given
        )
        return AsyncBulk(self, await arun(self.http, steps))

    def handle(self, task_id: str) -> AsyncHandle:
        """The handle of a task whose id is known; asks nobody."""
        return AsyncHandle(self, task_id)

    async def get(self, task_id: str, payload: bool = False) -> TaskRecord:
        return await arun(self.http, self.api.record(task_id, payload))

    async def cancel(self, task_id: str, reason: str = "", *, only_waiting: bool = False) -> str:
        return await arun(self.http, self.api.cancel(task_id, reason, only_waiting))

    async def replay(self, task_id: str) -> AsyncHandle:
        return AsyncHandle(self, await arun(self.http, self.api.replay(task_id)))

    async def discard(self, task_id: str) -> None:
        await arun(self.http, self.api.discard(task_id))

    async def progress(self, task_id: str) -> Any:
        return (await arun(self.http, self.api.view(task_id))).progress

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
        where = self.api.chosen(type, state, tag, since, until, dead_letters)
        cursor: str | None = None
        while True:
            tasks, cursor = await arun(self.http, self.api.page(where, cursor, PAGE))
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
        where = self.api.chosen(type, state, tag, since, until, dead_letters)
        return await arun(self.http, self.api.page(where, cursor, limit))

    async def types(self) -> tuple[TaskPolicy, ...]:
        return await arun(self.http, self.api.types())

    async def status(self) -> SwarmStatus:
        return status(await arun(self.http, self.api.tree()))

    async def events(
        self, *, type: str | None = None, for_s: float | None = None, after: str | None = None
    ) -> AsyncIterator[TaskRecord]:
        stream = Stream(self.api.url, type, for_s, after)
        while True:
            fault: Exception | None = None
            try:
                request = built(self.http, stream.call())
                answer = await self.http.send(request, stream=True)
                try:
                    if answer.status_code >= 400:
                        body = await answer.aread()
                        fault = problem(Answer(answer.status_code, answer.headers, body))
                    else:
                        async for piece in answer.aiter_bytes():
                            for record in stream.feed(piece):
                                yield record
                finally:
                    await answer.aclose()
            except ERRORS as error:
                fault = fault_of(error)
            pause_s = stream.pause_s(fault)
            if pause_s is None:
                return
            await asyncio.sleep(pause_s)

    async def close(self) -> None:
        """Close its connections; tasks go on."""
        await self.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
