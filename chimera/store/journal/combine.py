"""Combining commits: whoever gets the writer writes everything queued and wakes the rest.

Idle, a request is a transaction of its own, without a linger or a timer. Busy, requests pile up
behind the running commit and form the next one by themselves.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from chimera.errors import ChimeraError, Unavailable, from_wire
from chimera.store.journal.txn import Txn

T = TypeVar("T")


class Request(Generic[T]):
    __slots__ = ("bare", "done", "error", "result", "wake", "work")

    def __init__(self, work: Callable[[Any], T], bare: bool) -> None:
        self.work = work
        self.bare = bare  #: gets the connection and makes its own transactions
        self.wake = threading.Lock()
        self.wake.acquire()
        self.done = False
        self.result: T
        self.error: BaseException | None = None


class Combiner(ABC):
    """The writer of a journal, and who may use it next. Each transaction is fenced (P1)."""

    def __init__(self) -> None:
        self.epoch = 0  #: set by `take`
        self.requests = 0
        self.commits = 0
        #: why nothing is written any more
        self.broken: ChimeraError | None = None
        self._mutex = threading.Lock()
        self._queue: list[Request[Any]] = []
        self._busy = False
        self._heir: Request[Any] | None = None  #: was told to write what is queued

    @abstractmethod
    def transact(self, works: list[Callable[[Txn], Any]]) -> list[Any]:
        """Run all of it in one transaction; nothing of it is written if this raises."""

    @abstractmethod
    def attempt(self, request: Request[T]) -> T:
        """Run one request by itself."""

    @abstractmethod
    def served(self) -> None:
        """Called after each round, before the writer is passed on."""

    def run(self, work: Callable[[Txn], T]) -> T:
        """Run `work` in a transaction that is committed when this returns.

        `work` may be run again after a failed attempt whose writes were undone: it must change
        nothing but the database. Raises what `work` raises, StaleEpoch, StoreFull, JournalBroken.
        """
        return self._run(Request(work, bare=False))

    def alone(self, work: Callable[[Any], T]) -> T:
        """Run `work` with the writing connection, between transactions."""
        return self._run(Request(work, bare=True))

    def _run(self, request: Request[T]) -> T:
        with self._mutex:
            self._queue.append(request)
            must_wait, self._busy = self._busy, True
        if must_wait:
            try:
                request.wake.acquire()
            except BaseException:
                self._give_up(request)
                raise
        if not request.done:
            self._serve()
        if request.error is not None:
            raise request.error
        return request.result

    def _give_up(self, request: Request[Any]) -> None:
        """Take back a request whose caller was interrupted while it waited."""
        with self._mutex:
            if request in self._queue:
                self._queue.remove(request)
            if self._heir is request:
                self._pass_on()

    def _pass_on(self) -> None:
        """Let the first one that waits write; called with the mutex held."""
        self._heir = self._queue[0] if self._queue else None
        self._busy = self._heir is not None
        if self._heir is not None:
            self._heir.wake.release()

    def _serve(self) -> None:
        """Write all that is queued, wake its callers, and pass the writer on."""
        with self._mutex:
            self._heir = None
            batch, self._queue = self._queue, []
        try:
            self._write(batch)
        except BaseException:  # an interrupt: nobody may be left waiting for ever
            for request in batch:
                if not request.done:
                    request.error = Unavailable("the writer was interrupted: try again")
                    request.done = True
            raise
        finally:
            for request in batch:
                request.wake.release()
            try:
                self.served()
            finally:
                with self._mutex:
                    self._pass_on()

    def _write(self, batch: list[Request[Any]]) -> None:
        self.requests += len(batch)
        plain = [request for request in batch if not request.bare]
        if len(plain) < 2 or not self._together(plain):
            for request in plain:
                self._singly(request)
        for request in batch:
            if request.bare:
                self._singly(request)

    def _together(self, batch: list[Request[Any]]) -> bool:
        """One transaction for all; False if any of it failed, so that none of it was written."""
        try:
            results = self.transact([request.work for request in batch])
        except Exception:  # who is at fault shows when each runs alone
            return False
        for request, result in zip(batch, results, strict=True):
            request.result, request.done = result, True
        return True

    def _singly(self, request: Request[Any]) -> None:
        try:
            request.result = self.attempt(request)
        except Exception as error:
            request.error = error
        request.done = True

    def check(self) -> None:
        """Raise if this journal writes nothing any more."""
        if self.broken is not None:
            raise from_wire(self.broken.to_wire())  # a raised error keeps its frames: a fresh one
