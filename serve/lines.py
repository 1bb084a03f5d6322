"""Lines of a bulk: parsed many at a time, each fault told with its number."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from chimera.errors import ChimeraError, InvalidPayload, InvalidRequest, PayloadTooLarge


class Line(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A task of a bulk: a line of NDJSON."""

    type: str
    payload: msgspec.Raw = msgspec.Raw(b"null")
    key: str | None = None
    idempotency_key: str | None = None
    delay_s: float | None = None
    not_before: str | float | None = None
    deadline: str | float | None = None
    priority: Literal["critical", "normal", "batch"] | None = None
    tags: list[str] | None = None
    max_attempts: int | None = None
    attempt_timeout_s: float | None = None


#: options that tasks of one frame share
SHARED = ("delay_s", "not_before", "deadline", "priority", "tags", "max_attempts",
          "attempt_timeout_s")  # fmt: skip
_decoder = msgspec.json.Decoder(Line)
_readable = msgspec.json.Decoder()


@dataclass(slots=True)
class Group:
    """Lines that can be submitted together."""

    type: str
    options: dict[str, Any]
    numbers: list[int] = field(default_factory=list)
    payloads: list[msgspec.Raw] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    idempotency: list[str] = field(default_factory=list)

    def drop(self, places: Collection[int]) -> None:
        """Take lines out, by their place in the group."""
        columns: tuple[list[Any], ...] = (
            self.numbers, self.payloads, self.keys, self.idempotency,
        )  # fmt: skip
        for column in columns:
            column[:] = [one for at, one in enumerate(column) if at not in places]


@dataclass(frozen=True, slots=True)
class Bad:
    """A line that is no task."""

    number: int
    error: ChimeraError


class Splitter:
    """Cuts what arrives into whole lines."""

    def __init__(self, line_bytes: int) -> None:
        self._limit = line_bytes
        self._rest = bytearray()

    def feed(self, data: bytes) -> bytes:
        """The whole lines there are now. Raises PayloadTooLarge for one that is too long."""
        end = data.rfind(b"\n") + 1
        if not end:
            self._rest += data
            if len(self._rest) > self._limit:
                raise PayloadTooLarge(f"a line is over {self._limit} bytes")
            return b""
        whole = bytes(self._rest) + data[:end]
        self._rest = bytearray(data[end:])
        return whole

    def rest(self) -> bytes:
        """What came after the last line's end."""
        return bytes(self._rest)


def parse(text: bytes, number: int) -> tuple[list[tuple[int, Line]], list[Bad], int]:
    """Lines with their numbers, the first of which is `number`; bad ones; and how many there were.

    Blank lines count and say nothing.
    """
    try:
        # payloads are carried as they are: whoever gets them must be able to read them
        text.decode()
        _readable.decode_lines(text)
        found = _decoder.decode_lines(text)
        count = text.count(b"\n") + (not text.endswith(b"\n"))
        if len(found) == count:
            return list(enumerate(found, number)), [], count
    except (UnicodeDecodeError, msgspec.MsgspecError, RecursionError):
        pass
    return _one_by_one(text, number)


def _one_by_one(text: bytes, number: int) -> tuple[list[tuple[int, Line]], list[Bad], int]:
    good: list[tuple[int, Line]] = []
    bad: list[Bad] = []
    lines = text.split(b"\n")
    if not lines[-1]:
        lines.pop()
    for at, line in enumerate(lines, number):
        if not line.strip():
            continue
        try:
            line.decode()
            good.append((at, _read(line)))
        except InvalidPayload as fault:
            bad.append(Bad(at, fault))
        except UnicodeDecodeError as fault:
            bad.append(Bad(at, InvalidRequest(f"the line is not UTF-8: {fault.reason}")))
        except msgspec.ValidationError as fault:
            bad.append(Bad(at, _invalid(str(fault))))
        except msgspec.DecodeError as fault:
            bad.append(Bad(at, InvalidRequest(f"the line is no JSON: {fault}")))
        except RecursionError:
            bad.append(Bad(at, InvalidRequest("the line is nested too deeply")))
    return good, bad, len(lines)


def _read(line: bytes) -> Line:
    found = _decoder.decode(line)
    try:
        _readable.decode(found.payload)
    except msgspec.DecodeError as fault:
        errors = [{"in": "body", "pointer": "/payload", "detail": str(fault)}]
        raise InvalidPayload(f"the payload cannot be read: {fault}", errors=errors) from fault
    return found


def _invalid(text: str) -> InvalidRequest:
    """msgspec says where by `$.a[0]`; the edge by a JSON pointer."""
    message, _, path = text.partition(" - at `")
    path = path.rstrip("`").removeprefix("$").replace("[", ".").replace("]", "")
    pointer = "/".join(path.split("."))
    return InvalidRequest(text, errors=[{"in": "body", "pointer": pointer, "detail": message}])


def groups(lines: Sequence[tuple[int, Line]]) -> Iterator[Group]:
    """Lines as groups of the same type and options.

    Lines without a key are gathered over all of them; one with a key goes after every earlier
    line, so that its order among those with keys is kept.
    """
    loose: dict[Any, Group] = {}
    keyed: Group | None = None
    latest: Any = None
    for number, line in lines:
        kind = _kind(line)
        if line.key is None:
            group = loose.get(kind)
            if group is None:
                group = loose[kind] = Group(line.type, _options(line))
        else:
            if keyed is None or kind != latest:
                if keyed is not None:
                    yield keyed
                keyed, latest = Group(line.type, _options(line)), kind
            group = keyed
            group.keys.append(line.key)
        group.numbers.append(number)
        group.payloads.append(line.payload)
        if line.idempotency_key is not None:
            group.idempotency.append(line.idempotency_key)
    if keyed is not None:
        yield keyed
    yield from loose.values()


def _kind(line: Line) -> Any:
    return (
        line.type, line.idempotency_key is None, line.delay_s, line.not_before, line.deadline,
        line.priority, tuple(line.tags) if line.tags else None, line.max_attempts,
        line.attempt_timeout_s,
    )  # fmt: skip


def _options(line: Line) -> dict[str, Any]:
    return {name: value for name in SHARED if (value := getattr(line, name)) is not None}
