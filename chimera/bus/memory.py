"""A bus in memory that keeps the port's contract: for tests and the simulator.

The broker stands for what survives; a bus is one client's connection to it. It can be a log with
positions (as Kafka and the embedded bus are) or hold queues (as RabbitMQ does).
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from chimera.bus.limits import Limits
from chimera.bus.memory_queue import Queue, QueueSubscription
from chimera.bus.protocol import (
    Finding,
    Kind,
    Received,
    Record,
    Subscription,
    Topic,
    missing,
    too_large,
    wrong_partitions,
)
from chimera.bus.reader import LogSubscription
from chimera.errors import BusUnavailable, ChimeraError, PositionLost


@dataclass(slots=True)
class _Partition:
    records: list[Received] = field(default_factory=list)
    next: int = 0

    @property
    def earliest(self) -> int:
        return self.records[0].position if self.records else self.next


class MemoryBroker:
    """What all the buses of one "server" share; its faults are plain attributes."""

    def __init__(self, *, seeks: bool = True, now: Callable[[], float] = time.time) -> None:
        self.seeks = seeks
        self.now = now  #: the clock of records without a timestamp, seconds
        #: what every request is answered with while it is set, e.g. BusUnavailable
        self.fault: ChimeraError | None = None
        #: so many publishes are written, and then answered with BusUnavailable
        self.lost_answers = 0
        self.topics: dict[str, Topic] = {}
        self.changed = threading.Condition(threading.RLock())
        self.queues: dict[tuple[str, str, int], Queue] = {}
        self._logs: dict[tuple[str, int], _Partition] = defaultdict(_Partition)
        self._groups: dict[tuple[str, str, int], int] = {}

    def crash(self) -> None:
        """Die: every connection is lost, and what was in flight is to be handed out again."""
        with self.changed:
            self.fault = BusUnavailable("the broker is down")
            for queue in self.queues.values():
                queue.drop_all()
            self.changed.notify_all()

    def restart(self) -> None:
        """Come back with all that was written."""
        with self.changed:
            self.fault = None
            self.changed.notify_all()

    def write(self, record: Record) -> ChimeraError | None:
        """Keep a record, or say why not. The caller holds `changed`."""
        topic = self.topics.get(record.topic)
        if topic is None or not 0 <= record.partition < topic.partitions:
            return missing(record.topic, record.partition)
        if refused := too_large(record, topic.record_max_bytes):
            return refused
        stamp = int(self.now() * 1000) if record.timestamp is None else record.timestamp
        log = self._logs[record.topic, record.partition]
        kept = Received(
            record.topic, record.partition, log.next, record.value, record.key, record.headers,
            stamp,
        )  # fmt: skip
        log.next += 1
        if self.seeks:
            log.records.append(kept)
        else:
            for group in topic.groups:
                self.queue(topic, group, record.partition).ready.append((kept, 1))
        return None

    def queue(self, topic: Topic, group: str, partition: int) -> Queue:
        """The queue that holds a partition for a group."""
        index = partition if topic.kind is Kind.COMMANDS else 0
        return self.queues.setdefault((topic.name, group, index), Queue())

    def log(self, topic: str, partition: int) -> _Partition:
        """A partition's log, if the broker is there."""
        if self.fault:
            raise self.fault
        if topic not in self.topics or not 0 <= partition < self.topics[topic].partitions:
            raise missing(topic, partition)
        return self._logs[topic, partition]

    def earliest(self, topic: str, partition: int) -> int:
        with self.changed:
            return self.log(topic, partition).earliest

    def remembered(self, topic: str, group: str, partition: int) -> int | None:
        with self.changed:
            self.log(topic, partition)
            return self._groups.get((topic, group, partition))

    def remember(self, topic: str, group: str, watermarks: Mapping[int, int]) -> None:
        with self.changed:
            if self.fault is None:  # else forgotten, as an answer that gets lost
                for partition, position in watermarks.items():
                    self._groups[topic, group, partition] = position

    def read(
        self, topic: str, partition: int, position: int, max_records: int, max_bytes: int
    ) -> list[Received]:
        with self.changed:
            log = self.log(topic, partition)
            if not log.earliest <= position <= log.next:
                raise PositionLost(
                    f"{topic}/{partition} holds {log.earliest} to {log.next}, not {position}",
                    partition=partition,
                    position=position,
                )
            first = bisect_left(log.records, position, key=lambda one: one.position)
            found = log.records[first : first + max_records]
            return within(found, max_bytes)

    def wait(self, timeout: float) -> None:
        with self.changed:
            self.changed.wait(timeout)

    def trim(self, topic: str, partition: int, below: int) -> None:
        with self.changed:
            log = self.log(topic, partition)
            log.records = [one for one in log.records if one.position >= below]


