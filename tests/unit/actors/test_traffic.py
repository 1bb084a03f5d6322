"""What a leader knows of the broker that its tasks come through."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from chimera.actors import traffic
from chimera.actors.traffic import Traffic
from chimera.bus.memory import MemoryBroker, MemoryBus
from chimera.bus.protocol import Record
from chimera.contracts.codec import Codec
from chimera.contracts.own import OwnSchemas
from chimera.traffic.intake import Broker
from chimera.traffic.records import Writer
from chimera.traffic.topics import topics
from tests.servers.processes import wait_until

TOPICS = topics("t", 4)


def test_how_much_waits_on_the_broker_is_told_of_shards_that_are_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker, codec = MemoryBroker(), Codec(OwnSchemas())
    bus = MemoryBus(broker)
    bus.provision(tuple(TOPICS), 1.0)
    bus.publish([Record(TOPICS.commands.name, n, b"x") for n in (1, 1, 2)], 1.0)
    opened = Broker(bus, TOPICS, codec, Writer(codec), "/chimera/t/leader")
    monkeypatch.setattr(traffic, "open_broker", lambda *_, **__: opened)
    monkeypatch.setattr(traffic, "LAG_S", 0.01)
    owned = {1: 7, 3: 7}
    config: Any = SimpleNamespace(bus="memory:", swarm="t", shards=4, readers=(), registry="")
    shards: Any = SimpleNamespace(owned=lambda: owned)
    waiters: Any = None
    found = Traffic(config, "leader", shards, waiters, lambda *_: None, lambda _: None)
    try:
        wait_until(lambda: found.waiting() == {1: 2, 3: 0}, "what waits to be known")
        owned[2] = 1
        assert found.waiting() == {1: 2, 2: 1, 3: 0}
        broker.crash()
        wait_until(lambda: found.waiting() == {}, "what is not known to be forgotten")
    finally:
        found.stop()
