"""Task ids: arithmetic, made by the client before it sends anything.

An id is a UUIDv8 (RFC 9562, section 5.8) of 122 bits: producer session (64), shard (12),
counter (46). A frame of n tasks has the ids (session, shard, first .. first+n): no byte and no
index entry a task, and a frame that is sent again is recognised by its first id. An id is no
secret: authorise by tenant, never by knowing an id.
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

SESSION_BITS = 64
SHARD_BITS = 12
COUNTER_BITS = 46
SHARDS_MAX = 1 << SHARD_BITS


class TaskKey(NamedTuple):
    """What an id is made of."""

    session: int
    shard: int
    counter: int


def format_id(session: int, shard: int, counter: int) -> str:
    """The id's text, e.g. `0b1f…-8…`. Raises ValueError for a part out of range."""
    if session >> SESSION_BITS or shard >> SHARD_BITS or counter >> COUNTER_BITS:
        raise ValueError(f"id part out of range: {session=} {shard=} {counter=}")
    value = (session << SHARD_BITS | shard) << COUNTER_BITS | counter
    high = value >> 74 & 0xFFFFFFFFFFFF
    middle = value >> 62 & 0xFFF
    low = value & (1 << 62) - 1
    text = f"{high << 80 | 8 << 76 | middle << 64 | 2 << 62 | low:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def parse_id(text: str) -> TaskKey:
    """The parts of an id. Raises ValueError if `text` is no id of ours."""
    uuid = UUID(text)
    number = uuid.int
    if number >> 76 & 0xF != 8 or number >> 62 & 3 != 2:
        raise ValueError(f"{text!r} is not a task id (a UUID of version 8)")
    value = (number >> 80) << 74 | (number >> 64 & 0xFFF) << 62 | number & (1 << 62) - 1
    return TaskKey(
        value >> SHARD_BITS + COUNTER_BITS,
        value >> COUNTER_BITS & SHARDS_MAX - 1,
        value & (1 << COUNTER_BITS) - 1,
    )