def within(records: Sequence[Received], max_bytes: int) -> list[Received]:
    """The first records that fit into `max_bytes` together; one at least."""
    taken: list[Received] = []
    for record in records:
        max_bytes -= len(record.value)
        if taken and max_bytes < 0:
            break
        taken.append(record)
    return taken


class MemoryBus:
    """One client of a MemoryBroker."""

    def __init__(self, broker: MemoryBroker, limits: Limits | None = None) -> None:
        self.seeks = broker.seeks
        self._broker = broker
        self._limits = limits or Limits()
        self._subscriptions: list[Subscription] = []
        self._closed = False

    def publish(self, records: Sequence[Record], timeout: float) -> list[ChimeraError | None]:
        broker = self._broker
        with broker.changed:
            broker.changed.wait_for(lambda: self._closed or not broker.fault, timeout)
            if fault := self._fault():
                return [fault] * len(records)
            answers = [broker.write(record) for record in records]
            broker.changed.notify_all()
            if broker.lost_answers:
                broker.lost_answers -= 1
                return [BusUnavailable("the answer got lost")] * len(records)
            return answers

    def _fault(self) -> ChimeraError | None:
        return BusUnavailable("this bus is closed") if self._closed else self._broker.fault

    def subscribe(
        self, topic: Topic, group: str, start: Mapping[int, int] | None = None
    ) -> Subscription:
        made: Subscription
        if self.seeks:
            made = LogSubscription(self._broker, topic, group, start, self._limits)
        else:
            made = QueueSubscription(self._broker, topic, group, start, self._limits)
        self._subscriptions.append(made)
        return made

    def provision(self, topics: Sequence[Topic], timeout: float) -> list[str]:
        broker = self._broker
        made = []
        with broker.changed:
            broker.changed.wait_for(lambda: self._closed or not broker.fault, timeout)
            if fault := self._fault():
                raise fault
            for topic in topics:
                known = broker.topics.get(topic.name)
                if known and known.partitions != topic.partitions:
                    raise wrong_partitions(topic, known.partitions)
                if known != topic:
                    broker.topics[topic.name] = topic
                    made.append(topic.name)
        return made

    def trim(self, topic: str, below: Mapping[int, int], timeout: float) -> None:
        if self.seeks:
            for partition, position in below.items():
                self._broker.trim(topic, partition, position)

    def lag(self, topic: Topic, group: str, timeout: float) -> dict[int, int]:
        broker = self._broker
        with broker.changed:
            found = {}
            for partition in range(topic.partitions):
                log = broker.log(topic.name, partition)
                if self.seeks:
                    known = broker.remembered(topic.name, group, partition)
                    found[partition] = log.next - max(known or 0, log.earliest)
                elif partition == 0 or topic.kind is Kind.COMMANDS:
                    found[partition] = broker.queue(topic, group, partition).size
            return found

    def check(
        self, topics: Sequence[Topic], timeout: float, production: bool = False
    ) -> list[Finding]:
        with self._broker.changed:
            if fault := self._fault():
                raise fault
            found = [
                Finding(True, one.name, "the topic is not there", "chimera bus provision")
                for one in topics
                if one.name not in self._broker.topics
            ]
        if production:
            found.append(
                Finding(True, "bus", "records live in one process's memory", "set another `bus`")
            )
        return found

    def close(self, timeout: float) -> None:
        for subscription in self._subscriptions:
            subscription.close(timeout)
        with self._broker.changed:
            self._closed = True
            self._broker.changed.notify_all()
