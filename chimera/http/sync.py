"""`Client`: a swarm behind its gateway, for callers that block."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
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
from chimera.http.reel import AsCompleted, InOrder, Reel, value_of
from chimera.http.send import ERRORS, LIMITS, Threads, built, fault_of, run
from chimera.http.status import status
from chimera.http.verbs import SUBMIT_TIMEOUT_S, Api
from chimera.http.wire import TENANT_HEADER, Answer, problem
from chimera.store.protocol import TaskRecord
from chimera.swarm.policy import TaskPolicy
from chimera.swarm.reports import SwarmStatus

if TYPE_CHECKING:
    from typing_extensions import Self


class Handle:
    """One submitted task. Safe for threads; lost handles are found again by id."""

    __slots__ = ("_client", "duplicate", "id")

    def __init__(self, client: Client, id: str, duplicate: bool = False) -> None:
        self._client = client
        #: the task's id; of the first one, if an idempotency key was used before
        self.id = id
        #: whether an earlier task had the same idempotency key: this is that task
        self.duplicate = duplicate

    def __repr__(self) -> str:
        return f"<Handle of task {self.id}>"

    def result(self, timeout_s: float | None = None) -> Any:
        """Wait for the task's result.

        Raises TaskFailed, TaskCancelled or TaskExpired if it ended otherwise, WaitTimeout after
        `timeout_s` seconds (the task goes on), NotFound past its retention.
        """
        client = self._client
        return run(client.http, client.api.result(self.id, timeout_s))

    def wait(self, timeout_s: float | None = None) -> str:
        """Wait for the task's end: `succeeded`, `failed`, `cancelled` or `expired`.

        Raises WaitTimeout.
        """
        client = self._client
        return run(client.http, client.api.ended(self.id, timeout_s)).state

    def status(self, payload: bool = False) -> TaskRecord:
        """What the swarm knows of the task just now; with `payload`, its payload and body too."""
        return self._client.get(self.id, payload)

    def progress(self) -> Any:
        """What it said last of how far it is, while it runs; None if it said nothing."""
        return self._client.progress(self.id)

    def cancel(self, reason: str = "", *, only_waiting: bool = False) -> str:
        """Cancel the task, durably; returns its state, `cancelling` while an attempt runs on.

        `only_waiting`: if it runs it is let be, and its state is `running`.
        """
        return self._client.cancel(self.id, reason, only_waiting=only_waiting)

    def replay(self) -> Handle:
        """Run a dead letter again, as a new task; asked twice, the same one. Raises NotFound."""
        return self._client.replay(self.id)


class Bulk:
    """Many submitted tasks; handles are made when they are looked at."""

    def __init__(self, client: Client, tasks: bulks.Bulk) -> None:
        self._client = client
        self.tasks = tasks

    def __repr__(self) -> str:
        return f"<Bulk of {len(self)} tasks>"

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, index: int) -> Handle:
        """The handle of one task. Raises IndexError, or why that task was refused."""
        place = range(len(self))[index]
        return Handle(self._client, self.tasks.id(place), place in self.tasks.duplicates)

    def __iter__(self) -> Iterator[Handle]:
        """Handles in submit order. Raises at a task that was refused."""
        return (self[index] for index in range(len(self)))

    def ids(self) -> Iterator[str]:
        """The ids of those that were accepted, in submit order."""
        return self.tasks.ids()

    def results(
        self, timeout_s: float | None = None, return_exceptions: bool = False
    ) -> Iterator[Any]:
        """The results in submit order, a window of them at a time.

        A task that did not succeed raises its error, which ends the stream; with
        `return_exceptions` the error is yielded in its place. Raises WaitTimeout when not all are
        there `timeout_s` seconds after the first was asked for.
        """
        with closing(self._told(InOrder, timeout_s, return_exceptions)) as told:
            for _, value in told:
                yield value

    def as_completed(
        self, timeout_s: float | None = None, return_exceptions: bool = False
    ) -> Iterator[tuple[int, Any]]:
        """(place among the payloads, result) of each task, as they end; else like `results`."""
        return self._told(AsCompleted, timeout_s, return_exceptions)

    def wait(self, timeout_s: float | None = None) -> Counts:
        """Wait until all tasks have ended, however. Raises WaitTimeout."""
        for _ in self.as_completed(timeout_s, return_exceptions=True):
            pass
        return self.counts()

    def counts(self) -> Counts:
        """Tasks by state, as far as this handle has heard: `wait` and the streams make it hear."""
        return self.tasks.counts()

    def _told(
        self, kind: type[Reel], timeout_s: float | None, keep: bool
    ) -> Generator[tuple[int, Any], None, None]:
        reel = kind(self._client.api, self.tasks, timeout_s)
        threads = Threads(self._client.http)
        try:
            while not reel.over:
                for index, steps in reel.asks():
                    threads.begin(index, steps)
                for index, told in reel.heard(*threads.next()):
                    yield index, value_of(told, keep)
        finally:
            threads.stop()


class Client:
    """A swarm behind its gateway at `url`, as `chimera.connect()` gives it, without Ray.

    Connections are kept alive and shared by threads. Every submit bears an idempotency key, so that
    what is sent again after a cut is still one task. Raises InvalidRequest for what is no URL.
    """

    def __init__(
        self, url: str, *, tenant: str = "default", transport: httpx2.BaseTransport | None = None
    ) -> None:
        self.api = Api(url, tenant)
        self.http = httpx2.Client(
            base_url=self.api.url, limits=LIMITS, transport=transport,
            headers={"User-Agent": "chimera", TENANT_HEADER: tenant},
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<Client of {self.api.url}, tenant {self.api.tenant!r}>"

    @property
    def tenant(self) -> str:
        """For whom it submits."""
        return self.api.tenant

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
        """Submit a task; it is durable when this returns (G1). Options as for `Swarm.submit`.

        Raises UnknownTaskType, InvalidPayload, PayloadTooLarge, DeadlinePassed, InvalidRequest,
        IdempotencyConflict; Overloaded when the queue is full, unless `block` lets it wait;
        NotReady or OutcomeUnknown when nobody answered within `timeout_s` seconds: the `details` of
        the latter have the `idempotency_key` to submit it again with.
        """
        name = type_name(task)
        steps = self.api.submit(name, payload, key, idempotency_key, block, timeout_s, given)
        return Handle(self, *run(self.http, steps))

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
        """Submit a task and wait for its result. Raises what `submit` and `result` raise."""
        made = self.submit(task, payload, key=key, idempotency_key=idempotency_key, **given)
        return made.result(timeout_s)

    def submit_many(
        self,
        task: Any,
        payloads: Iterable[Any],
        *,
        key: Keys | None = None,
        idempotency_key: IdempotencyKeys | None = None,
        block: bool = True,
        timeout_s: float = SUBMIT_TIMEOUT_S,
        **given: Any,
    ) -> Bulk:
        """Submit many tasks of one type, as NDJSON; all are durable when this returns.

        `payloads` may be any iterable: they go in requests of at most 2,000 tasks. Tasks with a
        `key` keep their order unless some were refused for a full queue and sent again. A payload
        that its contract does not allow, or a key that was used for another one, refuses that task
        alone. `timeout_s` is for each of the requests, and counts from the last answer while
        queues are full. When something else went wrong the error's `details` tell how many were
        `accepted` and, by their place among the payloads, the `idempotency_keys` of those that may
        have been; its `bulk` has the accepted ones. The rest is as for `Swarm.submit_many`.
        """
        name = type_name(task)
        steps = bulks.submit_many(
            self.api, name, payloads, key, idempotency_key, block, timeout_s, given
        )
        return Bulk(self, run(self.http, steps))

    def handle(self, task_id: str) -> Handle:
        """The handle of a task whose id is known; asks nobody."""
        return Handle(self, task_id)

    def get(self, task_id: str, payload: bool = False) -> TaskRecord:
        """What the swarm knows of a task; with `payload`, its payload and body. Raises NotFound."""
        return run(self.http, self.api.record(task_id, payload))

    def cancel(self, task_id: str, reason: str = "", *, only_waiting: bool = False) -> str:
        """Cancel a task, durably; returns its state, `cancelling` while an attempt runs on.

        `only_waiting`: one that runs is let be, and its state is `running`.
        """
        return run(self.http, self.api.cancel(task_id, reason, only_waiting))

    def replay(self, task_id: str) -> Handle:
        """Run a dead letter again, as a new task; asked twice, the same one. Raises NotFound."""
        return Handle(self, run(self.http, self.api.replay(task_id)))

    def discard(self, task_id: str) -> None:
        """Give a dead letter up: it cannot be replayed any more. Raises NotFound."""
        run(self.http, self.api.discard(task_id))

    def progress(self, task_id: str) -> Any:
        """What a running task said last of how far it is; None if it said nothing."""
        return run(self.http, self.api.view(task_id)).progress

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
        where = self.api.chosen(type, state, tag, since, until, dead_letters)
        cursor: str | None = None
        while True:
            tasks, cursor = run(self.http, self.api.page(where, cursor, PAGE))
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
        where = self.api.chosen(type, state, tag, since, until, dead_letters)
        return run(self.http, self.api.page(where, cursor, limit))

    def types(self) -> tuple[TaskPolicy, ...]:
        """The task types that have handlers, with what is told of their policies."""
        return run(self.http, self.api.types())

    def status(self) -> SwarmStatus:
        """What is observed of the whole swarm; `msgspec.UNSET` where the gateway does not say."""
        return status(run(self.http, self.api.tree()))

    def events(
        self, *, type: str | None = None, for_s: float | None = None, after: str | None = None
    ) -> Iterator[TaskRecord]:
        """The tenant's tasks as they end, for `for_s` seconds or for ever; goes on after a cut.

        At least once: a cut may bring the last few again.
        """
        stream = Stream(self.api.url, type, for_s, after)
        while True:
            fault: Exception | None = None
            try:
                request = built(self.http, stream.call())
                answer = self.http.send(request, stream=True)
                try:
                    if answer.status_code >= 400:
                        body = answer.read()
                        fault = problem(Answer(answer.status_code, answer.headers, body))
                    else:
                        for piece in answer.iter_bytes():
                            yield from stream.feed(piece)
                finally:
                    answer.close()
            except ERRORS as error:
                fault = fault_of(error)
            pause_s = stream.pause_s(fault)
            if pause_s is None:
                return
            time.sleep(pause_s)

    def close(self) -> None:
        """Close its connections; tasks go on."""
        self.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
