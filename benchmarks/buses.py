"""What a bus itself carries, without a swarm: records the size of frames, and single ones."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.common import Document
from benchmarks.latency import timed_ms
from chimera.bus.connect import connect
from chimera.bus.protocol import Bus, Kind, Record, Subscription, Topic

GROUP = "bench"
#: what is published at once: a full frame's weight, or a record a task
SHAPES = {"frames of 95 kB": (95_000, 64), "records of 300 B": (300, 2_000)}
PARTITIONS = 2
WAIT_S = 60.0


def measure(document: Document, name: str, url: str, seconds: float, singles: int) -> None:
    """Add a bus's figures: records a second in and out, and one record there and back."""
    bus = connect(url)
    try:
        for shape, (size, batch) in SHAPES.items():
            topic, subscription = _opened(bus)
            published, took = _publish(bus, topic, size, batch, seconds)
            document.add(f"{name}, bus alone: {shape}, published", "/s", [published / took])
            took = _fetch(subscription, published)
            document.add(f"{name}, bus alone: {shape}, fetched", "/s", [published / took])
        topic, subscription = _opened(bus)
        there = timed_ms(lambda: _there(bus, subscription, topic), singles)
        document.add(f"{name}, bus alone: one record, published to fetched", "ms", there)
    finally:
        bus.close(WAIT_S)


def _opened(bus: Bus) -> tuple[Topic, Subscription]:
    """A topic of its own, and its reader."""
    name = f"chimera.bench-{time.time_ns()}.events"
    topic = Topic(name, PARTITIONS, Kind.EVENTS, (GROUP,))
    bus.provision([topic], WAIT_S)
    return topic, bus.subscribe(topic, GROUP)


def _publish(bus: Bus, topic: Topic, size: int, batch: int, seconds: float) -> tuple[int, float]:
    """Publish for a while; returns how many records, in how many seconds."""
    records = [Record(topic.name, i % PARTITIONS, bytes(size)) for i in range(batch)]
    began, published = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        _insist(bus, records)
        published += batch
    return published, time.monotonic() - began


def _insist(bus: Bus, records: Sequence[Record]) -> None:
    if any(answers := bus.publish(records, WAIT_S)):
        raise RuntimeError(f"the bus refused a record: {answers}")


def _fetch(subscription: Subscription, count: int) -> float:
    """Fetch and acknowledge so many records; returns the seconds that it took."""
    began = time.monotonic()
    while count:
        found = subscription.fetch(1_000, 8 * 1024 * 1024, WAIT_S)
        if not found:
            raise RuntimeError(f"{count} records did not come")
        subscription.ack(found)
        count -= len(found)
    return time.monotonic() - began


def _there(bus: Bus, subscription: Subscription, topic: Topic) -> None:
    _insist(bus, [Record(topic.name, 0, bytes(300))])
    _fetch(subscription, 1)
