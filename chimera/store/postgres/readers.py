"""Reading connections to PostgreSQL: each read sees one snapshot, and waits for no writer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from chimera.errors import NotOwner, Unavailable
from chimera.store.postgres import faults
from chimera.store.postgres.faults import Interrupted
from chimera.store.postgres.link import Link

#: connections kept open between reads
_IDLE_MAX = 2
#: for a database that is away, seconds
_PATIENCE_S = 2.0
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"


class Readers:
    """A few connections, lent to one reader at a time."""

    def __init__(self, connect: Callable[[], Link], where: str) -> None:
        self._connect = connect
        self._where = where
        self._lock = threading.Lock()
        self._idle: list[Link] = []
        self._closed = False

    @contextmanager
    def snapshot(self) -> Iterator[Callable[..., Any]]:
        """`execute` of a connection, in one transaction. Raises our errors for PostgreSQL's."""
        link = self._begun()
        try:
            yield link.execute
            link.script("ROLLBACK")
        except faults.ERRORS as error:
            raise faults.translate(error, self._where) from error
        finally:
            self._give_back(link)

    def _begun(self) -> Link:
        """A connection in a transaction, as soon as there is one."""
        until = time.monotonic() + _PATIENCE_S
        while True:
            link = self._borrow()
            try:
                if link is None:
                    link = self._connect()
                link.script(_BEGIN)
                return link
            except faults.ERRORS as error:
                if link is not None:
                    link.close()
                fault = faults.translate(error, self._where)
                if not isinstance(fault, Interrupted):
                    raise fault from error
                if time.monotonic() >= until:
                    raise Unavailable(fault.message, retry_after=fault.retry_after) from error
            time.sleep(0.05)

    def _borrow(self) -> Link | None:
        with self._lock:
            if self._closed:
                raise NotOwner("the journal is closed")
            return self._idle.pop() if self._idle else None

    def _give_back(self, link: Link) -> None:
        if link.in_transaction():  # the reader gave up half way
            try:
                link.script("ROLLBACK")
            except faults.ERRORS:
                link.abandon()
        with self._lock:
            if not self._closed and link.alive and len(self._idle) < _IDLE_MAX:
                self._idle.append(link)
                return
        link.close()

    def close(self) -> None:
        """Close them; those lent out close when they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for link in idle:
            link.close()
