"""The broker dies, is away, comes back: nothing that was answered is lost, nothing hangs."""

from __future__ import annotations

import os
import threading
import time

from chimera import errors
from chimera.bus.protocol import Topic
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

#: of the outage under load, seconds; CHIMERA_TEST_OUTAGE_S=60 for the long one
AWAY_S = float(os.environ.get("CHIMERA_TEST_OUTAGE_S", "8"))


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
            insist(self._bus, records(self._topic, batch, who % 2, size=500))
            count += 10
        self.sent[who] = count

    def consume(self, publishers: int) -> None:
        subscription = self._place.bus().subscribe(self._topic, GROUP)
        end = time.monotonic() + 2 * SOON_S
        while time.monotonic() < end:
            try:
                found = subscription.fetch(100, 2**20, 0.5)
            except errors.ChimeraError:
                continue
            self.seen += texts(found)
            subscription.ack(found)
            if len(self.sent) == publishers and len(set(self.seen)) == sum(self.sent.values()):
                return


class OutageSuite:
    """What cannot be written now is written later."""

    def test_an_outage_under_load_loses_nothing_and_drains(self, place: Place):
        load = Load(place, place.topic(2))

        def outage() -> None:
            wait_until(lambda: len(load.seen) >= 100, "load before the outage")
            place.down()
            time.sleep(AWAY_S)  # the test is of a time without a broker
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
        subscription = bus.subscribe(topic, GROUP)
        got = take(subscription, 100)
        subscription.ack(got[:50])
        place.down()
        place.up()
        left = {str(i) for i in range(200)} - set(texts(got[:50]))
        seen = first_seen(drain(subscription, left - set(texts(got))))
        again = bus.subscribe(topic, GROUP)
        subscription.close(SOON_S)
        insist(bus, records(topic, ["after"], 1))
        seen += drain(again, {"after"})
        for partition in (0, 1):
            order = [int(text) for text in seen if text != "after" and int(text) % 2 == partition]
            assert first_seen(order) == sorted(set(order))

    def test_what_was_in_flight_comes_again_after_the_brokers_death(self, place: Place):
        topic, bus = place.topic(), place.bus()
        publish(bus, records(topic, range(50)))
        first = bus.subscribe(topic, GROUP)
        take(first, 30)
        place.down()
        place.up()
        first.close(SOON_S)
        assert texts(take(bus.subscribe(topic, GROUP), 50)) == [str(i) for i in range(50)]

    def test_a_broker_that_is_down_at_start_is_waited_for(self, place: Place):
        topic = place.topic()
        place.down()
        bus = place.bus()
        subscription = bus.subscribe(topic, GROUP)
        began = time.monotonic()
        assert isinstance(bus.publish(records(topic, ["a"]), 1.0)[0], errors.BusUnavailable)
        assert isinstance(fault(lambda: subscription.fetch(1, 1, 1.0)), errors.BusUnavailable)
        assert isinstance(fault(lambda: bus.check([topic], 1.0)), errors.BusUnavailable)
        assert isinstance(fault(lambda: bus.provision([topic], 1.0)), errors.BusUnavailable)
        assert isinstance(fault(lambda: bus.lag(topic, GROUP, 1.0)), errors.BusUnavailable)
        assert time.monotonic() - began < SOON_S, "each wait has a deadline"
        place.up()
        insist(bus, records(topic, ["b"]))
        assert drain(subscription, {"b"})
        assert not any(one.serious for one in bus.check([topic], SOON_S))

    def test_closing_is_bounded_while_the_broker_is_away(self, place: Place):
        topic, bus = place.topic(), place.bus()
        subscription = bus.subscribe(topic, GROUP)
        publish(bus, records(topic, range(10)))
        got = take(subscription, 5)
        place.down()
        publishing = threading.Thread(
            target=bus.publish, args=(records(topic, range(100)), SOON_S), daemon=True
        )
        publishing.start()
        subscription.ack(got)
        bus.close(2.0)
        publishing.join(SOON_S / 2)
        assert not publishing.is_alive(), "a publish ends with its bus, not with its deadline"
        place.up()
        assert texts(take(place.bus().subscribe(topic, GROUP), 1)) in (["0"], ["5"])
