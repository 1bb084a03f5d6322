"""Results on their way into submit order: they come in any, and leave from the front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_PENDING = object()
#: at an index that no task has, as far as is known: of a bulk of which only a part was accepted
_GAP = object()


class Lineup:
    """A buffer from the first result that was not taken to the last one that is waited for."""

    def __init__(self) -> None:
        self.start = 0  #: index of the first task that was not taken
        self._values: list[Any] = []  #: of `start` and those behind it
        self._gaps = 0

    def __bool__(self) -> bool:
        """Whether anything is waited for, or was not taken."""
        return bool(self._values)

    def expect(self, indices: Sequence[int]) -> None:
        """These tasks, ascending, are waited for. None of them was taken, or is expected."""
        self._reserve(indices[-1] + 1)
        self._gaps -= len(indices)
        self.put(indices, [_PENDING] * len(indices))

    def put(self, indices: Sequence[int], values: Sequence[Any]) -> None:
        """Their results, in the same order."""
        mine, start = self._values, self.start
        if isinstance(indices, range):
            mine[indices.start - start : indices.stop - start] = values
            return
        for index, value in zip(indices, values, strict=True):
            mine[index - start] = value

    def take(self, limit: int | None) -> list[Any]:
        """The results in front, as far as none is missing.

        Tasks from `limit` on may not be expected yet; None: all are.
        """
        values = self._values
        stop = len(values) if limit is None else min(limit - self.start, len(values))
        try:
            stop = values.index(_PENDING, 0, stop)
        except ValueError:
            pass
        taken = values[:stop]
        del values[:stop]
        self.start += stop
        if not values and limit is not None:
            self.start = max(self.start, limit)
        if self._gaps:
            found = [one for one in taken if one is not _GAP]
            self._gaps -= len(taken) - len(found)
            return found
        return taken

    def _reserve(self, stop: int) -> None:
        more = stop - self.start - len(self._values)
        if more > 0:
            self._values += [_GAP] * more
            self._gaps += more
