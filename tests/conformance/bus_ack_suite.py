"""Acknowledgements: what was not dealt with comes again, in order, and no more than is allowed."""

from __future__ import annotations

from chimera.bus.protocol import Kind
from tests.conformance.bus_kit import (
    GROUP,
    SOON_S,
    Place,
    drain,
    first_seen,
    nothing,
    publish,
    records,
    take,
    texts,
)


class AckSuite:
    """Delivery is at least once."""

    def test_what_is_acknowledged_does_not_come_again(self, place: Place):
        topic, bus = place.topic(), place.bus()
        publish(bus, records(topic, range(10)))
        first = bus.subscribe(topic, GROUP)
        first.ack(take(first, 10))
        first.close(SOON_S)
        publish(bus, records(topic, ["new"]))
        assert texts(take(bus.subscribe(topic, GROUP), 1)) == ["new"]

    def test_what_is_not_comes_again_in_order(self, place: Place):
        topic, bus = place.topic(2), place.bus()
        publish(bus, [r for i in range(20) for r in records(topic, [i], i % 2)])
        first = bus.subscribe(topic, GROUP)
        got = take(first, 20)
        first.ack([one for one in got if int(one.value) < 8])
        first.close(SOON_S)
        again = take(bus.subscribe(topic, GROUP), 12)
        for partition in (0, 1):
            part = [one for one in again if one.partition == partition]
            assert texts(part) == [str(i) for i in range(8, 20) if i % 2 == partition]

    def test_a_gap_comes_again_though_what_follows_is_acknowledged(self, place: Place):
        topic, bus = place.topic(), place.bus()
        publish(bus, records(topic, range(6)))
        first = bus.subscribe(topic, GROUP)
        got = take(first, 6)
        first.ack([got[5], got[0], got[3], got[1], got[4]])
        first.close(SOON_S)
        again = bus.subscribe(topic, GROUP)
        assert texts(take(again, 1)) == ["2"]

    def test_a_gap_that_is_closed_is_none(self, place: Place):
        topic, bus = place.topic(), place.bus()
        publish(bus, records(topic, range(4)))
        first = bus.subscribe(topic, GROUP)
        got = take(first, 4)
        first.ack(got[1:])
        first.ack(got[:1])
        first.close(SOON_S)
        assert nothing(bus.subscribe(topic, GROUP))

    def test_what_is_given_back_comes_again_with_what_followed_it(self, place: Place):
        topic, bus = place.topic(), place.bus()
        publish(bus, records(topic, range(8)))
        subscription = bus.subscribe(topic, GROUP)
        got = take(subscription, 6)
        subscription.ack([got[0], got[4]])
        subscription.nack([got[3], got[2]])
        again = take(subscription, 5)
        assert texts(again) == ["2", "3", "5", "6", "7"]
        assert [one.deliveries for one in again[:2]] == [1, 1] if place.seeks else [2, 2]
        subscription.ack([got[1]])
        subscription.ack(again)
        assert nothing(subscription)
        subscription.close(SOON_S)
        assert nothing(bus.subscribe(topic, GROUP))

    def test_an_old_acknowledgement_changes_nothing(self, place: Place):
        topic, bus = place.topic(), place.bus()
        publish(bus, records(topic, range(3)))
        first = bus.subscribe(topic, GROUP)
        old = take(first, 3)
        first.close(SOON_S)
        second = bus.subscribe(topic, GROUP)
        again = take(second, 3)
        first.ack(old)
        second.ack(again[:1])
        second.ack(again[:1])
        second.close(SOON_S)
        assert texts(take(bus.subscribe(topic, GROUP), 2)) == ["1", "2"]

    def test_no_more_is_in_flight_than_allowed(self, place: Place):
        topic, bus = place.topic(), place.bus(window_records=5)
        publish(bus, records(topic, range(20)))
        subscription = bus.subscribe(topic, GROUP)
        got = take(subscription, 5)
        assert nothing(subscription)
        subscription.ack(got[:2])
        more = take(subscription, 2)
        assert texts(more) == ["5", "6"]
        assert nothing(subscription)
        subscription.ack(got[2:] + more)
        assert drain(subscription, {str(i) for i in range(7, 12)})

    def test_no_more_bytes_are_in_flight_than_allowed(self, place: Place):
        topic, bus = place.topic(), place.bus(in_flight_bytes=10_000)
        publish(bus, records(topic, range(8), size=4_000))
        subscription = bus.subscribe(topic, GROUP)
        got = []
        while more := subscription.fetch(100, 2**30, 1.0):
            got += more
        assert 1 <= len(got) <= 3  # one may pass the bound; a broker may count records instead
        subscription.ack(got)
        assert first_seen(drain(subscription, {"7"})) == [str(i) for i in range(len(got), 8)]

    def test_a_stream_too_goes_on_where_its_group_stopped(self, place: Place):
        topic, bus = place.topic(2, Kind.EVENTS), place.bus()
        publish(bus, [r for i in range(6) for r in records(topic, [i], i % 2)])
        first = bus.subscribe(topic, GROUP)
        got = take(first, 6)
        first.ack([one for one in got if one.partition == 0])
        first.close(SOON_S)
        assert texts(take(bus.subscribe(topic, GROUP), 3)) == ["1", "3", "5"]

    def test_a_second_consumer_gets_what_the_first_leaves(self, place: Place):
        topic, bus, other = place.topic(), place.bus(), place.bus()
        publish(bus, records(topic, range(6)))
        first = bus.subscribe(topic, GROUP)
        got = take(first, 4)
        second = other.subscribe(topic, GROUP)
        if not place.seeks:
            assert nothing(second), "two active consumers would tear the order apart"
        first.ack(got[:2])
        first.close(SOON_S)
        seen = first_seen(drain(second, {"5"}))
        assert seen[-4:] == ["2", "3", "4", "5"]
