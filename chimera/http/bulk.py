"""Many tasks over HTTP: sent as requests of bounded size, kept as 16 bytes a task."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from chimera.client.bulk import Counts
from chimera.client.encode import encode_payload
from chimera.client.many import Keys
from chimera.errors import (
    ChimeraError,
    IdempotencyConflict,
    InvalidPayload,
    InvalidRequest,
    NotReady,
    PayloadTooLarge,
    TaskError,
    Unavailable,
    WaitTimeout,
)
from chimera.http.verbs import Api, Steps, columns, line, traced
from chimera.http.wire import Call, described

#: tasks of a request, and bytes past which it takes no more
LINES, BYTES = 2_000, 1024 * 1024
#: seconds between two tries of tasks that were refused for now
_PAUSE_S = 0.1
#: what is one task's fault, and does not end the others'
_OWN = (IdempotencyConflict, InvalidPayload, PayloadTooLarge)
_NDJSON = {"Content-Type": "application/x-ndjson"}

IdempotencyKeys = Sequence[str] | Callable[[Any], str]


class _Told(msgspec.Struct):
    """A line of the answer."""

    line: int = 0
    id: str | None = None
    duplicate: bool = False
    error: dict[str, Any] | None = None
    done: bool | None = None


_decode = msgspec.json.Decoder(_Told).decode


class Bulk:
    """What became of many submitted tasks: their ids, in submit order, and who was refused."""

    def __init__(self) -> None:
        self._ids = bytearray()
        #: index → why it was refused
        self.refused: dict[int, ChimeraError] = {}
        self.duplicates: set[int] = set()
        #: index → how it ended, as far as it was heard
        self.states: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._ids) // 16

    def id(self, index: int) -> str:
        """A task's id. Raises IndexError, or why it was refused."""
        place = range(len(self))[index]
        if place in self.refused:
            raise self.refused[place]
        return str(uuid.UUID(bytes=bytes(self._ids[place * 16 : place * 16 + 16])))

    def ids(self) -> Iterator[str]:
        """The ids of all that were accepted, in submit order."""
        return (self.id(index) for index in range(len(self)) if index not in self.refused)

    def counts(self) -> Counts:
        """Tasks by state, as far as this client has heard."""
        by = dict.fromkeys(("succeeded", "failed", "cancelled", "expired"), 0)
        for state in self.states.values():
            by[state] = by.get(state, 0) + 1
        return Counts(len(self), refused=len(self.refused), **by)

    def add(self, index: int, task_id: str, duplicate: bool) -> None:
        """A task that was accepted."""
        self._room(index)
        self._ids[index * 16 : index * 16 + 16] = uuid.UUID(task_id).bytes
        if duplicate:
            self.duplicates.add(index)

    def refuse(self, index: int, fault: ChimeraError) -> None:
        """A task that was not."""
        self._room(index)
        self.refused[index] = fault

    def heard(self, index: int, fault: ChimeraError | None) -> None:
        """Note how a task ended."""
        if fault is None:
            self.states[index] = "succeeded"
        elif isinstance(fault, TaskError):
            self.states[index] = fault.code.removeprefix("task_")

    def _room(self, index: int) -> None:
        if len(self._ids) < (index + 1) * 16:
            self._ids.extend(bytes((index + 1) * 16 - len(self._ids)))


def submit_many(
    api: Api, task: str, payloads: Iterable[Any], key: Keys | None,
    idempotency_key: IdempotencyKeys | None, block: bool, timeout_s: float, given: dict[str, Any],
) -> Steps[Bulk]:  # fmt: skip
    """Submit many tasks; all are durable when this returns, or refused for a fault of their own.

    Else the error's `details` count those `accepted`, and its attribute `bulk` has them.
    """
    if isinstance(idempotency_key, str):
        raise InvalidRequest("one idempotency key for many tasks would make them one: give a list")
    bulk = Bulk()
    lines = _lines(task, payloads, key, idempotency_key, columns(given))
    headers = {**_NDJSON, **traced(given)}
    try:
        while chunk := _chunk(lines):
            yield from _send(api, bulk, chunk, headers, block, timeout_s, idempotency_key is None)
    except ChimeraError as fault:
        fault.details.update(accepted=len(bulk) - len(bulk.refused))
        vars(fault)["bulk"] = bulk
        raise
    return bulk


