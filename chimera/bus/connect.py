"""From a URL to a bus."""

from __future__ import annotations

from chimera.bus.embedded import EmbeddedBus
from chimera.bus.limits import Limits
from chimera.bus.memory import MemoryBroker, MemoryBus
from chimera.bus.protocol import Bus
from chimera.bus.settings import parse
from chimera.errors import InvalidRequest


def connect(url: str, limits: Limits | None = None) -> Bus:
    """A bus; nothing is waited for, and a broker that is down shows in what is asked of the bus.

    Raises InvalidRequest for a URL that is wrong (`chimera.bus.settings` says what it may be), or
    when the package of a client is not installed.
    """
    settings = parse(url)
    match settings.scheme:
        case "memory":
            return MemoryBus(MemoryBroker(), limits)
        case "kafka" | "kafka+ssl":
            try:
                from chimera.bus.kafka import KafkaBus
            except ImportError as error:
                raise InvalidRequest(f"pip install 'chimera[kafka]': {error}") from error
            return KafkaBus(settings, limits)
        case "amqp" | "amqps":
            try:
                from chimera.bus.rabbitmq import RabbitBus
            except ImportError as error:
                raise InvalidRequest(f"pip install 'chimera[rabbitmq]': {error}") from error
            return RabbitBus(settings, limits)
        case _:
            return EmbeddedBus(settings.path, limits)
