"""A worker's board: which task it has in hand, in a mapped file that outlives its process (P7).

The worker stores a few bytes a task and never reads a clock for it; its leader looks for change.
Layout, in the machine's own byte order: dispatch (u64, 0: idle), ordinal (u32), heartbeats (u32).
"""

from __future__ import annotations

import mmap
import os
from typing import NamedTuple

BYTES = 64
#: ordinal: several tasks are in hand at once, or none just now
UNKNOWN = 0xFFFFFFFF
#: set in `dispatch` when it was numbered by a leader that is not the worker's own any more: no
#: number of the new leader's
FORMER = 1 << 63

# indices of the 32-bit words
ORDINAL = 2
HEARTBEATS = 3


class Board(NamedTuple):
    """What a board says."""

    dispatch: int  #: number of the dispatch in hand; 0: none
    ordinal: int | None  #: index of the task in hand within it; None: not just one
    heartbeats: int  #: changes when a handler says that it is alive; wraps around


class BoardWriter:
    """The worker's side. A path that cannot be written leaves it without readers, not broken."""

    def __init__(self, path: str) -> None:
        #: where it can be read; empty: nowhere
        self.path = path
        self._map = self._open()
        view = memoryview(self._map)
        #: to be stored to directly by the loop that runs tasks: see ORDINAL
        self.words = view.cast("I")
        self._dispatch = view.cast("Q")

    def _open(self) -> mmap.mmap:
        if self.path:
            try:
                os.makedirs(os.path.dirname(self.path) or ".", exist_ok=True)
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
                try:
                    os.ftruncate(descriptor, BYTES)
                    return mmap.mmap(descriptor, BYTES)
                finally:
                    os.close(descriptor)
            except OSError as error:
                import structlog  # brings much, and is rarely needed

                structlog.get_logger().warning("no_board", path=self.path, fault=str(error))
                self.path = ""
        return mmap.mmap(-1, BYTES)

    def begin(self, dispatch: int) -> None:
        """A dispatch is in hand, and none of its tasks yet."""
        self._dispatch[0] = 0  # a reader in between sees an idle worker, not a wrong task
        self.words[ORDINAL] = UNKNOWN
        self._dispatch[0] = dispatch

    def end(self) -> None:
        """Nothing is in hand."""
        self._dispatch[0] = 0

    def disown(self) -> None:
        """The dispatch in hand is not numbered by the worker's leader (any more)."""
        if self._dispatch[0]:
            self._dispatch[0] |= FORMER

    def at(self, ordinal: int) -> None:
        """The task at this index of the dispatch is in hand; UNKNOWN: several are."""
        self.words[ORDINAL] = ordinal

    def heartbeat(self) -> None:
        """The task in hand is alive."""
        words = self.words
        words[HEARTBEATS] = words[HEARTBEATS] + 1 & 0xFFFFFFFF


def read(path: str) -> Board | None:
    """What a board says; None if there is none."""
    try:
        with open(path, "rb") as file:
            raw = file.read(BYTES)
    except OSError:
        return None
    if len(raw) < BYTES:
        return None
    words = memoryview(raw).cast("I")
    dispatch = memoryview(raw).cast("Q")[0]
    ordinal = words[ORDINAL] if dispatch else UNKNOWN
    return Board(dispatch, None if ordinal == UNKNOWN else ordinal, words[HEARTBEATS])
