"""A subscription to a log: positions that last, and windows over them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from typing import Protocol

from chimera.bus.limits import Limits
from chimera.bus.protocol import EARLIEST, REMEMBERED, Received, Topic
from chimera.bus.window import Window
from chimera.errors import BusUnavailable, ChimeraError, InvalidRequest


class Log(Protocol):
    """What a reader needs of a log."""

    def earliest(self, topic: str, partition: int) -> int:
        """The position of the oldest record that is kept, or of the next one."""
        ...

    def remembered(self, topic: str, group: str, partition: int) -> int | None:
        """Where the group's acknowledgements end."""
        ...

    def remember(self, topic: str, group: str, watermarks: Mapping[int, int]) -> None: ...

    def read(
        self, topic: str, partition: int, position: int, max_records: int, max_bytes: int
    ) -> list[Received]:
        """Records from a position on, one at least if there is one. Raises PositionLost."""
        ...

    def wait(self, timeout: float) -> None:
        """Return when there may be something new, or after `timeout` seconds."""
        ...


class LogSubscription:
    """Reads a log, one window a partition."""

    def __init__(
        self,
        log: Log,
        topic: Topic,
        group: str,
        start: Mapping[int, int] | None,
        limits: Limits,
    ) -> None:
        if group not in topic.groups:
            raise InvalidRequest(f"topic {topic.name} has no group {group}")
        self._log = log
        self._topic = topic
        self._group = group
        self._limits = limits
        self._start = dict(start or dict.fromkeys(range(topic.partitions), REMEMBERED))
        self._windows: dict[int, Window] = {}
        self._turn = 0
        self._closed = False
        self._lock = threading.Lock()

    def fetch(self, max_records: int, max_bytes: int, timeout: float) -> list[Received]:
        end = time.monotonic() + timeout
        while True:
            fault: ChimeraError | None = None
            try:
                with self._lock:
                    found = self._gather(max_records, max_bytes)
                if found:
                    return found
            except ChimeraError as error:
                fault = error
            left = end - time.monotonic()
            if left <= 0 or self._closed:
                if fault:
                    raise fault
                return []
            self._log.wait(left)

    def _gather(self, max_records: int, max_bytes: int) -> list[Received]:
        """What can be had now, starting with another partition each time."""
        if self._closed:
            raise BusUnavailable("this subscription is closed")
        found: list[Received] = []
        partitions = sorted(self._start)
        self._turn += 1
        for i in range(len(partitions)):
            partition = partitions[(self._turn + i) % len(partitions)]
            try:
                max_bytes -= self._take(partition, max_records - len(found), max_bytes, found)
            except ChimeraError:
                if not found:
                    raise
                break  # what was found is in flight; the fault shows next time
            if len(found) >= max_records or max_bytes <= 0:
                break
        return found

    def _take(self, partition: int, max_records: int, max_bytes: int, found: list[Received]) -> int:
        """Hand records of one partition out; returns their bytes."""
        window = self._window(partition)
        in_flight = sum(one.bytes for one in self._windows.values())
        max_records = min(max_records, self._limits.window_records - window.span)
        max_bytes = min(max_bytes, self._limits.in_flight_bytes - in_flight)
        if max_records <= 0 or max_bytes <= 0:
            return 0
        taken = 0
        for record in self._log.read(
            self._topic.name, partition, window.next, max_records, max_bytes
        ):
            size = len(record.value)
            if window.hand(record.position, size):
                found.append(record)
                taken += size
        return taken

    def _window(self, partition: int) -> Window:
        """The partition's window, opened where it is to start when it is first looked at."""
        window = self._windows.get(partition)
        if window is None:
            window = self._windows[partition] = Window(
                self._resolve(partition, self._start[partition])
            )
        return window

    def _resolve(self, partition: int, position: int) -> int:
        if position == REMEMBERED:
            known = self._log.remembered(self._topic.name, self._group, partition)
            position = EARLIEST if known is None else known
        if position == EARLIEST:
            return self._log.earliest(self._topic.name, partition)
        return position

    def ack(self, records: Iterable[Received]) -> None:
        with self._lock:
            moved = {}
            for record in records:
                window = self._windows.get(record.partition)
                if window and window.ack(record.position):
                    moved[record.partition] = window.watermark
            if moved and not self._closed:
                self._log.remember(self._topic.name, self._group, moved)

    def nack(self, records: Iterable[Received]) -> None:
        with self._lock:
            first: dict[int, int] = {}
            for record in records:
                window = self._windows.get(record.partition)
                if window and window.holds(record.position):
                    least = first.get(record.partition, record.position)
                    first[record.partition] = min(least, record.position)
            for partition, position in first.items():
                self._windows[partition].rewind(position)

    def seek(self, partition: int, position: int) -> None:
        with self._lock:
            if partition not in self._start:
                raise InvalidRequest(f"partition {partition} is not subscribed")
            self._start[partition] = position
            self._windows.pop(partition, None)

    def close(self, timeout: float) -> None:
        with self._lock:
            self._closed = True
