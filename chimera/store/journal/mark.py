"""The side file of a journal: what was acknowledged last, so that a lost tail is noticed (P4).

SQLite drops all commits after one bad byte in the WAL without a word. The mark is not synced: it
survives the process, and after a power loss it can only be too low, which costs notice, not truth.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import NamedTuple
from zlib import crc32

_RECORD = struct.Struct("<4sQII")
_MAGIC = b"CJM1"


class Mark(NamedTuple):
    """A commit: its number, and the checksum over all commits up to it."""

    commits: int
    chain: int


class MarkFile:
    """The mark on disk. Raises OSError where the disk does."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def read(self) -> Mark | None:
        """The last mark; None if there is none that can be read."""
        data = os.pread(self._fd, _RECORD.size, 0)
        if len(data) < _RECORD.size:
            return None
        magic, commits, chain, check = _RECORD.unpack(data)
        if magic != _MAGIC or crc32(data[:-4]) != check:
            return None
        return Mark(commits, chain)

    def write(self, mark: Mark) -> None:
        bare = _RECORD.pack(_MAGIC, *mark, 0)[:-4]
        try:
            os.pwrite(self._fd, bare + struct.pack("<I", crc32(bare)), 0)
        except OSError as error:
            # a copy-on-write file system may have no room for it: a mark too low does no harm
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
