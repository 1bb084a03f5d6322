"""Disk space held back, so that settling and sweeping go on when the disk is full (P10)."""

from __future__ import annotations

import contextlib
import os


class Ballast:
    """A file that is given back when the disk is full, and made again when there is room.

    New tasks are accepted only while it is there (or while none is wanted).
    """

    def __init__(self, path: str, size: int) -> None:
        self._path = path
        self._size = size
        self.released = size > 0 and not self._held()

    def _held(self) -> bool:
        try:
            return os.stat(self._path).st_size >= self._size
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Give the space back."""
        if self._size:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
            self.released = True

    def restore(self) -> bool:
        """Hold it again if twice as much is free; whether tasks may be accepted."""
        if not self.released:
            return True
        free = os.statvfs(os.path.dirname(self._path) or ".")
        if free.f_bavail * free.f_frsize < 2 * self._size:
            return False
        fresh = self._path + ".new"
        try:
            fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                os.posix_fallocate(fd, 0, self._size)
            finally:
                os.close(fd)
            os.replace(fresh, self._path)
        except OSError:  # a quota that statvfs does not show
            with contextlib.suppress(OSError):
                os.unlink(fresh)
            return False
        self.released = False
        return True
