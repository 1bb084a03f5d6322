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

from chimera.bus.protocol import Record, Topic, first_error
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


class Herald:
    """Publishes events in a thread of its own. `tell` never waits and never fails."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._waiting: deque[tuple[Topic, Event, Envelope, str]] = deque(maxlen=WAITING_MAX)
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
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                batch = list(itertools.islice(self._waiting, BATCH_MAX))
                if not batch:
                    return
            try:
                fault = first_error(
                    self._broker.bus.publish([self._record(*one) for one in batch], PUBLISH_S)
                )
            except (ChimeraError, ValueError) as error:
                fault = error if isinstance(error, ChimeraError) else ChimeraError(str(error))
            if fault is None:
                self._forget(len(batch))
            else:
                _log.warning("%d events wait for the broker: %s", len(self._waiting), fault)
                if self._closed:
                    return
                time.sleep(AGAIN_S)

    def _record(self, topic: Topic, event: Event, named: Envelope, subject: str) -> Record:
        return self._broker.writer.record(topic, 0, event, named, subject.replace("/", "."))

    def _forget(self, count: int) -> None:
        with self._changed:
            for _ in range(min(count, len(self._waiting))):
                self._waiting.popleft()
