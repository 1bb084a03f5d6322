"""Reading from Kafka: partitions assigned by hand, acknowledged up to the first gap."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from chimera.bus.kafka.client import BATCH_MAX_BYTES, Health, configuration, translate
from chimera.bus.kafka.publisher import bounded
from chimera.bus.limits import Limits
from chimera.bus.protocol import EARLIEST, REMEMBERED, Received, Topic, missing
from chimera.bus.settings import BusSettings
from chimera.bus.window import Window
from chimera.errors import BusUnavailable, ChimeraError, InvalidRequest, PositionLost

logger = logging.getLogger(__name__)

#: a wait is cut into these, so that `close`, `seek` and commits do not wait for it, seconds
_SLICE_S = 0.1
#: messages taken from librdkafka at once; what does not fit a fetch waits here
_CHUNK = 256
#: acknowledgements are told to the broker so often: a lost one costs a second look, no more
_COMMIT_S = 0.25


class KafkaSubscription:
    """One consumer, without a group's rebalancing: who owns a partition is not Kafka's to say.

    `_reading` is held by whoever consumes or moves a position, `_lock` while windows change, so
    that an acknowledgement never waits for a fetch.
    """

    def __init__(
        self,
        settings: BusSettings,
        topic: Topic,
        group: str,
        start: Mapping[int, int] | None,
        limits: Limits,
    ) -> None:
        if group not in topic.groups:
            raise InvalidRequest(f"topic {topic.name} has no group {group}")
        self._topic = topic.name
        self._limits = limits
        self._health = Health(settings.shown)
        self._consumer = Consumer({
            **configuration(settings, self._health),
            "group.id": f"{topic.name}.{group}",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "fetch.message.max.bytes": BATCH_MAX_BYTES,
            "fetch.error.backoff.ms": 100,
            # what is under way must end before a partition is read from elsewhere
            "fetch.wait.max.ms": 100,
            "queued.max.messages.kbytes": 16 * 1024,
            "on_commit": self._committed,
        })  # fmt: skip
        self._start = dict(start or dict.fromkeys(range(topic.partitions), REMEMBERED))
        self._unassigned = set(self._start)
        self._windows: dict[int, Window] = {}
        self._waiting: dict[int, deque[Any]] = {one: deque() for one in self._start}
        self._paused: set[int] = set()
        self._lost: dict[int, PositionLost] = {}
        self._unsent: dict[int, int] = {}  #: watermarks that the broker has not been told
        self._sent_at = 0.0
        self._turn = 0
        self._closed = False
        self._reading = threading.Lock()
        self._lock = threading.Lock()

    def fetch(self, max_records: int, max_bytes: int, timeout: float) -> list[Received]:
        end = time.monotonic() + timeout
        while True:
            fault: ChimeraError | None = None
            left = max(0.0, end - time.monotonic())
            with self._reading:
                try:
                    found = self._round(max_records, max_bytes, min(left, _SLICE_S))
                except ChimeraError as error:
                    found, fault = [], error
                except KafkaException as error:
                    found, fault = [], translate(error.args[0], self._topic)
            if found:
                return found
            if time.monotonic() >= end or self._closed:
                if fault is None and self._health.broken():
                    fault = self._probe()
                if fault:
                    raise fault
                return []
            if fault:
                time.sleep(min(_SLICE_S, max(0.0, end - time.monotonic())))

    def _round(self, max_records: int, max_bytes: int, wait: float) -> list[Received]:
        """One look at what there is; waits for `wait` seconds at most."""
        if self._closed:
            raise BusUnavailable("this subscription is closed")
        self._assign()
        self._commit()
        self._resume()
        found = self._hand_out(max_records, max_bytes)
        if found:
            return found
        if self._lost:
            raise next(iter(self._lost.values()))
        if self._is_full():
            time.sleep(min(wait, 0.01))
            return []
        self._consume(wait)
        return self._hand_out(max_records, max_bytes)

    def _assign(self) -> None:
        """Open what is not open yet; asks the broker where the group's acknowledgements end."""
        if not self._unassigned:
            return
        self._consumer.poll(0)  # errors of a past that is over; there are no records yet
        if fault := self._probe():
            raise fault
        asked = [one for one in self._unassigned if self._start[one] == REMEMBERED]
        known = {one.partition: one.offset for one in self._remembered(asked)} if asked else {}
        opened = []
        for partition in sorted(self._unassigned):
            position = known.get(partition, self._start[partition])
            opened.append(
                TopicPartition(
                    self._topic, partition, position if position >= 0 else OFFSET_BEGINNING
                )
            )
        with self._lock:
            for partition in self._unassigned:
                self._windows.pop(partition, None)
                self._waiting[partition].clear()
                self._paused.discard(partition)
        self._consumer.incremental_assign(opened)
        self._unassigned.clear()

    def _remembered(self, partitions: list[int]) -> list[TopicPartition]:
        wanted = [TopicPartition(self._topic, one) for one in partitions]
        found: list[TopicPartition] = self._consumer.committed(wanted, timeout=1.0)
        for one in found:
            if one.error:
                raise translate(one.error, self._topic)
        return found

    def _probe(self) -> ChimeraError | None:
        """Ask for the topic: says what is wrong; an idle broker that is back says nothing else."""
        try:
            found = self._consumer.list_topics(self._topic, timeout=1.0).topics[self._topic]
        except KafkaException as error:
            return self._health.broken() or translate(error.args[0], self._topic)
        self._health.works()
        absent = set(self._start) - set(found.partitions)
        if found.error:
            return translate(found.error, self._topic)
        return missing(self._topic, min(absent)) if absent else None

    def _consume(self, wait: float) -> None:
        """Take what librdkafka has; wait for the first only.

        An error comes among messages, and those after it have left librdkafka's queue too: they
        are kept before it is raised, or the window would pass over them and call them dealt with.
        """
        if not self._keep(self._consumer.consume(1, wait)):
            return
        self._keep(self._consumer.consume(_CHUNK, 0))

    def _keep(self, messages: list[Any]) -> bool:
        """Put messages where they wait to be handed out; says whether there were any."""
        fault: ChimeraError | None = None
        for message in messages:
            error = message.error()
            if error is None:
                self._health.works()
                self._waiting[message.partition()].append(message)
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                partition = message.partition()
                self._lost[partition] = PositionLost(
                    f"{self._topic}/{partition}: {error.str()}",
                    partition=partition,
                    position=message.offset(),
                )
            elif error.code() != KafkaError._PARTITION_EOF:
                fault = translate(error, self._topic)
        if fault:
            raise fault
        return bool(messages)

    def _hand_out(self, max_records: int, max_bytes: int) -> list[Received]:
        """What was taken and fits, starting with another partition each time."""
        found: list[Received] = []
        with self._lock:
            max_bytes = min(max_bytes, self._limits.in_flight_bytes - self._in_flight())
            partitions = sorted(self._waiting)
            self._turn += 1
            for i in range(len(partitions)):
                partition = partitions[(self._turn + i) % len(partitions)]
                waiting = self._waiting[partition]
                while waiting and len(found) < max_records and max_bytes > 0:
                    if found and len(waiting[0].value() or b"") > max_bytes:
                        break
                    window = self._window(partition, waiting[0].offset())
                    if window.span >= self._limits.window_records:
                        break
                    message = waiting.popleft()
                    record = _received(message)
                    if window.hand(record.position, len(record.value)):
                        max_bytes -= len(record.value)
                        found.append(record)
        self._pause()
        return found

    def _in_flight(self) -> int:
        return sum(window.bytes for window in self._windows.values())

    def _window(self, partition: int, first: int) -> Window:
        if partition not in self._windows:
            self._windows[partition] = Window(first)
        return self._windows[partition]

    def _is_full(self) -> bool:
        with self._lock:
            return self._in_flight() >= self._limits.in_flight_bytes

    def _pause(self) -> None:
        """Take no more of partitions of which enough waits here."""
        full = [
            one
            for one, waiting in self._waiting.items()
            if len(waiting) >= _CHUNK and one not in self._paused
        ]
        if full:
            self._consumer.pause([TopicPartition(self._topic, one) for one in full])
            self._paused.update(full)

    def _resume(self) -> None:
        empty = [one for one in self._paused if not self._waiting[one]]
        if empty:
            self._consumer.resume([TopicPartition(self._topic, one) for one in empty])
            self._paused.difference_update(empty)

    def ack(self, records: Iterable[Received]) -> None:
        with self._lock:
            for record in records:
                window = self._windows.get(record.partition)
                if window and window.ack(record.position):
                    self._unsent[record.partition] = window.watermark

    def nack(self, records: Iterable[Received]) -> None:
        first: dict[int, int] = {}
        with self._reading:
            with self._lock:
                for record in records:
                    window = self._windows.get(record.partition)
                    if window and window.holds(record.position):
                        least = first.get(record.partition, record.position)
                        first[record.partition] = min(least, record.position)
                for partition, position in first.items():
                    self._windows[partition].rewind(position)
                    self._waiting[partition].clear()
            self._move(first)

    def seek(self, partition: int, position: int) -> None:
        if partition not in self._start:
            raise InvalidRequest(f"partition {partition} is not subscribed")
        with self._reading:
            with self._lock:
                self._windows.pop(partition, None)
                self._waiting[partition].clear()
                self._lost.pop(partition, None)
            self._move({partition: OFFSET_BEGINNING if position == EARLIEST else position})

    def _move(self, positions: Mapping[int, int]) -> None:
        """Read on from other offsets; what librdkafka has fetched of the old ones is dropped."""
        moved = [
            TopicPartition(self._topic, partition, position)
            for partition, position in positions.items()
            if partition not in self._unassigned
        ]
        for partition, position in positions.items():
            if partition in self._unassigned:
                self._start[partition] = position if position >= 0 else EARLIEST
        if moved:
            self._consumer.incremental_unassign(moved)
            self._consumer.incremental_assign(moved)
            self._paused.difference_update(positions)

    def _commit(self, wait: bool = False) -> None:
        """Tell the broker what is acknowledged."""
        now = time.monotonic()
        with self._lock:
            if not self._unsent or (not wait and now - self._sent_at < _COMMIT_S):
                return
            unsent, self._unsent = self._unsent, {}
            self._sent_at = now
        offsets = [TopicPartition(self._topic, one, at) for one, at in unsent.items()]
        if wait:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        else:
            self._consumer.commit(offsets=offsets, asynchronous=True)

    def _committed(self, error: KafkaError | None, offsets: Any) -> None:
        if error is not None:
            logger.warning("acknowledgements of %s were not stored: %s", self._topic, error)

    def close(self, timeout: float) -> None:
        if self._closed:
            return
        self._closed = True

        def leave() -> None:
            with self._reading:
                try:
                    self._commit(wait=True)
                except KafkaException as error:
                    logger.warning("last acknowledgements of %s: %s", self._topic, error)
                self._consumer.close()

        if not bounded(leave, timeout):
            logger.warning("leaving %s takes too long: it ends in the background", self._topic)


def _received(message: Any) -> Received:
    kind, stamp = message.timestamp()
    return Received(
        message.topic(),
        message.partition(),
        message.offset(),
        message.value() or b"",  # a tombstone is an empty record here
        message.key(),
        tuple((name, value or b"") for name, value in message.headers() or ()),
        0 if kind == TIMESTAMP_NOT_AVAILABLE else stamp,
    )
