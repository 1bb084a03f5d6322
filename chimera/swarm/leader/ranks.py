"""In which order the tasks of a key were first dispatched: what they are put back by."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

#: above every position
_FIRST = 1 << 60


@dataclass(slots=True)
class Ranks:
    """Positions, but for delayed tasks and those that came behind them.

    A delayed task joins its key's order when it is due, after tasks of higher positions.
    """

    _ranks: dict[int, int] = field(default_factory=dict)
    _keys: Counter[str] = field(default_factory=Counter)
    _next: int = _FIRST

    def __bool__(self) -> bool:
        """Whether any task's rank is not its position."""
        return bool(self._ranks)

    def note(self, position: int, key: str, delayed: bool) -> None:
        """A task is dispatched for the first time."""
        if delayed or key in self._keys:
            self._ranks[position] = self._next
            self._next += 1
            self._keys[key] += 1

    def note_all(self, keys: list[str | None], first: int, delayed: bool) -> None:
        """A range of tasks is."""
        if delayed or (self._keys and not self._keys.keys().isdisjoint(keys)):
            for position, key in enumerate(keys, first):
                if key is not None:
                    self.note(position, key, delayed)

    def of(self, position: int) -> int:
        """Lower ones were dispatched earlier."""
        return self._ranks.get(position, position)

    def forget(self, position: int, key: str) -> None:
        """It has ended."""
        if self._ranks.pop(position, None) is not None:
            self._keys[key] -= 1
            if not self._keys[key]:
                del self._keys[key]
