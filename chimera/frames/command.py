"""Command frames: up to a thousand tasks of one type, tenant and priority in one blob.

Layout, little-endian: a header of 40 bytes; `head` (msgpack: what the tasks share); `columns`
(msgpack, only when a task deviates: keys, delays, …); cumulative ends (`uint32` a task); the
payloads, end to end. Ends are cumulative from `base`, so that any sub-range is cut by slicing,
without a loop. The checksum is CRC-32 of all other bytes. A task's payload is JSON text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from chimera.errors import CorruptFrame
from chimera.frames.layout import Bodies, Layout, check_range, pack_ends

MAGIC = b"CF"
VERSION = 1
#: tasks in a frame, at most
COUNT_MAX = 1000
#: bytes of a frame, at most: Ray carries an argument below 100 KiB inline (actor calls are 4 x
#: dearer above it)
BYTES_MAX = 95 * 1024
#: bytes of one payload or result, at most; larger ones travel as a claim check
INLINE_MAX = 64 * 1024

# which optional columns a frame has
KEYS = 1
IDEMPOTENCY = 2
NOT_BEFORE = 4
DEADLINE = 8
TAGS = 16
CLAIMS = 32
#: no column, and in no frame's flags: a journal notes so that the head has options
OPTIONS = 64
#: columns that need a look at each task before it can be dispatched
SLOW = KEYS | NOT_BEFORE | DEADLINE

_LAYOUT = Layout("a command frame", MAGIC, VERSION, "BHHIIQQI")
HEADER_BYTES = _LAYOUT.header_bytes


class Header(NamedTuple):
    """The fixed part, read without decoding the rest."""

    flags: int  #: which columns follow
    shard: int
    count: int  # type: ignore[assignment]  #: tasks in the frame (hides tuple.count)
    head_bytes: int
    columns_bytes: int
    session: int  #: the producer's 64 random bits
    first: int  #: counter of the first task
    base: int  #: what the payload ends are counted from


class Head(msgspec.Struct, frozen=True, omit_defaults=True):
    """What all tasks of a frame share."""

    type: str
    tenant: str = "default"
    #: priority class: 0 critical, 1 normal, 2 batch
    priority: int = 1
    #: when the client made it, Unix milliseconds
    at: int = 0
    traceparent: str | None = None
    #: overrides of the type's policy, by field name of `TaskPolicy`
    options: dict[str, Any] | None = None
    #: id of the dead letter that this task replays
    replay_of: str | None = None
    #: CloudEvents source of whoever asked for them, if they came as events
    source: str | None = None


class Columns(msgspec.Struct, frozen=True, omit_defaults=True):
    """What differs from task to task; a column that is absent is None."""

    keys: list[str | None] | None = None
    idempotency: list[str | None] | None = None
    #: earliest start, Unix milliseconds; 0 for at once
    not_before: list[int] | None = None
    #: latest start, Unix milliseconds; 0 for none
    deadline: list[int] | None = None
    tags: list[list[str]] | None = None
    #: indices of the tasks whose payload is a claim check (see chimera.store.blobs)
    claims: list[int] | None = None
    #: CloudEvents ids of the commands, if they came as events: nothing depends on them
    events: list[str] | None = None


_NO_COLUMNS = Columns()
_encode = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(Head).decode
_decode_columns = msgspec.msgpack.Decoder(Columns).decode


def _flags(columns: Columns) -> int:
    return (
        (KEYS if columns.keys is not None else 0)
        | (IDEMPOTENCY if columns.idempotency is not None else 0)
        | (NOT_BEFORE if columns.not_before is not None else 0)
        | (DEADLINE if columns.deadline is not None else 0)
        | (TAGS if columns.tags is not None else 0)
        | (CLAIMS if columns.claims is not None else 0)
    )


def encode_head(head: Head) -> bytes:
    """The head's bytes, to be given to `pack` many times."""
    return _encode(head)


