"""What both kinds of frame share: a checksummed header, and bodies found by cumulative ends.

The last four bytes of the header are the CRC-32 of all other bytes of the frame. A task's body ends
at `end - base` in the blob: cutting keeps the ends as they are and moves only the base, so that any
sub-range is cut by slicing, without a loop.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable
from typing import Any
from zlib import crc32

from chimera.errors import CorruptFrame

_CRC = struct.Struct("<I")


class Layout:
    """The header of one kind of frame: magic, version, the fields of `fixed`, checksum."""

    __slots__ = ("_bare", "_crc_at", "_full", "header_bytes", "magic", "noun", "version")

    def __init__(self, noun: str, magic: bytes, version: int, fixed: str) -> None:
        """`noun` is what errors call it; `fixed` is in the notation of `struct`, without order."""
        self.noun = noun
        self.magic = magic
        self.version = version
        self._bare = struct.Struct("<2sB" + fixed)
        self._full = struct.Struct("<2sB" + fixed + "I")
        self._crc_at = self._bare.size
        #: bytes of the header, its checksum included
        self.header_bytes = self._full.size

    def seal(self, fixed: tuple[Any, ...], *parts: bytes | memoryview) -> bytes:
        """A frame: the header with its checksum, then the parts."""
        bare = self._bare.pack(self.magic, self.version, *fixed)
        body = b"".join(parts)
        return b"".join((bare, _CRC.pack(crc32(body, crc32(bare))), body))

    def fixed(self, frame: bytes) -> tuple[Any, ...]:
        """The header's fields. Raises CorruptFrame if this is no frame of a version we know."""
        if len(frame) < self.header_bytes:
            raise CorruptFrame(
                f"{self.noun} has at least {self.header_bytes} bytes, not {len(frame)}"
            )
        unpacked = self._bare.unpack_from(frame)
        if unpacked[0] != self.magic or unpacked[1] != self.version:
            raise CorruptFrame(
                f"not {self.noun} of version {self.version}: {unpacked[0]!r} {unpacked[1]}"
            )
        return unpacked[2:]

    def is_whole(self, frame: bytes) -> bool:
        """Whether the checksum is right, of a frame whose header could be read."""
        view = memoryview(frame)
        found = crc32(view[self.header_bytes :], crc32(view[: self._crc_at]))
        return _CRC.pack(found) == view[self._crc_at : self.header_bytes]


def _little(ends: array[int]) -> array[int]:
    if sys.byteorder == "big":
        ends.byteswap()
    return ends


def pack_ends(bodies: Iterable[bytes]) -> bytes:
    """Where each body ends, counted from the first one's start."""
    ends = array("I")
    end = 0
    for body in bodies:
        end += len(body)
        ends.append(end)
    return _little(ends).tobytes()


class Bodies:
    """The bodies of a frame, addressed without decoding or copying those not asked for."""

    __slots__ = ("_base", "_blob", "_ends", "_ends_at", "_frame")

    def __init__(self, frame: bytes, ends_at: int, count: int, base: int) -> None:
        """Of a frame whose `count` ends start at byte `ends_at` and count from `base`."""
        self._frame = frame
        self._ends_at = ends_at
        self._blob = ends_at + 4 * count
        self._base = base
        ends: array[int] = array("I")
        ends.frombytes(memoryview(frame)[ends_at : self._blob])
        self._ends = _little(ends)

    def all(self) -> list[bytes]:
        frame = self._frame
        shift = self._blob - self._base
        out = []
        start = self._blob
        for end in self._ends:
            end += shift
            out.append(frame[start:end])
            start = end
        return out

    def one(self, index: int) -> bytes:
        shift = self._blob - self._base
        start = self._ends[index - 1] + shift if index else self._blob
        return self._frame[start : self._ends[index] + shift]

    def cut(self, start: int, stop: int) -> tuple[int, memoryview, memoryview]:
        """Base, ends and bytes of the bodies [start, stop), for a new frame."""
        view = memoryview(self._frame)
        base = self._ends[start - 1] if start else self._base
        shift = self._blob - self._base
        return (
            base,
            view[self._ends_at + 4 * start : self._ends_at + 4 * stop],
            view[base + shift : self._ends[stop - 1] + shift],
        )


def check_range(start: int, stop: int, count: int) -> None:
    """Raise ValueError unless [start, stop) is a range of `count` tasks that is not empty."""
    if not 0 <= start < stop <= count:
        raise ValueError(f"cannot cut [{start}, {stop}) of {count} tasks")
