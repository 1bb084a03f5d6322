"""Outcome frames: what became of a range of tasks, one state byte and one body a task.

Layout, little-endian: a header of 40 bytes; a state byte a task; `columns` (msgpack, rare);
cumulative ends (`uint32` a task, from `base`); the bodies, end to end. A body is the result's JSON
text, or an error's (`Failure`). The worker makes the frame and the leader hands its bytes on: it
reads the header and, only if `bad` is not zero, the states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from chimera.errors import CorruptFrame
from chimera.frames.layout import Bodies, Layout, check_range, pack_ends

MAGIC = b"OF"
VERSION = 1

# states of a task in a frame
OPEN = 0  #: no outcome here: not run, or to be tried again
SUCCEEDED = 1
FAILED = 2
CANCELLED = 3
EXPIRED = 4
#: the attempt failed; whether the task is tried again is the leader's decision. Never stored.
ATTEMPT_FAILED = 5
NAMES = {SUCCEEDED: "succeeded", FAILED: "failed", CANCELLED: "cancelled", EXPIRED: "expired"}

#: the frame has columns
COLUMNS = 1

_LAYOUT = Layout("an outcome frame", MAGIC, VERSION, "BHHHHIQIII")
HEADER_BYTES = _LAYOUT.header_bytes


class Header(NamedTuple):
    """The fixed part, read without decoding the rest."""

    flags: int
    shard: int
    count: int  # type: ignore[assignment]  #: tasks in the frame (hides tuple.count)
    bad: int  #: tasks whose state is not SUCCEEDED
    attempt: int  #: which attempt of these tasks this was, from 1
    epoch: int  #: epoch of the dispatch: provenance, not what is checked (P5)
    position: int  #: the first task's position in its shard
    duration_us: int  #: time in the handler, all tasks together
    base: int
    columns_bytes: int


class Columns(msgspec.Struct, frozen=True, omit_defaults=True):
    """What only some tasks have."""

    #: indices of the tasks whose body is a claim check
    claims: list[int] | None = None
    #: snapshots of per-key state that these tasks leave behind: index → snapshot
    snapshots: dict[int, bytes] | None = None


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of a task that did not succeed."""

    #: qualified name of the exception, e.g. `builtins.ValueError`
    error: str
    message: str = ""
    traceback: str = ""
    #: the handler's word on whether another attempt can help
    retryable: bool = True
    #: seconds to wait before it, if the handler said so
    retry_after: float | None = None


_NO_COLUMNS = Columns()
_encode = msgspec.msgpack.Encoder().encode
_decode_columns = msgspec.msgpack.Decoder(Columns).decode
encode_failure = msgspec.json.Encoder().encode
decode_failure = msgspec.json.Decoder(Failure).decode


def pack(
    shard: int,
    epoch: int,
    position: int,
    states: bytes | bytearray,
    bodies: Sequence[bytes],
    *,
    attempt: int = 1,
    duration_us: int = 0,
    columns: Columns | None = None,
) -> bytes:
    """Make a frame for the tasks at `position …`, one state and one body each."""
    count = len(states)
    if not count or len(bodies) != count:
        raise ValueError(f"{count} states and {len(bodies)} bodies")
    column_bytes = b"" if columns is None else _encode(columns)
    fixed = (
        COLUMNS if column_bytes else 0, shard, count, count - states.count(SUCCEEDED), attempt,
        epoch, position, min(duration_us, 0xFFFFFFFF), 0, len(column_bytes),
    )  # fmt: skip
    return _LAYOUT.seal(fixed, bytes(states), column_bytes, pack_ends(bodies), b"".join(bodies))


def header(frame: bytes) -> Header:
    """The header alone. Raises CorruptFrame if this is no frame of a version we know."""
    return Header(*_LAYOUT.fixed(frame))


def verify(frame: bytes) -> Header:
    """Header of a frame whose checksum is right. Raises CorruptFrame."""
    found = header(frame)
    if not _LAYOUT.is_whole(frame):
        raise CorruptFrame(
            f"checksum of outcome frame {found.shard}/{found.position}+{found.count} is wrong"
        )
    return found


def states(frame: bytes, of: Header | None = None) -> bytes:
    """One state byte a task."""
    of = of or header(frame)
    return frame[HEADER_BYTES : HEADER_BYTES + of.count]


def columns(frame: bytes, of: Header | None = None) -> Columns:
    """What only some tasks have."""
    of = of or header(frame)
    if not of.columns_bytes:
        return _NO_COLUMNS
    start = HEADER_BYTES + of.count
    try:
        return _decode_columns(memoryview(frame)[start : start + of.columns_bytes])
    except msgspec.MsgspecError as error:
        raise CorruptFrame(f"columns of an outcome frame: {error}") from error


def _bodies(frame: bytes, of: Header) -> Bodies:
    return Bodies(frame, HEADER_BYTES + of.count + of.columns_bytes, of.count, of.base)


def bodies(frame: bytes, of: Header | None = None) -> list[bytes]:
    """Each task's body."""
    return _bodies(frame, of or header(frame)).all()


def body(frame: bytes, index: int) -> tuple[int, bytes]:
    """State and body of one task, without decoding the others."""
    of = header(frame)
    return frame[HEADER_BYTES + index], _bodies(frame, of).one(index)


def cut(frame: bytes, start: int, stop: int) -> bytes:
    """The frame of the tasks [start, stop), without decoding a body."""
    of = header(frame)
    check_range(start, stop, of.count)
    if start == 0 and stop == of.count:
        return frame
    count = stop - start
    base, ends, blob = _bodies(frame, of).cut(start, stop)
    part = frame[HEADER_BYTES + start : HEADER_BYTES + stop]
    column_bytes = _cut_columns(columns(frame, of), start, stop) if of.columns_bytes else b""
    fixed = (
        COLUMNS if column_bytes else 0, of.shard, count, count - part.count(SUCCEEDED), of.attempt,
        of.epoch, of.position + start, of.duration_us * count // of.count, base, len(column_bytes),
    )  # fmt: skip
    return _LAYOUT.seal(fixed, part, column_bytes, ends, blob)


def _cut_columns(of: Columns, start: int, stop: int) -> bytes:
    claims = [i - start for i in of.claims or () if start <= i < stop]
    snapshots = {i - start: s for i, s in (of.snapshots or {}).items() if start <= i < stop}
    if not claims and not snapshots:
        return b""
    return _encode(Columns(claims=claims or None, snapshots=snapshots or None))


def restate(frame: bytes, changes: Mapping[int, int]) -> bytes:
    """The same frame with other states at some indices: what settling masks (P8)."""
    of = header(frame)
    changed = bytearray(states(frame, of))
    for index, state in changes.items():
        changed[index] = state
    fixed = of._replace(bad=of.count - changed.count(SUCCEEDED))
    return _LAYOUT.seal(tuple(fixed), bytes(changed), memoryview(frame)[HEADER_BYTES + of.count :])
