"""A schema registry, as Confluent's REST API has it: schemas, subjects, levels; Avro and JSON.

Its decisions rest on a `State`, made of a log of entries that somebody keeps durably. Several
registries may share a log: an entry is accepted only directly after the last one that its decision
knew, so that no two of them decide on different grounds. Ids are unique in the whole registry,
whatever the context, and no id is ever given twice.
"""

from __future__ import annotations

import inspect
import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from uuid import UUID

from chimera.contracts import schemas
from chimera.contracts.registry import reads, writes
from chimera.contracts.registry.state import State
from chimera.errors import RegistryFault, Unavailable, UnknownSchema

#: what our own events are held to
OWN_LEVEL = "FULL_TRANSITIVE"
#: others that write at the same time may come first that often
_TRIES = 50


class Log(Protocol):
    """Where the entries are kept. Raises Unavailable, StoreFull."""

    def read(self, after: int) -> Sequence[tuple[int, str]]:
        """(number, entry) of those with numbers above `after`, in order; numbers are from 1."""

    def append(self, number: int, entry: str, now: int) -> bool:
        """Keep an entry; False if its number is not the next. `now` is in Unix ms."""


class Registry:
    """The registry on a log. Safe to use from any thread."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._state = State()
        self._number = 0

    def call(self, op: str, **arguments: Any) -> Any:
        """Carry out an operation: a function of `reads` or `writes`, by name.

        Raises RegistryFault for what is refused, and what the log raises.
        """
        read, write = _operation(reads, op), _operation(writes, op)
        with self._lock:
            if read is not None:
                self._catch_up()
                return read(self._state, **arguments)
            if write is None:
                raise RegistryFault(f"no such operation: {op}", error_code=404)
            for _ in range(_TRIES):
                self._catch_up()
                entry, answer = write(self._state, **arguments)
                if entry is None or self._append(entry):
                    return answer
        raise Unavailable("the registry is being changed by too many at once", retry_after=1.0)

    def register(self, subject: str, schema: str) -> int:
        """The id of an Avro schema, which is registered if it is new. Raises RegistryFault."""
        found: int = self.call("register", subject=subject, body={"schema": schema})["id"]
        return found

    def schema(self, id: int | UUID) -> str:
        """The schema of an id or GUID. Raises UnknownSchema."""
        try:
            if isinstance(id, UUID):
                found: str = self.call("by_guid", guid=str(id))["schema"]
            else:
                found = self.call("by_id", id=id)["schema"]
        except RegistryFault as fault:
            raise UnknownSchema(f"no schema has the id {id}", id=str(id)) from fault
        return found

    def publish_own(self) -> dict[str, int]:
        """Register every version of our own events; returns the newest one's id by event.

        What is there already stays as it is, so that this may be done at each start.
        """
        found = {}
        for event, versions in schemas.published().items():
            subject = versions[-1].subject
            if self.call("level", subject=subject, default=True) != OWN_LEVEL:
                self.call("set_level", subject=subject, level=OWN_LEVEL)
            for one in versions:
                found[event] = self.call(
                    "publish", subject=subject, body={"schema": one.text}, id=one.id
                )["id"]
        return found

    def _catch_up(self) -> None:
        for number, entry in self._log.read(self._number):
            self._state.apply(json.loads(entry))
            self._number = number

    def _append(self, entry: dict[str, Any]) -> bool:
        text = json.dumps(entry, ensure_ascii=False, separators=(",", ":"))
        if not self._log.append(self._number + 1, text, time.time_ns() // 1_000_000):
            return False
        self._state.apply(entry)
        self._number += 1
        return True


def _operation(module: Any, op: str) -> Callable[..., Any] | None:
    """A function that a module itself defines, by name."""
    found = getattr(module, op, None)
    own = inspect.isfunction(found) and found.__module__ == module.__name__
    return found if own and not op.startswith("_") and op != "told" else None


class MemoryLog:
    """Keeps entries as long as it lives: for tests."""

    def __init__(self) -> None:
        self._entries: list[str] = []

    def read(self, after: int) -> Sequence[tuple[int, str]]:
        """The entries with numbers above `after`."""
        return list(enumerate(self._entries[after:], after + 1))

    def append(self, number: int, entry: str, now: int) -> bool:
        """Keep an entry, if its number is the next."""
        if number != len(self._entries) + 1:
            return False
        self._entries.append(entry)
        return True
