"""What lately happened to each key, so that an error can tell it: bounded, oldest forgotten."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

#: entries kept a key
ENTRIES_MAX = 20


@dataclass(slots=True)
class Story:
    """A short memory of each key's steps."""

    _entries: dict[str, deque[str]] = field(default_factory=dict)

    def note(self, key: str, now: float, text: str) -> None:
        """Remember a step; `now` in seconds."""
        self._entries.setdefault(key, deque(maxlen=ENTRIES_MAX)).append(f"{now:.3f} {text}")

    def tell(self, key: str) -> str:
        """The last steps of a key, oldest first."""
        return "; ".join(self._entries.get(key, ())) or "nothing"

    def forget(self, key: str) -> None:
        """The key is gone for good."""
        self._entries.pop(key, None)
