"""The broker dies, is away, comes back: nothing that was answered is lost, nothing hangs."""

from __future__ import annotations

import os
import threading
import time

from chimera import errors
from chimera.bus.protocol import Bus, Received, Record, Subscription, Topic
from tests.conformance.bus_kit import (
    GROUP,
    SOON_S,
    Place,
    drain,
    fault,
    first_seen,
    insist,
    publish,
    records,
    take,
    texts,
    together,
)
from tests.servers.processes import wait_until

#: a longer outage than a suite has time for: CHIMERA_TEST_OUTAGE_S=60
AWAY_S = float(os.environ.get("CHIMERA_TEST_OUTAGE_S", "0"))
#: for all that was held up by it, seconds
DRAINED_S = 2 * SOON_S + AWAY_S


class Load:
    """Publishers that never give up, and a consumer that acknowledges all it sees."""

    def __init__(self, place: Place, topic: Topic) -> None:
        self._place = place
        self._topic = topic
        self._bus = place.bus()
        self.over = threading.Event()
        self.sent: dict[int, int] = {}  #: publisher → records that were answered
        self.seen: list[str] = []

    def publish(self, who: int) -> None:
        count = 0
        while not self.over.is_set():
            batch = [f"{who}.{count + i}" for i in range(10)]
            sent = records(self._topic, batch, who % 2, size=500)
            insist(self._bus, sent, within_s=DRAINED_S)
            count += 10
        self.sent[who] = count

    def consume(self, publishers: int) -> None:
        subscription = self._place.bus().subscribe(self._topic, GROUP)
        end = time.monotonic() + DRAINED_S
        while time.monotonic() < end:
            try:
                found = subscription.fetch(100, 2**20, 0.5)
            except errors.ChimeraError:
                continue
            self.seen += texts(found)
            subscription.ack(found)
            if len(self.sent) == publishers and len(set(self.seen)) == sum(self.sent.values()):
                return


def closing_is_bounded(bus: Bus, subscription: Subscription, got: list[Received]) -> None:
    """While the broker is away, with a publish under way and acknowledgements to tell."""
    topic = got[0].topic
    publishing = threading.Thread(
        target=bus.publish,
        args=([Record(topic, 0, b"x")] * 100, SOON_S),
        daemon=True,
    )
    publishing.start()
    subscription.ack(got)
    bus.close(2.0)
    publishing.join(SOON_S / 2)
    assert not publishing.is_alive(), "a publish ends with its bus, not with its deadline"


class OutageSuite:
    """What cannot be written now is written later."""

    def test_an_outage_under_load_loses_nothing_and_drains(self, place: Place):
        load = Load(place, place.topic(2))

        def outage() -> None:
            wait_until(lambda: len(load.seen) >= 100, "load before the outage")
            place.down()
            time.sleep(AWAY_S or place.away_s)  # the test is of a time without a broker
            place.up()
            seen = len(load.seen)
            wait_until(lambda: len(load.seen) > seen, "records after the outage")
            load.over.set()

        publishers = [lambda who=who: load.publish(who) for who in range(3)]
        together([outage, lambda: load.consume(3), *publishers])
        assert min(load.sent.values()) > 0
        for who, count in load.sent.items():
            mine = [int(text.split(".")[1]) for text in load.seen if text.startswith(f"{who}.")]
            assert first_seen(mine) == list(range(count)), "in order, none lost"


class FaultSuite(OutageSuite):
    """A bus reconnects for ever."""

    def test_what_was_answered_survives_the_brokers_death(self, place: Place):
        topic, bus = place.topic(2), place.bus()
        publish(bus, [r for i in range(200) for r in records(topic, [i], i % 2)])
        first = bus.subscribe(topic, GROUP)
        got = take(first, 100)
        first.ack(got[:50])
        place.down()
        place.up()
        first.close(SOON_S)
        left = {str(i) for i in range(200)} - set(texts(got[:50]))
        # what was in flight too; a queue that was left while it started may keep its reader a while
        seen = first_seen(drain(bus.subscribe(topic, GROUP), left, 2 * SOON_S))
        for partition in (0, 1):
            order = [int(text) for text in seen if int(text) % 2 == partition]
            assert order == sorted(order)

    def test_a_broker_that_is_away_is_waited_for(self, place: Place):
        topic, old = place.topic(), place.bus()
        publish(old, records(topic, range(10)))
        leaving = old.subscribe(topic, GROUP)
        got = take(leaving, 5)
        place.down()
        closing_is_bounded(old, leaving, got)
        bus = place.bus()
        subscription = bus.subscribe(topic, GROUP)
        began = time.monotonic()
        assert isinstance(bus.publish(records(topic, ["a"]), 1.0)[0], errors.BusUnavailable)
        for call in (
            lambda: subscription.fetch(1, 1, 1.0),
            lambda: bus.check([topic], 1.0),
            lambda: bus.provision([topic], 1.0),
            lambda: bus.lag(topic, GROUP, 1.0),
        ):
            assert isinstance(fault(call), errors.BusUnavailable)
        assert time.monotonic() - began < SOON_S, "each wait has a deadline"
        place.up()
        insist(bus, records(topic, ["b"]))
        assert {"5", "b"} <= set(drain(subscription, {"b"}))
        assert not any(one.serious for one in bus.check([topic], SOON_S))
