"""Payloads on their way into frames: JSON once, claim checks for large ones, cut to size."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import accumulate
from operator import add
from typing import Any

import msgspec

from chimera.client.options import Options
from chimera.client.parcels import FRAME_BYTES, TASK_BYTES, column_bytes, texts_bytes
from chimera.errors import InvalidPayload, PayloadTooLarge
from chimera.frames import command

_encode = msgspec.json.Encoder().encode
_FAULTS = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)
#: nesting that is looked into for the value that is no JSON
_DEPTH_MAX = 100


def encode_payload(payload: Any, index: int | None = None) -> bytes:
    """A payload as JSON. Raises InvalidPayload, which names what is none, and in which payload."""
    try:
        return _encode(payload)
    except _FAULTS as error:
        where = "payload" if index is None else f"payload {index}"
        path, value = _culprit(payload, "$", 0)
        raise InvalidPayload(
            f"{where} is no JSON at {path}: {type(value).__name__} ({error})", path=path
        ) from error


def encode_payloads(payloads: list[Any], first: int) -> list[bytes]:
    """Payloads as JSON; `first` is the index of the first one, for errors."""
    encode = _encode
    try:
        return [encode(payload) for payload in payloads]
    except _FAULTS:
        return [encode_payload(payload, first + i) for i, payload in enumerate(payloads)]


def _culprit(value: Any, path: str, depth: int) -> tuple[str, Any]:
    """Path and value of the innermost part that cannot be encoded."""
    parts: Iterable[tuple[str, Any]] = ()
    if isinstance(value, dict):
        for key in value:
            try:
                _encode({key: None})
            except _FAULTS:
                return f"{path}[{key!r}]", key
        parts = ((f"{path}.{key}", part) for key, part in value.items())
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = ((f"{path}[{i}]", part) for i, part in enumerate(value))
    if depth < _DEPTH_MAX:
        for inner, part in parts:
            try:
                _encode(part)
            except _FAULTS:
                return _culprit(part, inner, depth + 1)
    return path, value


@dataclass(frozen=True, slots=True)
class Inline:
    """Keeps payloads within what a frame carries: larger ones become claim checks."""

    put: Callable[[bytes], bytes]  #: stores bytes, returns the claim check
    bytes_max: int

    def one(self, body: bytes, index: int | None = None) -> tuple[bytes, bool]:
        """What to send, and whether it is a claim check. Raises PayloadTooLarge."""
        if len(body) <= command.INLINE_MAX:
            return body, False
        if len(body) > self.bytes_max:
            where = "the payload" if index is None else f"payload {index}"
            raise PayloadTooLarge(
                f"{where} has {len(body)} bytes, {self.bytes_max} are allowed",
                bytes=len(body),
                bytes_max=self.bytes_max,
            )
        return self.put(body), True

    def many(self, bodies: list[bytes], first: int) -> list[int]:
        """Replace large bodies in place; returns their indices."""
        if sum(map(len, bodies)) <= command.INLINE_MAX:
            return []
        large = [i for i, body in enumerate(bodies) if len(body) > command.INLINE_MAX]
        for i in large:
            bodies[i], _ = self.one(bodies[i], first + i)
        return large


@dataclass(frozen=True, slots=True)
class Cut:
    """Tasks that fit a frame."""

    bodies: list[bytes]
    columns: command.Columns | None
    indices: array[int]  #: which of the caller's tasks they are; empty where that is plain


@dataclass(slots=True)
class Cutter:
    """Collects encoded tasks of one destination and cuts them into what fits a frame."""

    options: Options
    head_bytes: int
    count_max: int = command.COUNT_MAX  #: tasks of a frame, at most
    bodies: list[bytes] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    idempotency: list[str] = field(default_factory=list)
    claims: list[int] = field(default_factory=list)  #: indices into `bodies`
    indices: array[int] = field(default_factory=lambda: array("I"))

    def cut(self, all_of_it: bool) -> list[Cut]:
        """Full frames' worth of tasks; with `all_of_it` the rest too."""
        room = command.BYTES_MAX - FRAME_BYTES - self.head_bytes
        same = self.options.columns(1)
        each = TASK_BYTES + (0 if same is None else column_bytes(same))
        ends = list(accumulate(self._sizes()))
        found = []
        start = 0
        while start < len(ends):
            base = ends[start - 1] if start else 0
            stop = min(start + self.count_max, len(ends))
            fits = ends[stop - 1] - base + each * (stop - start) <= room
            if fits and not all_of_it and stop - start < self.count_max:
                break
            if not fits:

                def size(stop: int, start: int = start, base: int = base) -> int:
                    return ends[stop - 1] - base + each * (stop - start)

                stop = start + max(1, bisect_right(range(start + 1, stop), room, key=size))
            found.append(self._part(start, stop))
            start = stop
        self._forget(start)
        return found

    def _sizes(self) -> Iterable[int]:
        """Bytes a task that differ from task to task, at most."""
        if not self.keys and not self.idempotency:
            return map(len, self.bodies)
        sizes: Iterable[int] = map(len, self.bodies)
        for texts in (self.keys, self.idempotency):
            if texts:
                sizes = map(add, sizes, texts_bytes(texts))
        return sizes

    def _part(self, start: int, stop: int) -> Cut:
        columns = self.options.columns(
            stop - start,
            self.keys[start:stop],
            self.idempotency[start:stop],
            [i - start for i in self.claims if start <= i < stop],
        )
        return Cut(self.bodies[start:stop], columns, self.indices[start:stop])

    def _forget(self, count: int) -> None:
        del self.bodies[:count], self.keys[:count], self.idempotency[:count], self.indices[:count]
        self.claims = [i - count for i in self.claims if i >= count]
