"""What an operator asks of RabbitMQ: exchanges and queues made, measured and looked at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from aiormq import exceptions
from aiormq.abc import AbstractChannel

from chimera import names
from chimera.bus.protocol import Finding, Kind, Topic, missing, wrong_partitions
from chimera.bus.rabbitmq.link import ANSWER_S, FAULTS, Link
from chimera.errors import ChimeraError

T = TypeVar("T")

#: so often a message may be given back; one that kills its readers must not do so for ever. It is
#: far above what restarts and failovers make of a sound one
DELIVERY_LIMIT = 100


class Admin:
    """Declares and looks; each request on a channel of its own, as a refusal closes it."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def provision(self, topics: Sequence[Topic]) -> list[str]:
        changed = []
        for topic in topics:
            there = await self._partitions(topic)
            if there not in (0, topic.partitions):
                raise wrong_partitions(topic, there)
            absent = [queue for queue in _queues(topic) if await self._count(queue) is None]
            if absent or not await self._is_there(topic.name):
                changed.append(topic.name)
            await self._on_channel(partial(_declare, topic))
        return changed

    async def lag(self, topic: Topic, group: str) -> dict[int, int]:
        found = {}
        for partition in _parts(topic):
            count = await self._count(names.queue(topic.name, group, partition))
            if count is None:
                raise missing(topic.name, partition)
            found[partition or 0] = count
        return found

    async def check(self, topics: Sequence[Topic], production: bool) -> list[Finding]:
        found = []
        for topic in topics:
            if not await self._is_there(topic.name):
                found.append(
                    Finding(True, topic.name, "the topic is not there", "chimera bus provision")
                )
                continue
            there = await self._partitions(topic)
            if there not in (0, topic.partitions):
                problem = f"{there} partitions instead of {topic.partitions}"
                remedy = wrong_partitions(topic, there).message
                found.append(Finding(True, topic.name, problem, remedy))
                continue
            found += [
                Finding(True, queue, "the queue is not there", "chimera bus provision")
                for queue in _queues(topic)
                if await self._count(queue) is None
            ]
            if parked := await self._count(_parking(topic)):
                problem = f"{parked} messages were given back {DELIVERY_LIMIT} times"
                remedy = f"look at them, then move them to the exchange {topic.name} (shovel)"
                found.append(Finding(True, _parking(topic), problem, remedy))
        if production:
            remedy = "rabbitmq-queues quorum_status QUEUE shows them; add nodes, then grow queues"
            problem = (
                "AMQP does not tell how many nodes hold a queue: three survive the loss of one"
            )
            found.append(Finding(False, "broker", problem, remedy))
        return found

    async def _partitions(self, topic: Topic) -> int:
        """How many partitions of commands there are: queues of its first group."""
        if topic.kind is Kind.EVENTS:
            return 0  # one queue, however many
        count = 0
        while await self._count(names.queue(topic.name, topic.groups[0], count)) is not None:
            count += 1
        return count

    async def _count(self, queue: str) -> int | None:
        """Messages that wait in a queue; None if it is not there."""
        try:
            answer = await self._on_channel(
                lambda channel: channel.queue_declare(queue, passive=True)
            )
        except exceptions.ChannelNotFoundEntity:
            return None
        return int(answer.message_count or 0)

    async def _is_there(self, exchange: str) -> bool:
        try:
            await self._on_channel(lambda channel: channel.exchange_declare(exchange, passive=True))
        except exceptions.ChannelNotFoundEntity:
            return False
        return True

    async def _on_channel(self, ask: Callable[[AbstractChannel], Awaitable[Any]]) -> Any:
        connection = await self._link.connection()
        channel = await connection.channel(publisher_confirms=False, timeout=ANSWER_S)
        try:
            return await ask(channel)
        finally:
            if not channel.is_closed:
                await channel.close()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Await one of the above; the client's errors become ours."""
        try:
            return await work
        except (*FAULTS, ChimeraError) as error:
            raise self._link.translate(error) from error


def _parts(topic: Topic) -> list[int | None]:
    return [None] if topic.kind is Kind.EVENTS else list(range(topic.partitions))


def _queues(topic: Topic) -> list[str]:
    queues = [
        names.queue(topic.name, group, part) for group in topic.groups for part in _parts(topic)
    ]
    return queues + ([_parking(topic)] if topic.kind is Kind.COMMANDS else [])


def _parking(topic: Topic) -> str:
    """Where commands go that were given back too often: nothing accepted is dropped."""
    return f"{topic.name}.undeliverable"


def arguments(topic: Topic) -> dict[str, Any]:
    """What a group's queue is declared with."""
    common: dict[str, Any] = {
        "x-queue-type": "quorum",
        "x-single-active-consumer": True,
        "x-delivery-limit": DELIVERY_LIMIT,
    }
    if topic.replicas:
        common["x-quorum-initial-group-size"] = topic.replicas
    if topic.kind is Kind.EVENTS:
        return {**common, "x-message-ttl": topic.retention_ms}
    return {
        **common,
        "x-overflow": "reject-publish",  # at-least-once dead-lettering wants it
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": _parking(topic),
        "x-dead-letter-strategy": "at-least-once",
    }


async def _declare(topic: Topic, channel: AbstractChannel) -> None:
    """All of a topic; what is there already must be the same."""
    await channel.exchange_declare(topic.name, exchange_type="topic", durable=True)
    if topic.kind is Kind.COMMANDS:
        await channel.queue_declare(
            _parking(topic), durable=True, arguments={"x-queue-type": "quorum"}
        )
    for group in topic.groups:
        for part in _parts(topic):
            queue = names.queue(topic.name, group, part)
            await channel.queue_declare(queue, durable=True, arguments=arguments(topic))
            if part is None:
                for partition in range(topic.partitions):  # another is refused, as on Kafka
                    await channel.queue_bind(queue, topic.name, f"{partition}.#")
            else:
                await channel.queue_bind(queue, topic.name, f"{part}.#")
