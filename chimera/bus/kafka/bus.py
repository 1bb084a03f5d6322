"""One client of a Kafka cluster: a publisher, subscriptions, and an administrator."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from chimera.bus.kafka.admin import Admin
from chimera.bus.kafka.client import Health
from chimera.bus.kafka.publisher import Publisher
from chimera.bus.kafka.subscription import KafkaSubscription
from chimera.bus.limits import Limits
from chimera.bus.protocol import Finding, Record, Subscription, Topic
from chimera.bus.settings import BusSettings
from chimera.errors import ChimeraError


class KafkaBus:
    """A `chimera.bus.protocol.Bus`."""

    seeks = True

    def __init__(self, settings: BusSettings, limits: Limits | None = None) -> None:
        self._settings = settings
        self._limits = limits or Limits()
        health = Health(settings.shown)
        self._publisher = Publisher(settings, health, self._limits.publish_bytes)
        self._admin = Admin(settings, Health(settings.shown))
        self._subscriptions: list[KafkaSubscription] = []

    def publish(self, records: Sequence[Record], timeout: float) -> list[ChimeraError | None]:
        return self._publisher.publish(records, timeout)

    def subscribe(
        self, topic: Topic, group: str, start: Mapping[int, int] | None = None
    ) -> Subscription:
        made = KafkaSubscription(self._settings, topic, group, start, self._limits)
        self._subscriptions.append(made)
        return made

    def provision(self, topics: Sequence[Topic], timeout: float) -> list[str]:
        return self._admin.provision(topics, timeout)

    def trim(self, topic: str, below: Mapping[int, int], timeout: float) -> None:
        self._admin.trim(topic, below, timeout)

    def lag(self, topic: Topic, group: str, timeout: float) -> dict[int, int]:
        return self._admin.lag(topic, group, timeout)

    def check(
        self, topics: Sequence[Topic], timeout: float, production: bool = False
    ) -> list[Finding]:
        return self._admin.check(topics, timeout, production)

    def close(self, timeout: float) -> None:
        end = time.monotonic() + timeout
        for subscription in self._subscriptions:
            subscription.close(max(0.1, end - time.monotonic()))
        self._publisher.close(max(0.1, end - time.monotonic()))
