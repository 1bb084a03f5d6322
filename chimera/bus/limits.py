"""Bounds of what a bus holds in memory, and of what it leaves unacknowledged."""

from __future__ import annotations

import threading
from dataclasses import dataclass

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Each bound lets one item pass that is larger than itself, so that nothing waits for ever."""

    #: fetched records of a partition from the oldest unacknowledged one on; after a crash at most
    #: so many are handed out again
    window_records: int = 10_000
    #: fetched and not acknowledged, a subscription; 64 MiB are some 700 full frames
    in_flight_bytes: int = 64 * _MIB
    #: published and not yet answered, a bus
    publish_bytes: int = 64 * _MIB


class Budget:
    """Bytes that may be under way; one item always passes, whatever its size."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._used = 0
        self._changed = threading.Condition()

    def take(self, size: int, timeout: float) -> bool:
        with self._changed:
            fits = self._changed.wait_for(
                lambda: not self._used or self._used + size <= self._most, max(0.0, timeout)
            )
            if fits:
                self._used += size
            return fits

    def give_back(self, size: int) -> None:
        with self._changed:
            self._used -= size
            self._changed.notify_all()
