"""How fast a shard settles, so that `Overloaded` can say when there will be room."""

from __future__ import annotations

_WINDOW_MS = 1000
_UNKNOWN_S = 1.0
_MIN_S = 0.05
_MAX_S = 10.0


class Pace:
    """Tasks settled a second, over the last full window."""

    def __init__(self) -> None:
        self._since = 0
        self._count = 0
        self._per_s = 0.0

    def note(self, now: int, settled: int) -> None:
        self._count += settled
        elapsed = now - self._since
        if elapsed >= _WINDOW_MS:
            self._per_s = self._count * 1000 / elapsed if self._since else 0.0
            self._since, self._count = now, 0

    def wait_for(self, tasks: int) -> float:
        """Seconds until so many tasks will have been settled, within sensible bounds."""
        if not self._per_s:
            return _UNKNOWN_S
        return min(max(tasks / self._per_s, _MIN_S), _MAX_S)
