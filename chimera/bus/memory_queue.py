"""Queues in memory: one active consumer each, and what it leaves goes to the next."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from chimera.bus.limits import Limits
from chimera.bus.protocol import Kind, Received, Topic, missing
from chimera.errors import BusUnavailable, ChimeraError, InvalidRequest


@dataclass(slots=True, eq=False)
class Queue:
    """Records of one group, in order. Guarded by the broker's lock."""

    #: each with how often it will have been handed out
    ready: deque[tuple[Received, int]] = field(default_factory=deque)
    #: the first one is active
    consumers: list[QueueSubscription] = field(default_factory=list)
    #: in flight at the active consumer, by the position that it was told
    unacked: dict[int, tuple[Received, int]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return len(self.ready) + len(self.unacked)

    def give_back(self, first: int = 0) -> None:
        """Hand out again what is in flight from a position on."""
        back = [self.unacked.pop(at) for at in sorted(self.unacked) if at >= first]
        self.ready.extendleft((record, count + 1) for record, count in reversed(back))

    def leave(self, consumer: QueueSubscription) -> None:
        if self.consumers and self.consumers[0] is consumer:
            self.give_back()
        if consumer in self.consumers:
            self.consumers.remove(consumer)

    def drop_all(self) -> None:
        """Every connection is lost; each consumer joins anew when it next fetches."""
        self.give_back()
        self.consumers.clear()


class QueueBroker(Protocol):
    """What a subscription needs of its broker."""

    changed: threading.Condition
    fault: ChimeraError | None
    topics: dict[str, Topic]

    def queue(self, topic: Topic, group: str, partition: int) -> Queue: ...


class QueueSubscription:
    """Reads queues; positions are its own."""

    def __init__(
        self,
        broker: QueueBroker,
        topic: Topic,
        group: str,
        start: Mapping[int, int] | None,
        limits: Limits,
    ) -> None:
        whole = list(range(topic.partitions))
        if group not in topic.groups:
            raise InvalidRequest(f"topic {topic.name} has no group {group}")
        if topic.kind is Kind.EVENTS and start is not None and sorted(start) != whole:
            raise InvalidRequest(f"{topic.name} is a stream of events: it is read whole")
        self._broker = broker
        self._topic = topic
        self._group = group
        self._limits = limits
        self._partitions = [0] if topic.kind is Kind.EVENTS else sorted(start or whole)
        self._position = 0
        self._turn = 0
        self._closed = False

    def _queues(self) -> list[Queue]:
        return [self._broker.queue(self._topic, self._group, one) for one in self._partitions]

    def fetch(self, max_records: int, max_bytes: int, timeout: float) -> list[Received]:
        end = time.monotonic() + timeout
        with self._broker.changed:
            while True:
                fault = self._fault()
                found = [] if fault else self._gather(max_records, max_bytes)
                left = end - time.monotonic()
                if found or left <= 0:
                    if fault:
                        raise fault
                    return found
                self._broker.changed.wait(left)

    def _fault(self) -> ChimeraError | None:
        if self._closed:
            return BusUnavailable("this subscription is closed")
        if self._broker.fault is None and self._topic.name not in self._broker.topics:
            return missing(self._topic.name)
        return self._broker.fault

    def _gather(self, max_records: int, max_bytes: int) -> list[Received]:
        found: list[Received] = []
        queues = self._queues()
        for queue in queues:
            if self not in queue.consumers:
                queue.consumers.append(self)
        flying = sum(
            len(record.value)
            for queue in queues
            if queue.consumers[0] is self
            for record, _ in queue.unacked.values()
        )
        max_bytes = min(max_bytes, self._limits.in_flight_bytes - flying)
        self._turn += 1
        for i in range(len(queues)):
            queue = queues[(self._turn + i) % len(queues)]
            while queue.ready and queue.consumers[0] is self and len(found) < max_records:
                size = len(queue.ready[0][0].value)
                full = len(queue.unacked) >= self._limits.window_records
                if full or max_bytes <= 0 or (found and size > max_bytes):
                    break
                record, count = queue.ready.popleft()
                max_bytes -= size
                queue.unacked[self._position] = record, count
                found.append(replace(record, position=self._position, deliveries=count))
                self._position += 1
        return found

    def _queue_of(self, record: Received) -> Queue | None:
        """Where a record is in flight, if it is and we are active."""
        queue = self._broker.queue(self._topic, self._group, record.partition)
        active = bool(queue.consumers) and queue.consumers[0] is self
        return queue if active and record.position in queue.unacked else None

    def ack(self, records: Iterable[Received]) -> None:
        with self._broker.changed:
            for record in records:
                if queue := self._queue_of(record):
                    del queue.unacked[record.position]
            self._broker.changed.notify_all()

    def nack(self, records: Iterable[Received]) -> None:
        with self._broker.changed:
            for record in sorted(records, key=lambda one: one.position):
                if queue := self._queue_of(record):
                    queue.give_back(record.position)
            self._broker.changed.notify_all()

    def seek(self, partition: int, position: int) -> None:
        raise InvalidRequest("this bus does not seek: it hands out what is not acknowledged")

    def close(self, timeout: float) -> None:
        with self._broker.changed:
            self._closed = True
            for queue in self._queues():
                queue.leave(self)
            self._broker.changed.notify_all()
