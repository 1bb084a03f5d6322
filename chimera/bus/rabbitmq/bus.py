"""One client of RabbitMQ: a connection to publish, one to read, and an administrator."""

from __future__ import annotations

import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from chimera.bus.limits import Limits
from chimera.bus.protocol import Finding, Record, Subscription, Topic
from chimera.bus.rabbitmq.admin import Admin
from chimera.bus.rabbitmq.link import FAULTS, Link
from chimera.bus.rabbitmq.loop import Loop
from chimera.bus.rabbitmq.publisher import Publisher
from chimera.bus.rabbitmq.subscription import RabbitSubscription
from chimera.bus.settings import BusSettings
from chimera.errors import ChimeraError

T = TypeVar("T")


class RabbitBus:
    """A `chimera.bus.protocol.Bus`.

    A broker short of memory or disk stops reading from connections that publish: each subscription
    has one of its own, so that the backlog can shrink.
    """

    seeks = False

    def __init__(self, settings: BusSettings, limits: Limits | None = None) -> None:
        self._settings = settings
        self._limits = limits or Limits()
        self._loop = Loop()
        self._publishing = Link(settings)
        self._asking = Link(settings)
        self._publisher = Publisher(self._loop, self._publishing, self._limits.publish_bytes)
        self._admin = Admin(self._asking)
        self._subscriptions: list[RabbitSubscription] = []

    def publish(self, records: Sequence[Record], timeout: float) -> list[ChimeraError | None]:
        return self._publisher.publish(records, timeout)

    def subscribe(
        self, topic: Topic, group: str, start: Mapping[int, int] | None = None
    ) -> Subscription:
        made = RabbitSubscription(
            self._loop, Link(self._settings), topic, group, start, self._limits
        )
        self._subscriptions.append(made)
        return made

    def provision(self, topics: Sequence[Topic], timeout: float) -> list[str]:
        return self._ask(self._admin.provision(topics), timeout)

    def trim(self, topic: str, below: Mapping[int, int], timeout: float) -> None:
        """Nothing: what is acknowledged is gone."""

    def lag(self, topic: Topic, group: str, timeout: float) -> dict[int, int]:
        return self._ask(self._admin.lag(topic, group), timeout)

    def check(
        self, topics: Sequence[Topic], timeout: float, production: bool = False
    ) -> list[Finding]:
        return self._ask(self._admin.check(topics, production), timeout)

    def _ask(self, work: Coroutine[Any, Any, T], timeout: float) -> T:
        return self._loop.call(self._admin.run(work), timeout)

    def close(self, timeout: float) -> None:
        end = time.monotonic() + timeout
        for subscription in self._subscriptions:
            subscription.close(max(0.1, end - time.monotonic()))
        try:
            for link in (self._publishing, self._asking):
                self._loop.call(link.close(), max(0.1, end - time.monotonic()))
        except (*FAULTS, ChimeraError):
            pass  # it is away, or closed before
        self._loop.close(max(0.5, end - time.monotonic()))
