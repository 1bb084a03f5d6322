"""Server-sent events of what ends: parsed as they come, asked for again where they were cut off."""

from __future__ import annotations

import time
from collections.abc import Iterator

from chimera.errors import ChimeraError, NotReady
from chimera.http.verbs import CutOff, Unreached, may_pass
from chimera.http.wire import Answer, Call, View, decode
from chimera.store.protocol import TaskRecord

#: seconds without a line until the stream counts as cut: the gateway comments sooner
SILENCE_S = 40.0


class Stream:
    """The state of one stream over all its connections."""

    def __init__(self, url: str, type: str | None, for_s: float | None, after: str | None) -> None:
        self._url = url
        self._type = type
        self._until = None if for_s is None else time.monotonic() + for_s
        self._last_id = after or ""  #: of the last event that came whole
        self._begun = False  #: something was heard
        self._retry_s = 1.0
        self._rest = b""
        self._id = ""
        self._data: list[bytes] = []

    def call(self) -> Call:
        """The request for the stream, or for the rest of it: what came in part comes anew."""
        self._rest, self._id, self._data = b"", self._last_id, []
        query = {"type": self._type, "for_s": self._left_s()}
        headers = {"Accept": "text/event-stream"}
        if self._last_id:
            headers["Last-Event-ID"] = self._last_id
        told = {name: value for name, value in query.items() if value is not None}
        return Call("GET", "/v1/events", told, None, headers, SILENCE_S)

    def feed(self, piece: bytes) -> Iterator[TaskRecord]:
        """What came; the tasks whose events end in it."""
        self._begun = True
        # a line of text may have characters at which Python would split it
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            if (record := self._line(line.removesuffix(b"\r"))) is not None:
                yield record

    def pause_s(self, fault: Exception | None) -> float | None:
        """Seconds until it is asked for again; None if the time that it was wanted for is over.

        Raises the fault that ended it if another try would end alike, or nothing was heard yet.
        """
        if isinstance(fault, (Unreached, CutOff)):
            if not self._begun:
                raise NotReady(f"no gateway answers at {self._url}: {fault}") from fault
        elif fault is not None and not (
            self._begun and isinstance(fault, ChimeraError) and may_pass(fault, True)
        ):
            raise fault
        pause_s = max(self._retry_s, getattr(fault, "retry_after", 0.0))
        left_s = self._left_s()
        return None if left_s is not None and left_s <= pause_s else pause_s

    def _left_s(self) -> float | None:
        return None if self._until is None else max(self._until - time.monotonic(), 0.0)

    def _line(self, line: bytes) -> TaskRecord | None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"id":
            self._id = value.decode("utf-8", "replace")
        elif name == b"data":
            self._data.append(value)
        elif name == b"retry" and value.isdigit():
            self._retry_s = int(value) / 1000
        elif not line:
            self._last_id = self._id
            text, self._data = b"\n".join(self._data), []
            if text:
                view: View = decode(Answer(200, {}, text), View)
                return view.record()
        return None
