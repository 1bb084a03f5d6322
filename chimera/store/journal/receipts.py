"""What a journal keeps of an appended frame besides the frame: sessions, skipped, parked."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from chimera.errors import from_wire
from chimera.frames import ids
from chimera.store.protocol import Skipped

_WRAP = 1 << ids.SESSION_BITS


def signed(session: int) -> int:
    """A session as SQLite keeps it: integers there have 63 bits and a sign."""
    return session - _WRAP if session >= _WRAP >> 1 else session


def unsigned(session: int) -> int:
    """The session again."""
    return session % _WRAP


def pack(skipped: Sequence[Skipped], parked: Sequence[int]) -> bytes | None:
    """What a duplicate's receipt must repeat; None if nothing was skipped or parked."""
    if not skipped and not parked:
        return None
    lines = [
        (skip.index, skip.task_id, None if skip.error is None else skip.error.to_wire())
        for skip in skipped
    ]
    return msgspec.msgpack.encode((lines, parked))


def unpack(blob: bytes | None) -> tuple[tuple[Skipped, ...], tuple[int, ...]]:
    """Skipped and parked, as `pack` kept them."""
    if blob is None:
        return (), ()
    lines, parked = msgspec.msgpack.decode(blob)
    skipped = (
        Skipped(index, task_id, None if wire is None else from_wire(wire))
        for index, task_id, wire in lines
    )
    return tuple(skipped), tuple(parked)


def skips(skipped: Sequence[Skipped], count: int) -> bytes | None:
    """A byte a task, not zero where it was skipped; None if none was."""
    if not skipped:
        return None
    found = bytearray(count)
    for skip in skipped:
        found[skip.index] = 1
    return bytes(found)
