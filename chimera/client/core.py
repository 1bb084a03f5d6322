"""What all clients of one swarm share in a process: its link, its engine, and how to ask."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from chimera.client.contracts import Contracts
from chimera.client.encode import Inline
from chimera.client.engine import ThreadEngine
from chimera.client.ports import LeaderLink, Pending, Promise, Silent
from chimera.client.publish import CALL_TIMEOUT_S, Publisher
from chimera.client.session import Session
from chimera.client.steps import Steps
from chimera.client.wait import Waiter
from chimera.errors import (
    ChimeraError,
    Fenced,
    NotFound,
    NotReady,
    Unavailable,
    UnknownTaskType,
    from_wire,
)
from chimera.frames.ids import TaskKey, format_id
from chimera.store.protocol import TaskRecord
from chimera.swarm.policy import TaskPolicy

#: seconds after which the leaders are asked again what types there are
TYPES_S = 30.0
#: seconds between two questions about a type that nobody knows
UNKNOWN_S = 1.0
#: threads for reading and writing large payloads on behalf of coroutines
BLOB_THREADS = 4
#: seconds that a question for the task types may take at most
TYPES_WAIT_S = 10.0


class Blobs(Protocol):
    """The object store, for payloads and results over the inline limit."""

    def put(self, data: bytes) -> bytes:
        """Store bytes; returns their claim check."""
        ...

    def get(self, claim: bytes) -> bytes:
        """The bytes behind a claim check. Raises ChimeraError."""
        ...

    def pieces(self, claim: bytes) -> tuple[int, Iterator[bytes]]:
        """How many bytes are behind a claim check, and the bytes as they are read."""
        ...


class Core:
    """One swarm, seen from one process. Safe for threads, of no use after a fork."""

    def __init__(self, swarm: str, link: LeaderLink, open_blobs: Callable[[str], Blobs]) -> None:
        self.swarm = swarm
        self.link = link
        self.session = Session()
        self.engine = ThreadEngine(f"chimera-client-{swarm}")
        self.publisher = Publisher(self.engine, link, self.session)
        self.waiter = Waiter(self.engine, link)
        self.engine.on_end += [self.publisher.end, self.waiter.end]
        self._open_blobs = open_blobs
        self._blobs: Blobs | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self.contracts = Contracts()
        self._types: dict[str, TaskPolicy] = {}
        self._types_at = float("-inf")
        self._pid = os.getpid()

    @property
    def is_open(self) -> bool:
        """Whether it can still be used."""
        return self.engine.is_open and self._pid == os.getpid()

    def check(self) -> None:
        """Raise ChimeraError in a forked child, where neither Ray nor our thread lives on."""
        if self._pid != os.getpid():
            raise ChimeraError(
                "this process was forked after it connected to the swarm, and Ray does not survive "
                "a fork: connect after forking, or start processes with the 'spawn' method",
                pid=os.getpid(),
            )

    @property
    def blobs(self) -> Blobs:
        """The object store; opened when it is needed first."""
        with self._lock:
            if self._blobs is None:
                self._blobs = self._open_blobs(self.link.settings.objects_url)
            return self._blobs

    @property
    def inline(self) -> Inline:
        """What keeps payloads within a frame's limits."""
        return Inline(self._put, self.link.settings.payload_max_bytes)

    def _put(self, data: bytes) -> bytes:
        return self.blobs.put(data)

    def close(self) -> None:
        """End the engine; what still waits is told so."""
        if self._pid == os.getpid():
            self.engine.close()
            self.link.close()
            if self._pool is not None:
                self._pool.shutdown(wait=False)

    def nap(self, seconds: float) -> Promise[None]:
        """A promise that is kept after a while."""
        promise: Promise[None] = Promise()
        self.engine.do(lambda: self.engine.later(seconds, lambda: promise.keep(None)))
        return promise

    def aside(self, work: Callable[[], Any]) -> Pending[Any]:
        """Blocking work: done in the caller's thread, or beside a coroutine's event loop."""
        return _Aside(work, self._threads)

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(BLOB_THREADS, "chimera-blobs")
            return self._pool

    def ask(self, shard: int, verb: str, *args: Any, timeout_s: float = 10.0) -> Steps[Any]:
        """Ask a shard's owner, whoever it is by then. Only for what may be asked twice.

        Raises what it answers, or NotReady when nobody answered in time.
        """
        self.check()
        until = time.monotonic() + timeout_s
        tries = 0
        while True:
            left = max(until - time.monotonic(), 0.001)
            try:
                return (yield self.link.ask(shard, verb, *args), min(left, CALL_TIMEOUT_S))
            except (Unavailable, Fenced) as fault:
                tries += 1
                wait_s = min(0.01 * 2**tries, 0.5) * random.uniform(0.5, 1.0)
                if time.monotonic() + wait_s >= until:
                    raise NotReady(
                        f"the owner of shard {shard} did not answer in {timeout_s:g} s: {fault}"
                    ) from fault
            yield self.nap(wait_s), wait_s + 1
            try:
                yield self.link.look(), CALL_TIMEOUT_S
            except Silent:
                continue

    def record(
        self, tenant: str, key: TaskKey, bodies: bool, timeout_s: float = 10.0
    ) -> Steps[TaskRecord]:
        """Everything known of a task; of the first one, if it is a duplicate. Raises NotFound."""
        if key.shard >= self.link.settings.ring:
            raise NotFound(f"no task {format_id(*key)}: its shard is none of this swarm's")
        (found,) = yield from self.ask(
            key.shard, "get", tenant, [tuple(key)], bodies, timeout_s=timeout_s
        )
        if isinstance(found, dict):
            fault = from_wire(found)
            if isinstance(fault, NotFound):
                raise NotFound(f"there is no task {format_id(*key)}") from fault
            raise fault
        record: TaskRecord = found
        return record

    def policy(self, type: str, timeout_s: float = TYPES_WAIT_S) -> Steps[TaskPolicy]:
        """The policy of a task type. Raises UnknownTaskType, once asked again, or NotReady."""
        self.check()
        age = time.monotonic() - self._types_at
        found = self._types.get(type)
        if found is None or age > TYPES_S:
            if age > UNKNOWN_S:
                yield from self._learn(must=found is None, timeout_s=timeout_s)
            found = self._types.get(type)
        if found is None:
            known = ", ".join(sorted(self._types)) or "none"
            raise UnknownTaskType(
                f"no handler is registered for {type!r}; known types: {known}", type=type
            )
        return found

    def types(self) -> Steps[tuple[TaskPolicy, ...]]:
        """The policies of all task types, asked afresh."""
        self.check()
        yield from self._learn(must=True)
        return tuple(self._types.values())

    def _learn(self, must: bool, timeout_s: float = TYPES_WAIT_S) -> Steps[None]:
        """Ask some leader for the types; while none answers, what is known stands."""
        until = time.monotonic() + min(timeout_s, TYPES_WAIT_S)
        while True:
            try:
                left = max(until - time.monotonic(), 0.001)
                policies = yield self.link.ask_any("types"), min(left, CALL_TIMEOUT_S)
            except Unavailable as fault:
                if not must:
                    return
                if time.monotonic() >= until:
                    raise NotReady(f"no leader says what task types there are: {fault}") from fault
                yield self.link.look(), CALL_TIMEOUT_S
                yield self.nap(0.05), 1.0
            else:
                self._types = {policy.type: policy for policy in policies}
                self._types_at = time.monotonic()
                return


class _Aside:
    """Blocking work as a pending answer."""

    __slots__ = ("_begun", "_threads", "_work")

    def __init__(self, work: Callable[[], Any], threads: Callable[[], ThreadPoolExecutor]) -> None:
        self._work = work
        self._threads = threads
        self._begun: Future[Any] | None = None

    def get(self, timeout_s: float) -> Any:
        return self._work() if self._begun is None else self._begun.result(timeout_s)

    def future(self) -> Future[Any]:
        if self._begun is None:
            self._begun = self._threads().submit(self._work)
        return self._begun
