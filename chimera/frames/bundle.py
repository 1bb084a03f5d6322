"""Bundles: several frames in one blob, so that small ones share one Ray argument.

A dispatch carries command frames with where they stand; a reply carries outcome frames with the
worker's serial, by which the owner says later that they are recorded (P5).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from chimera.errors import CorruptFrame

#: bytes of a bundle, at most: what Ray carries inline as one argument or return value
BYTES_MAX = 97 * 1024

_DISPATCH = struct.Struct("<HHIQI")
_REPLY = struct.Struct("<QI")
#: what an outcome frame's serial and length take in a bundle
REPLY_BYTES = _REPLY.size


class Dispatch(NamedTuple):
    """One command frame on its way to a worker."""

    shard: int
    attempt: int  #: which attempt this is, from 1
    epoch: int  #: epoch of the shard when it was sent
    position: int  #: the first task's position in its shard
    frame: bytes


class Reply(NamedTuple):
    """One outcome frame on its way back."""

    serial: int  #: the worker's number for it; never used twice by one worker
    frame: bytes


def pack_dispatches(items: Iterable[Dispatch]) -> bytes:
    parts: list[bytes] = []
    for shard, attempt, epoch, position, frame in items:
        parts.append(_DISPATCH.pack(shard, attempt, epoch, position, len(frame)))
        parts.append(frame)
    return b"".join(parts)


def dispatches(bundle: bytes) -> Iterator[Dispatch]:
    """The frames of a dispatch. Raises CorruptFrame if the bundle is cut short."""
    at = 0
    while at < len(bundle):
        try:
            shard, attempt, epoch, position, length = _DISPATCH.unpack_from(bundle, at)
        except struct.error:
            raise CorruptFrame("a dispatch bundle is cut short") from None
        at += _DISPATCH.size
        if at + length > len(bundle):
            raise CorruptFrame("a dispatch bundle is cut short")
        yield Dispatch(shard, attempt, epoch, position, bundle[at : at + length])
        at += length


def pack_replies(items: Iterable[Reply]) -> bytes:
    parts: list[bytes] = []
    for serial, frame in items:
        parts.append(_REPLY.pack(serial, len(frame)))
        parts.append(frame)
    return b"".join(parts)


def replies(bundle: bytes) -> Iterator[Reply]:
    """The frames of a reply. Raises CorruptFrame if the bundle is cut short."""
    at = 0
    while at < len(bundle):
        try:
            serial, length = _REPLY.unpack_from(bundle, at)
        except struct.error:
            raise CorruptFrame("a reply bundle is cut short") from None
        at += _REPLY.size
        if at + length > len(bundle):
            raise CorruptFrame("a reply bundle is cut short")
        yield Reply(serial, bundle[at : at + length])
        at += length
