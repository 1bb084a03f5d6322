"""What of one partition is in flight, and up to where all of it is acknowledged."""

from __future__ import annotations

from collections import deque


class Window:
    """Records handed out in order, acknowledged in any order.

    The watermark is what a broker may be told: below it everything is acknowledged. What was
    acknowledged above it is remembered, so that it is not handed out twice when the window is
    rewound; that memory is bounded, because `span` counts it and is bounded by the caller.
    """

    __slots__ = ("_done", "_handed", "_in_flight", "bytes", "next")

    def __init__(self, start: int) -> None:
        self.next = start  #: the position to read on from
        self.bytes = 0  #: in flight
        self._handed: deque[int] = deque()  #: at or above the watermark, in order
        self._in_flight: dict[int, int] = {}  #: position → bytes
        self._done: set[int] = set()  #: acknowledged, above the watermark

    @property
    def span(self) -> int:
        """Records from the watermark on, in flight or acknowledged out of order."""
        return len(self._handed)

    @property
    def watermark(self) -> int:
        """Every record below is acknowledged."""
        return self._handed[0] if self._handed else self.next

    def hand(self, position: int, size: int) -> bool:
        """Note that a record is handed out; False if it must not be: it is acknowledged."""
        self._handed.append(position)
        self.next = position + 1
        if position in self._done:
            self._advance()
            return False
        self._in_flight[position] = size
        self.bytes += size
        return True

    def ack(self, position: int) -> bool:
        """Note that a record is dealt with; False if it is not in flight, so that nothing is."""
        size = self._in_flight.pop(position, None)
        if size is None:
            return False
        self.bytes -= size
        self._done.add(position)
        self._advance()
        return True

    def rewind(self, position: int) -> None:
        """Go back (or on) to a position: what is in flight from there on is to be handed out again.

        Going back below the watermark forgets what was acknowledged above it, by intent.
        """
        if position < self.watermark:
            self._done.clear()
        while self._handed and self._handed[-1] >= position:
            self.bytes -= self._in_flight.pop(self._handed.pop(), 0)
        self.next = position

    def holds(self, position: int) -> bool:
        """Whether a record is in flight."""
        return position in self._in_flight

    def _advance(self) -> None:
        while self._handed and self._handed[0] in self._done:
            self._done.discard(self._handed.popleft())