def pack(
    session: int,
    shard: int,
    first: int,
    head: Head | bytes,
    payloads: Sequence[bytes],
    columns: Columns | None = None,
) -> bytes:
    """Make a frame of the tasks `(session, shard, first …)`. Raises ValueError past the limits."""
    count = len(payloads)
    if not 0 < count <= COUNT_MAX:
        raise ValueError(f"a frame has 1 to {COUNT_MAX} tasks, not {count}")
    head_bytes = head if isinstance(head, bytes) else _encode(head)
    column_bytes = b"" if columns is None else _encode(columns)
    flags = 0 if columns is None else _flags(columns)
    fixed = (flags, shard, count, len(head_bytes), len(column_bytes), session, first, 0)
    return _LAYOUT.seal(fixed, head_bytes, column_bytes, pack_ends(payloads), b"".join(payloads))


def header(frame: bytes) -> Header:
    """The header alone. Raises CorruptFrame if this is no frame of a version we know."""
    return Header(*_LAYOUT.fixed(frame))


def verify(frame: bytes) -> Header:
    """Header of a frame whose checksum is right. Raises CorruptFrame."""
    found = header(frame)
    if not _LAYOUT.is_whole(frame):
        raise CorruptFrame(
            f"checksum of command frame {found.session:016x}/{found.shard}/{found.first} is wrong"
        )
    return found


def head(frame: bytes, of: Header | None = None) -> Head:
    """What the tasks share."""
    of = of or header(frame)
    try:
        return _decode_head(memoryview(frame)[HEADER_BYTES : HEADER_BYTES + of.head_bytes])
    except msgspec.MsgspecError as error:
        raise CorruptFrame(f"head of a command frame: {error}") from error


def columns(frame: bytes, of: Header | None = None) -> Columns:
    """What differs from task to task."""
    of = of or header(frame)
    if not of.columns_bytes:
        return _NO_COLUMNS
    start = HEADER_BYTES + of.head_bytes
    try:
        return _decode_columns(memoryview(frame)[start : start + of.columns_bytes])
    except msgspec.MsgspecError as error:
        raise CorruptFrame(f"columns of a command frame: {error}") from error


def _bodies(frame: bytes, of: Header) -> Bodies:
    return Bodies(frame, HEADER_BYTES + of.head_bytes + of.columns_bytes, of.count, of.base)


def payloads(frame: bytes, of: Header | None = None) -> list[bytes]:
    """Each task's payload."""
    return _bodies(frame, of or header(frame)).all()


def cut(frame: bytes, start: int, stop: int) -> bytes:
    """The frame of the tasks [start, stop), without decoding a payload."""
    of = header(frame)
    check_range(start, stop, of.count)
    if start == 0 and stop == of.count:
        return frame
    base, ends, blob = _bodies(frame, of).cut(start, stop)
    column_bytes = b""
    flags = 0
    if of.columns_bytes:
        kept = _cut_columns(columns(frame, of), start, stop)
        column_bytes, flags = _encode(kept), _flags(kept)
    fixed = (
        flags, of.shard, stop - start, of.head_bytes, len(column_bytes),
        of.session, of.first + start, base,
    )  # fmt: skip
    head_bytes = memoryview(frame)[HEADER_BYTES : HEADER_BYTES + of.head_bytes]
    return _LAYOUT.seal(fixed, head_bytes, column_bytes, ends, blob)


def _cut_columns(of: Columns, start: int, stop: int) -> Columns:
    def part(column: list[Any] | None) -> list[Any] | None:
        return None if column is None else column[start:stop]

    claims = [i - start for i in of.claims or () if start <= i < stop]
    return Columns(
        keys=part(of.keys),
        idempotency=part(of.idempotency),
        not_before=part(of.not_before),
        deadline=part(of.deadline),
        tags=part(of.tags),
        claims=claims or None,
        events=part(of.events),
    )
