"""Telling others how the swarm is: reports and the like, which nobody waits for.

They are kept while the broker is away, up to a bound; past it the oldest are given up and counted,
since the next report says the same and more.
"""

from __future__ import annotations

import itertools
import logging
import secrets
import threading
import time
from collections import deque
from typing import TypeAlias

from chimera.bus.protocol import Topic, first_error
from chimera.contracts.cloudevents import Envelope
from chimera.contracts.events import Event
from chimera.errors import ChimeraError
from chimera.traffic.intake import Broker

_log = logging.getLogger(__name__)

#: events that wait for the broker
WAITING_MAX = 5_000
#: records of one publish
BATCH_MAX = 500
#: for the broker to take them, seconds; and until it is asked again
PUBLISH_S = 5.0
AGAIN_S = 1.0

#: where to, what, its attributes, and what it is about
_Told: TypeAlias = tuple[Topic, Event, Envelope, str]


class Herald:
    """Publishes events in a thread of its own. `tell` never waits and never fails."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._waiting: deque[_Told] = deque(maxlen=WAITING_MAX)
        self._changed = threading.Condition()
        self._closed = False
        self._run_id = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="herald", daemon=True)
        self._thread.start()

    def tell(self, topic: Topic, event: Event, subject: str, id: str = "") -> None:
        """Publish an event some time; `id` is its CloudEvents id, if it may be told twice."""
        number = next(self._numbers)
        now = time.time_ns() // 1_000_000
        named = Envelope(id or f"{self._run_id}-{number}", self._broker.source, "", subject, now)
        with self._changed:
            self.dropped += len(self._waiting) == WAITING_MAX
            self._waiting.append((topic, event, named, subject))
            self._changed.notify()

    def close(self, timeout: float) -> None:
        """Publish what waits, if the broker takes it in time."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout)

    def _run(self) -> None:
        while batch := self._next():
            while (fault := self._publish(batch)) is not None:
                waiting = len(batch) + len(self._waiting)
                _log.warning("%d events wait for the broker: %s", waiting, fault)
                if self._closed:
                    return
                time.sleep(AGAIN_S)

    def _next(self) -> list[_Told]:
        """What is to be told next; nothing once all was told and the herald is closed."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            return [self._waiting.popleft() for _ in range(min(BATCH_MAX, len(self._waiting)))]

    def _publish(self, batch: list[_Told]) -> ChimeraError | None:
        """Publish all that can be written; why that cannot be done just now."""
        records = []
        try:
            for topic, event, named, subject in batch:
                word = subject.replace("/", ".")
                try:
                    records.append(self._broker.writer.record(topic, 0, event, named, word))
                except ValueError as error:  # it will never be written: no others wait for it
                    self.dropped += 1
                    _log.warning("an event of %s is not told: %s", subject, error)
            return first_error(self._broker.bus.publish(records, PUBLISH_S))
        except ChimeraError as error:
            return error
