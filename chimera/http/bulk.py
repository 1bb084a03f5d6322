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
    InvalidRequest,
    NotReady,
    OutcomeUnknown,
    TaskError,
)
from chimera.http.verbs import (
    FULL,
    OF_THE_TASK,
    Api,
    CutOff,
    Steps,
    columns,
    line,
    may_pass,
    pause_s,
    traced,
)
from chimera.http.wire import Call, described

#: tasks of a request, and bytes past which it takes no more
LINES, BYTES = 2_000, 1024 * 1024
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
    """What became of many submitted tasks: their ids, by index, and who was refused."""

    def __init__(self) -> None:
        self._ids = bytearray()
        self.accepted = 0
        #: index → why it was refused
        self.refused: dict[int, ChimeraError] = {}
        self.duplicates: set[int] = set()
        #: index → how it ended, as far as it was heard
        self.states: dict[int, str] = {}

    def __len__(self) -> int:
        return self.accepted + len(self.refused)

    def id(self, index: int) -> str:
        """A task's id. Raises IndexError, or why it was refused."""
        place = range(len(self._ids) // 16)[index]
        if place in self.refused:
            raise self.refused[place]
        found = self._ids[place * 16 : place * 16 + 16]
        if not any(found):
            raise IndexError(f"{index}: that task was not accepted")
        return str(uuid.UUID(bytes=bytes(found)))

    def ids(self) -> Iterator[str]:
        """The ids of all that were accepted, in submit order."""
        for start in range(0, len(self._ids), 16):
            found = self._ids[start : start + 16]
            if any(found):
                yield str(uuid.UUID(bytes=bytes(found)))

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
        self.accepted += 1
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


class _Chunk:
    """Lines of one request, until it is known of each what became of it.

    Its key makes it safe to send a line again, so that it is whenever that may be of use.
    """

    def __init__(self, bulk: Bulk, lines: dict[int, bytes], block: bool, ours: bool) -> None:
        self._bulk = bulk
        self._block = block
        self._ours = ours  #: the keys are not the caller's
        self.lines = lines  #: to be sent, by index
        #: of which some try may have been accepted; those that will not be sent again are here only
        self.unsure: dict[int, bytes] = {}
        #: why a line was refused for good, the first such: the others are not wanted any more
        self.fault: ChimeraError | None = None
        #: why those are to be sent that are left
        self.again: ChimeraError = NotReady("the answer of the gateway was cut off")

    def lost(self, fault: ChimeraError) -> None:
        """Nobody says what became of the lines."""
        self.unsure.update(self.lines)
        self.again = fault

    def refused(self, fault: ChimeraError) -> None:
        """The request as a whole was refused."""
        for index in tuple(self.lines):
            self._refused(index, fault)
        self._end()

    def take(self, body: bytes) -> None:
        """What was answered, line by line."""
        places = tuple(self.lines)
        told_again: set[int] = set()
        fault: ChimeraError | None = None  # for which some lines were not read
        for text in body.splitlines():
            try:
                told = _decode(text)
            except msgspec.MsgspecError:
                break  # cut off within a line
            error = None if told.error is None else _error(told.error)
            if told.done is not None:
                fault = error
            elif 1 <= told.line <= len(places) and (index := places[told.line - 1]) in self.lines:
                if told.id is not None:
                    self._bulk.add(index, told.id, told.duplicate and not self._ours)
                    self._known(index)
                elif isinstance(error, OF_THE_TASK):
                    self._bulk.refuse(index, error)
                    self._known(index)
                else:
                    self._refused(index, error or ChimeraError("refused"))
                    told_again.add(index)
        for index in self.lines.keys() - told_again:
            self._refused(index, fault or OutcomeUnknown("the answer of the gateway was cut off"))
        self._end()

    def unknown(self) -> OutcomeUnknown:
        """What to say if some may have been accepted."""
        fault = self.fault or self.again
        keys = {at: _key_of(text) for at, text in sorted(self.unsure.items())}
        return OutcomeUnknown(
            f"{len(keys)} task(s) may or may not have been accepted: {fault.message}",
            idempotency_keys=keys,
        )

    def _known(self, index: int) -> None:
        del self.lines[index]
        self.unsure.pop(index, None)

    def _refused(self, index: int, fault: ChimeraError) -> None:
        if isinstance(fault, OutcomeUnknown):
            self.unsure[index] = self.lines[index]
        if may_pass(fault, self._block or index in self.unsure):
            self.again = fault
        else:
            self.fault = self.fault or fault
            del self.lines[index]

    def _end(self) -> None:
        if self.fault is not None:
            self.lines = {at: text for at, text in self.lines.items() if at in self.unsure}


def submit_many(
    api: Api, task: str, payloads: Iterable[Any], key: Keys | None,
    idempotency_key: IdempotencyKeys | None, block: bool, timeout_s: float, given: dict[str, Any],
) -> Steps[Bulk]:  # fmt: skip
    """Submit many tasks; all are durable when this returns, or refused for a fault of their own.

    Else the error's `details` count those `accepted` and have the `idempotency_keys` of those that
    may have been, by their place among the payloads; its attribute `bulk` has the accepted ones.
    """
    if isinstance(idempotency_key, str):
        raise InvalidRequest("one idempotency key for many tasks would make them one: give a list")
    bulk = Bulk()
    lines = _lines(task, payloads, key, idempotency_key, columns(given))
    headers = {**_NDJSON, **traced(given)}
    try:
        while taken := _take(lines):
            chunk = _Chunk(bulk, taken, block, idempotency_key is None)
            yield from _send(api, chunk, headers, block, timeout_s)
    except ChimeraError as fault:
        fault.details.setdefault("idempotency_keys", {})
        fault.details.update(accepted=bulk.accepted)
        vars(fault)["bulk"] = bulk
        raise
    return bulk


def _send(
    api: Api, chunk: _Chunk, headers: dict[str, str], block: bool, timeout_s: float
) -> Steps[None]:
    """Send lines until it is known of each what became of it, or the time is over."""
    until = time.monotonic() + timeout_s
    tries = 0
    while chunk.lines:
        left_s, before = max(until - time.monotonic(), 0.001), len(chunk.lines)
        body = b"\n".join(chunk.lines.values())
        call = Call("POST", "/v1/tasks:batch", {}, body, headers, timeout_s)
        try:
            answer = yield from api.once(call, left_s)
        except CutOff as error:
            chunk.lost(NotReady(str(error)))
        except ChimeraError as fault:
            if not api.was_there:
                raise
            chunk.refused(fault)
        else:
            chunk.take(answer.body)
        tries = tries + 1 if len(chunk.lines) == before else 0
        if block and isinstance(chunk.again, FULL):  # it says when to come again, and goes on
            until, tries = time.monotonic() + timeout_s, 0
        wait_s = pause_s(tries, chunk.again)
        if not chunk.lines or time.monotonic() + wait_s >= until:
            break
        yield wait_s
    if chunk.unsure:
        raise chunk.unknown()
    if chunk.fault is not None or chunk.lines:
        raise chunk.fault or chunk.again


def _error(told: dict[str, Any]) -> ChimeraError:
    status = told.get("status")
    return described(told, status if isinstance(status, int) else 500)


def _key_of(line: bytes) -> str:
    told: dict[str, Any] = msgspec.json.decode(line)
    return str(told["idempotency_key"])


def _take(lines: Iterator[tuple[int, bytes]]) -> dict[int, bytes]:
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
