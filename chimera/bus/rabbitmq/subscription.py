"""Reading from RabbitMQ: queues with one active consumer, and a prefetch as the window."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiormq.abc import AbstractChannel, DeliveredMessage

from chimera import names
from chimera.bus.limits import Limits
from chimera.bus.protocol import Kind, Received, Topic
from chimera.bus.rabbitmq import message as messages
from chimera.bus.rabbitmq.link import ANSWER_S, FAULTS, Link
from chimera.bus.rabbitmq.loop import Loop
from chimera.bus.window import Window
from chimera.errors import BusUnavailable, ChimeraError, InvalidRequest

logger = logging.getLogger(__name__)

#: AMQP bounds what is in flight by number; a record is taken to weigh this much
_RECORD_BYTES = 128 * 1024
_ROUND_TRIP_S = 10.0
_PAUSE_S = 0.2


@dataclass(frozen=True, slots=True)
class _Delivery:
    queue: int  #: index of the queue that it came from
    tag: int
    message: DeliveredMessage
    partition: int

    @property
    def size(self) -> int:
        return len(self.message.body)

    def received(self, topic: str, position: int) -> Received:
        return Received(
            topic,
            self.partition,
            position,
            bytes(self.message.body),
            messages.key_of(self.message),
            messages.headers_of(self.message),
            messages.timestamp_of(self.message),
            messages.deliveries(self.message),
        )


class RabbitSubscription:
    """One connection, made again for ever; what was in flight on it is handed out again."""

    def __init__(
        self,
        loop: Loop,
        link: Link,
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
        parts: list[int | None] = [None]
        if topic.kind is Kind.COMMANDS:
            parts = list(sorted(start) if start else whole)
        self._partitions = parts
        self._queues = [names.queue(topic.name, group, part) for part in parts]
        self._loop = loop
        self._link = link
        self._topic = topic.name
        self._limits = limits
        most = max(1, limits.in_flight_bytes // _RECORD_BYTES // len(parts))
        self._prefetch = min(most, limits.window_records, 65_535)
        self._changed = threading.Condition()
        self._position = 0
        self._turn = 0
        self._closed = False
        self._fault: ChimeraError | None = BusUnavailable("not connected yet")
        self._channel: AbstractChannel | None = None
        self._tags: dict[int, str] = {}  #: queue → its consumer
        self._acks: set[Any] = set()
        self._forget()
        self._reader = loop.post(self._read_for_ever())

    def _forget(self) -> None:
        """Begin anew, as the broker does with a new channel."""
        self._ready: list[deque[_Delivery]] = [deque() for _ in self._queues]
        self._in_flight: dict[int, _Delivery] = {}
        self._flying = 0
        self._window = Window(1)  # of delivery tags

    async def _read_for_ever(self) -> None:
        while not self._closed:
            try:
                await self._session()
            except (*FAULTS, ChimeraError) as error:
                with self._changed:
                    self._fault = self._link.translate(error, self._topic)
                    self._changed.notify_all()
                await asyncio.sleep(_PAUSE_S)

    async def _session(self) -> None:
        """One connection with one channel, from its opening to its end."""
        try:
            connection = await self._link.connection()
            channel = await connection.channel(publisher_confirms=False, timeout=ANSWER_S)
            await channel.basic_qos(prefetch_count=self._prefetch, timeout=ANSWER_S)
            with self._changed:
                self._forget()
                self._channel = channel
            for queue in range(len(self._queues)):
                await self._consume(channel, queue)
            with self._changed:
                self._fault = None
            await asyncio.shield(channel.closing)
        finally:
            with self._changed:
                self._channel = None
                self._forget()
            await self._link.close()
        raise BusUnavailable("the channel was closed")

    async def _consume(self, channel: AbstractChannel, queue: int) -> None:
        # named by us: what is delivered, and given back, may come before the broker's answer
        self._tags[queue] = uuid.uuid4().hex
        await channel.basic_consume(
            self._queues[queue],
            partial(self._delivered, channel, queue),
            consumer_tag=self._tags[queue],
            timeout=ANSWER_S,
        )

    async def _delivered(
        self, channel: AbstractChannel, queue: int, message: DeliveredMessage
    ) -> None:
        delivery: Any = message.delivery
        tag: int = delivery.delivery_tag
        part = self._partitions[queue]
        partition = messages.partition_of(message) if part is None else part
        with self._changed:
            if channel is self._channel:
                self._window.hand(tag, len(message.body))
                self._ready[queue].append(_Delivery(queue, tag, message, partition))
                self._changed.notify_all()

    def fetch(self, max_records: int, max_bytes: int, timeout: float) -> list[Received]:
        end = time.monotonic() + timeout
        with self._changed:
            while True:
                found = [] if self._closed else self._hand_out(max_records, max_bytes)
                left = end - time.monotonic()
                if found:
                    return found
                if self._closed:
                    raise BusUnavailable("this subscription is closed")
                if left <= 0:
                    if self._fault:
                        raise self._fault
                    return []
                self._changed.wait(left)

    def _hand_out(self, max_records: int, max_bytes: int) -> list[Received]:
        """What was delivered and fits, starting with another queue each time."""
        found: list[Received] = []
        max_bytes = min(max_bytes, self._limits.in_flight_bytes - self._flying)
        self._turn += 1
        for i in range(len(self._ready)):
            ready = self._ready[(self._turn + i) % len(self._ready)]
            while ready and len(found) < max_records and max_bytes > 0:
                if found and ready[0].size > max_bytes:
                    break
                delivery = ready.popleft()
                max_bytes -= delivery.size
                self._flying += delivery.size
                self._in_flight[self._position] = delivery
                found.append(delivery.received(self._topic, self._position))
                self._position += 1
        return found

    def ack(self, records: Iterable[Received]) -> None:
        with self._changed:
            tags = [one.tag for one in map(self._settle, records) if one is not None]
            watermark = self._window.watermark
            channel = self._channel
            self._changed.notify_all()
        if channel is None or not tags:
            return
        # one answer for all below the watermark; it must name a tag that is still open
        below = max((tag for tag in tags if tag < watermark), default=0)
        alone = [tag for tag in tags if tag >= watermark]
        try:
            future = self._loop.post(_ack(channel, below, alone))
        except BusUnavailable:
            return  # closed: what is not acknowledged is handed out again
        self._acks.add(future)
        future.add_done_callback(self._acks.discard)

    def _settle(self, record: Received) -> _Delivery | None:
        """Take a record out of flight, if it is there."""
        delivery = self._in_flight.pop(record.position, None)
        if delivery is not None:
            self._flying -= delivery.size
            self._window.ack(delivery.tag)
        return delivery

    def nack(self, records: Iterable[Received]) -> None:
        with self._changed:
            first: dict[int, int] = {}  #: queue → position
            for record in records:
                if delivery := self._in_flight.get(record.position):
                    least = first.get(delivery.queue, record.position)
                    first[delivery.queue] = min(least, record.position)
            channel = self._channel
        if channel is None or not first:
            return
        try:
            self._loop.call(self._give_back(channel, first), _ROUND_TRIP_S)
        except (*FAULTS, ChimeraError) as error:
            logger.warning(
                "giving records of %s back: %s; the connection is closed", self._topic, error
            )
            self._loop.post(self._link.close())  # that gives back everything

    async def _give_back(self, channel: AbstractChannel, first: Mapping[int, int]) -> None:
        """Stop deliveries of the queues, return what was delivered, in order, and go on."""
        for queue, position in first.items():
            await channel.basic_cancel(self._tags[queue], timeout=ANSWER_S)
            with self._changed:
                late = sorted(
                    at
                    for at, delivery in self._in_flight.items()
                    if delivery.queue == queue and at >= position
                )
                back = [self._in_flight.pop(at) for at in late]
                self._flying -= sum(one.size for one in back)
                back += self._ready[queue]
                self._ready[queue].clear()
                for one in back:
                    self._window.ack(one.tag)
            for one in back:
                await channel.basic_nack(one.tag, requeue=True, wait=False)
            await self._consume(channel, queue)

    def seek(self, partition: int, position: int) -> None:
        raise InvalidRequest("RabbitMQ does not seek: it hands out what is not acknowledged")

    def close(self, timeout: float) -> None:
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        try:
            self._loop.call(self._leave(), timeout)
        except (*FAULTS, ChimeraError) as error:
            logger.warning("leaving %s: %s", self._topic, error)
        self._reader.cancel()

    async def _leave(self) -> None:
        if self._acks:
            await asyncio.wait([asyncio.wrap_future(one) for one in list(self._acks)])
        await self._link.close()


async def _ack(channel: AbstractChannel, up_to: int, alone: Iterable[int]) -> None:
    """Acknowledge all tags up to one, and some above; lost with the channel, and harmless then."""
    try:
        if up_to:
            await channel.basic_ack(up_to, multiple=True, wait=False)
        for tag in alone:
            await channel.basic_ack(tag, wait=False)
    except FAULTS as error:
        logger.info("acknowledgements are lost with their channel: %s", error)
