"""Server-sent events of what ends: parsed line by line, asked for again where they were cut off."""

from __future__ import annotations

import time

import msgspec

from chimera.http.wire import Call, View
from chimera.store.protocol import TaskRecord

#: seconds without a line until the stream counts as cut: the gateway comments sooner
SILENCE_S = 40.0


class Parser:
    """The state of one stream over all its connections."""

    def __init__(self, type: str | None, for_s: float | None, after: str | None) -> None:
        self.type = type
        self.last_id = after
        self.begun = False  #: something was heard
        self.retry_s = 1.0
        self._until = None if for_s is None else time.monotonic() + for_s
        self._data: list[str] = []

    @property
    def left_s(self) -> float | None:
        """Seconds that are left; None: no end."""
        return None if self._until is None else max(self._until - time.monotonic(), 0.0)

    @property
    def over(self) -> bool:
        """Whether the time that was asked for is over."""
        left = self.left_s
        return left is not None and left <= self.retry_s

    def feed(self, line: str) -> TaskRecord | None:
        """A line; the task whose event ends with it."""
        self.begun = True
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            self.last_id = value
        elif name == "data":
            self._data.append(value)
        elif name == "retry" and value.isdigit():
            self.retry_s = int(value) / 1000
        elif not line and self._data:
            text, self._data = "\n".join(self._data), []
            return msgspec.json.decode(text, type=View).record()
        return None


def stream_call(parser: Parser) -> Call:
    """The request for the stream, or for the rest of it."""
    query = {"type": parser.type, "for_s": parser.left_s}
    headers = {"Accept": "text/event-stream"}
    if parser.last_id:
        headers["Last-Event-ID"] = parser.last_id
    told = {name: value for name, value in query.items() if value is not None}
    return Call("GET", "/v1/events", told, None, headers, SILENCE_S)
