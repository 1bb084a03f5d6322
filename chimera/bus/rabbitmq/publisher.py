"""Publishing to RabbitMQ: confirmed, mandatory, in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from aiormq.abc import AbstractChannel

from chimera.bus.limits import Budget
from chimera.bus.protocol import Record, too_large
from chimera.bus.rabbitmq.link import ANSWER_S, FAULTS, Link
from chimera.bus.rabbitmq.loop import Loop
from chimera.bus.rabbitmq.message import properties, routing_key
from chimera.errors import BusUnauthorized, BusUnavailable, ChimeraError, InvalidRequest

#: under way at once for one call; the rest of a large batch waits
_CHUNK_BYTES = 4 * 1024 * 1024
_PAUSE_S = 0.1
#: what publishes keeps its deadline by itself; a starved thread may be late with the answer
_SLACK_S = 5.0


class Publisher:
    """One channel a topic: a broker that refuses something closes the channel, and only that."""

    def __init__(self, loop: Loop, link: Link, publish_bytes: int) -> None:
        self._loop = loop
        self._link = link
        self._budget = Budget(publish_bytes)
        self._chunk_bytes = min(_CHUNK_BYTES, publish_bytes)
        self._channels: dict[str, asyncio.Task[AbstractChannel]] = {}

    def publish(self, records: Sequence[Record], timeout: float) -> list[ChimeraError | None]:
        end = time.monotonic() + timeout
        answers: list[ChimeraError | None] = [too_large(record) for record in records]
        chunk: list[int] = []
        size = 0
        stopped: ChimeraError | None = None
        for index in [i for i, answer in enumerate(answers) if answer is None]:
            if chunk and size + records[index].size > self._chunk_bytes:
                stopped = self._send(records, chunk, size, end, answers)
                chunk, size = [], 0
            if stopped:  # nothing overtakes a record that may not have been written
                answers[index] = stopped
                continue
            chunk.append(index)
            size += records[index].size
        if chunk:
            self._send(records, chunk, size, end, answers)
        return answers

    def _send(
        self,
        records: Sequence[Record],
        chunk: Sequence[int],
        size: int,
        end: float,
        answers: list[ChimeraError | None],
    ) -> ChimeraError | None:
        """Write some of the records; returns what keeps the later ones from being written."""
        fault: ChimeraError | None = None
        found: list[ChimeraError | None] = []
        if self._budget.take(size, end - time.monotonic()):
            sent = [records[index] for index in chunk]
            try:
                left = end - time.monotonic()
                found = self._loop.call(self._publish(sent, left), left + _SLACK_S)
            except ChimeraError as error:
                fault = error
            finally:
                self._budget.give_back(size)
        else:
            fault = BusUnavailable("too much is under way already")
        for index, answer in zip(chunk, found or [fault] * len(chunk), strict=True):
            answers[index] = answer
        return next((one for one in found if isinstance(one, BusUnavailable)), fault)

    async def _publish(
        self, records: Sequence[Record], timeout: float
    ) -> list[ChimeraError | None]:
        """Write records side by side; each channel keeps the order in which they are started."""
        end = time.monotonic() + timeout
        tasks = []
        for record in records:
            if record.topic not in self._channels:
                opening = asyncio.create_task(self._open(record.topic, end))
                opening.add_done_callback(lambda done: done.cancelled() or done.exception())
                self._channels[record.topic] = opening
            channel = self._channels[record.topic]
            tasks.append(asyncio.create_task(self._publish_one(channel, record)))
        try:
            _, late = await asyncio.wait(tasks, timeout=max(0.0, end - time.monotonic()))
        finally:
            for task in tasks:
                task.cancel()  # does nothing to those that are done
        answers: list[ChimeraError | None] = []
        for task in tasks:
            if task in late:
                answers.append(
                    BusUnavailable("no confirmation in time; a broker with an alarm gives none")
                )
            else:
                answers.append(task.result())
        return answers

    async def _open(self, topic: str, end: float) -> AbstractChannel:
        """A channel for one topic; waits for a broker that is away, not for one that refuses."""
        try:
            while True:
                try:
                    connection = await self._link.connection()
                    channel = await connection.channel(
                        publisher_confirms=True, on_return_raises=True, timeout=ANSWER_S
                    )
                    break
                except (*FAULTS, ChimeraError) as error:
                    fault = self._link.translate(error)
                    if isinstance(fault, BusUnauthorized) or time.monotonic() >= end:
                        raise fault from error
                    # without it a broken connection would never come to notice that it is
                    await asyncio.sleep(_PAUSE_S)
        except BaseException:
            self._channels.pop(topic, None)
            raise
        channel.closing.add_done_callback(partial(self._closed, topic, asyncio.current_task()))
        return channel

    def _closed(self, topic: str, opened: asyncio.Task[Any] | None, _: object) -> None:
        if self._channels.get(topic) is opened:
            del self._channels[topic]

    async def _publish_one(
        self, opened: asyncio.Task[AbstractChannel], record: Record
    ) -> ChimeraError | None:
        try:
            channel: Any = await asyncio.shield(opened)
            await channel.basic_publish(
                record.value,
                exchange=record.topic,
                routing_key=routing_key(record),
                properties=properties(record),
                mandatory=True,  # what no queue takes is not lost in silence
                wait=False,
            )
        except (*FAULTS, ChimeraError) as error:
            return self._link.translate(error, record.topic, record.partition)
        except (TypeError, ValueError) as error:
            return InvalidRequest(f"AMQP has no place for a header or subject: {error}")
        return None