def _send(
    api: Api, bulk: Bulk, chunk: dict[int, bytes], headers: dict[str, str], block: bool,
    timeout_s: float, ours: bool,
) -> Steps[None]:  # fmt: skip
    """Send lines until each was accepted or refused for good; the keys make that safe."""
    until = time.monotonic() + timeout_s
    while chunk:
        call = Call("POST", "/v1/tasks:batch", {}, b"\n".join(chunk.values()), headers, timeout_s)
        answer = yield from api.ask(call, max(until - time.monotonic(), 0.001), block)
        fault = _take(bulk, chunk, answer.body, ours)
        if not chunk:
            return
        if fault is None:
            fault = NotReady("the answer of the gateway was cut off")
        pause_s = max(_PAUSE_S, getattr(fault, "retry_after", 0.0))
        if not block or time.monotonic() + pause_s >= until:
            raise fault
        yield pause_s


def _take(bulk: Bulk, chunk: dict[int, bytes], body: bytes, ours: bool) -> ChimeraError | None:
    """Note what was answered; what is left in `chunk` is to be sent again, for the fault."""
    places = list(chunk)
    fault: ChimeraError | None = None
    for text in body.splitlines():
        try:
            told = _decode(text)
        except msgspec.MsgspecError:
            break  # cut off within a line
        if told.done is not None or not 1 <= told.line <= len(places):
            continue
        index = places[told.line - 1]
        if told.id is not None:
            bulk.add(index, told.id, told.duplicate and not ours)
        else:
            error = described({"code": "error", **(told.error or {})},
                              int((told.error or {}).get("status", 500)))  # fmt: skip
            if isinstance(error, Unavailable):
                fault = error
                continue
            if not isinstance(error, _OWN):
                raise error
            bulk.refuse(index, error)
        chunk.pop(index, None)
    return fault


def _chunk(lines: Iterator[tuple[int, bytes]]) -> dict[int, bytes]:
    """The next lines, by index: as many as a request takes."""
    taken: dict[int, bytes] = {}
    size = 0
    for index, text in lines:
        taken[index] = text
        size += len(text)
        if size >= BYTES or len(taken) == LINES:
            break
    return taken


def _lines(
    task: str, payloads: Iterable[Any], key: Keys | None, idempotency: IdempotencyKeys | None,
    given: dict[str, Any],
) -> Iterator[tuple[int, bytes]]:  # fmt: skip
    session = uuid.uuid4().hex
    count = 0
    for index, payload in enumerate(payloads):
        own = f"{session}-{index}" if idempotency is None else _of(idempotency, payload, index)
        one_key = None if key is None else _of(key, payload, index)
        yield index, line(task, encode_payload(payload, index), one_key, own, given)
        count += 1
    for name, listed in (("key", key), ("idempotency_key", idempotency)):
        if isinstance(listed, Sequence) and not isinstance(listed, str) and len(listed) != count:
            raise InvalidRequest(f"{len(listed)} texts as {name} for {count} payloads")


def _of(keys: Keys | IdempotencyKeys, payload: Any, index: int) -> str:
    if isinstance(keys, str):
        return keys
    if callable(keys):
        return keys(payload)
    if index >= len(keys):
        raise InvalidRequest(f"{len(keys)} texts as keys are fewer than the payloads")
    return keys[index]


def value_of(told: tuple[Any, ChimeraError | None], keep: bool) -> Any:
    """A result; or its error, raised unless errors are kept as values."""
    value, fault = told
    if fault is None:
        return value
    if keep and not isinstance(fault, WaitTimeout):
        return fault
    raise fault


def windows(count: int, size: int) -> Iterator[range]:
    """The places of a bulk, so many at a time."""
    return (range(start, min(start + size, count)) for start in range(0, count, size))
