"""Reading connections: each read sees one snapshot, and never waits for the writer."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from chimera.errors import ChimeraError, NotOwner
from chimera.store.journal import schema

#: connections kept open between reads
_IDLE_MAX = 4


class Readers:
    """A few connections, lent to one reader at a time."""

    def __init__(self, path: str, fault: Callable[[sqlite3.Error], ChimeraError]) -> None:
        self._path = path
        self._fault = fault
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False

    @contextmanager
    def snapshot(self) -> Iterator[Callable[..., Any]]:
        """`execute` of a connection, in one transaction. Raises our errors for SQLite's."""
        with self._lock:
            if self._closed:
                raise NotOwner("the journal is closed")
            db = self._idle.pop() if self._idle else None
        try:
            if db is None:
                db = schema.connect(self._path, fsync=False, read_only=True)
            db.execute("BEGIN")
            try:
                yield db.execute
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")
        except sqlite3.Error as error:
            if db is not None:
                db.close()  # nobody knows in what state it is
                db = None
            raise self._fault(error) from error
        finally:
            if db is not None:
                self._give_back(db)

    def _give_back(self, db: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < _IDLE_MAX:
                self._idle.append(db)
                return
        db.close()

    def close(self) -> None:
        """Close them; those lent out close when they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for db in idle:
            db.close()
