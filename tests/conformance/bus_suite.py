"""What every bus does: the contract of `chimera.bus.protocol`, run against each."""

from __future__ import annotations

import time

from chimera import errors
from chimera.bus.protocol import EARLIEST, RECORD_MAX_BYTES, REMEMBERED, Kind, Record
from tests.conformance.bus_kit import (
    GROUP,
    OTHER,
    SHORT_S,
    SOON_S,
    Place,
    becomes,
    drain,
    fault,
    first_seen,
    nothing,
    publish,
    records,
    take,
    texts,
    together,
)


class PublishSuite:
    """Records go in, whole and in order."""

    def test_a_record_arrives_as_it_was_published(self, place: Place):
        topic, bus = place.topic(2), place.bus()
        headers = (("ce_id", b"1"), ("traceparent", b"00-\xff"))
        sent = Record(
            topic.name,
            1,
            b"\x00value",
            b"key",
            headers,
            int(time.time() * 1000) - 5_001,
            "audit.parse",
        )
        publish(bus, [sent])
        (got,) = take(bus.subscribe(topic, GROUP), 1)
        assert (got.topic, got.partition) == (topic.name, 1)
        assert (got.value, got.key, got.headers) == (sent.value, sent.key, headers)
        assert got.timestamp == sent.timestamp

    def test_bytes_are_never_looked_at(self, place: Place):
        topic, bus = place.topic(), place.bus()
        odd = [
            b"",
            b"\x00",
            b"\xff" * 9,
            b'{"half": ',
            bytes(range(256)),
            b"\x00\x00\x00\x00\x07Obj",
        ]
        publish(bus, [Record(topic.name, 0, value, headers=(("x", value),)) for value in odd])
        got = take(bus.subscribe(topic, GROUP), len(odd))
        assert [one.value for one in got] == odd
        assert [one.headers for one in got] == [(("x", value),) for value in odd]
        publish(bus, records(topic, ["after"]))

    def test_a_record_without_a_time_gets_that_of_its_publishing(self, place: Place):
        topic, bus = place.topic(), place.bus()
        before = int(time.time() * 1000)
        publish(bus, records(topic, ["a"]))
        (got,) = take(bus.subscribe(topic, GROUP), 1)
        assert before - 1000 <= got.timestamp <= time.time() * 1000 + 1000

    def test_a_partition_keeps_the_order_of_publishing(self, place: Place):
        topic, bus = place.topic(3), place.bus()
        for start in range(0, 240, 30):
            publish(bus, [r for i in range(start, start + 30) for r in records(topic, [i], i % 3)])
        got = take(bus.subscribe(topic, GROUP), 240)
        for partition in range(3):
            part = [one for one in got if one.partition == partition]
            assert texts(part) == [str(i) for i in range(240) if i % 3 == partition]
            assert [one.position for one in part] == sorted(one.position for one in part)

    def test_many_publish_at_once_and_nothing_is_lost(self, place: Place):
        topic, bus = place.topic(2), place.bus()

        def publisher(who: int):
            return lambda: [
                publish(bus, records(topic, [f"{who}.{i}.{j}" for j in range(10)], who % 2))
                for i in range(4)
            ]

        together([publisher(who) for who in range(6)])
        got = texts(take(bus.subscribe(topic, GROUP), 240))
        for who in range(6):
            mine = [text for text in got if text.startswith(f"{who}.")]
            assert mine == [f"{who}.{i}.{j}" for i in range(4) for j in range(10)]

    def test_the_largest_record_passes_and_a_larger_one_is_refused_alone(self, place: Place):
        topic, bus = place.topic(), place.bus()
        large = records(topic, ["large"], size=RECORD_MAX_BYTES)
        over = records(topic, ["over"], size=RECORD_MAX_BYTES + 1)
        answers = bus.publish([*records(topic, ["a"]), *over, *large, *over], SOON_S)
        assert [type(one) for one in answers] == [
            type(None), errors.RecordTooLarge, type(None), errors.RecordTooLarge,
        ]  # fmt: skip
        assert answers[1].details == {"size": RECORD_MAX_BYTES + 1, "limit": RECORD_MAX_BYTES}
        publish(bus, records(topic, ["z"]))
        subscription = bus.subscribe(topic, GROUP)
        got = take(subscription, 3)
        assert texts(got) == ["a", "large", "z"]
        assert len(got[1].value) == RECORD_MAX_BYTES
        subscription.ack(got)
        assert nothing(subscription)

    def test_more_than_may_be_under_way_waits_its_turn(self, place: Place):
        topic, bus = place.topic(), place.bus(publish_bytes=100_000)
        publish(bus, records(topic, range(40), size=30_000))
        assert texts(take(bus.subscribe(topic, GROUP), 40)) == [str(i) for i in range(40)]

    def test_what_is_not_provisioned_is_refused_and_works_once_it_is(self, place: Place):
        topic, bus = place.topic(2, provision=False), place.bus()
        assert isinstance(bus.publish(records(topic, ["a"]), SOON_S)[0], errors.TopicMissing)
        subscription = bus.subscribe(topic, GROUP)
        assert isinstance(fault(lambda: subscription.fetch(1, 1, 2.0)), errors.TopicMissing)
        assert [one.subject for one in bus.check([topic], SOON_S)] == [topic.name]
        assert bus.provision([topic], SOON_S) == [topic.name]
        assert bus.provision([topic], SOON_S) == []
        assert not any(one.serious for one in bus.check([topic], SOON_S))
        answers = bus.publish([*records(topic, ["b"], 1), *records(topic, ["c"], 2)], SOON_S)
        assert answers[0] is None
        assert isinstance(answers[1], errors.TopicMissing)
        assert texts(take(subscription, 1)) == ["b"]

    def test_a_topic_of_another_shape_is_refused(self, place: Place):
        topic = place.topic(2)
        other = type(topic)(topic.name, 3, topic.kind, topic.groups)
        refused = fault(lambda: place.bus().provision([other], SOON_S))
        assert isinstance(refused, errors.InvalidRequest)
        assert "2 partitions, not 3" in refused.message


class FetchSuite:
    """Records come out, as many as are wanted and of whom they are wanted."""

    def test_nothing_comes_from_nothing(self, place: Place):
        subscription = place.bus().subscribe(place.topic(), GROUP)
        assert nothing(subscription)
        assert subscription.fetch(10, 1000, 0) == []

    def test_a_waiting_fetch_gets_what_comes(self, place: Place):
        topic, bus = place.topic(), place.bus()
        subscription = bus.subscribe(topic, GROUP)
        assert nothing(subscription)
        got = []
        together([
            lambda: got.extend(take(subscription, 1)),
            lambda: publish(bus, records(topic, ["a"])),
        ])  # fmt: skip
        assert texts(got) == ["a"]

    def test_a_fetch_keeps_its_bounds_but_one_record_always_passes(self, place: Place):
        topic, bus = place.topic(), place.bus()
        publish(bus, records(topic, range(10), size=1000))
        subscription = bus.subscribe(topic, GROUP)
        assert len(take(subscription, 2)) == 2
        assert len(subscription.fetch(3, 2**30, SOON_S)) <= 3
        left = 5 if place.seeks else 4
        while left > 4:
            left -= len(subscription.fetch(left - 4, 2**30, SHORT_S)) or left
        assert 1 <= len(subscription.fetch(10, 2500, SOON_S)) <= 2
        assert len(subscription.fetch(10, 10, SOON_S)) == 1

    def test_only_the_asked_partitions_are_read(self, place: Place):
        topic, bus = place.topic(3), place.bus()
        publish(bus, [r for i in range(9) for r in records(topic, [i], i % 3)])
        subscription = bus.subscribe(topic, GROUP, {0: REMEMBERED, 2: REMEMBERED})
        got = take(subscription, 6)
        assert {one.partition for one in got} == {0, 2}
        assert nothing(subscription)

    def test_each_group_of_a_stream_gets_all_of_it(self, place: Place):
        topic = place.topic(2, Kind.EVENTS, (GROUP, OTHER))
        bus = place.bus()
        publish(bus, [r for i in range(6) for r in records(topic, [i], i % 2)])
        for group in (GROUP, OTHER):
            subscription = bus.subscribe(topic, group)
            got = take(subscription, 6)
            subscription.ack(got)
            assert sorted(texts(got)) == [str(i) for i in range(6)]
            assert {one.partition for one in got} == {0, 1}

    def test_who_is_no_group_of_the_topic_is_refused(self, place: Place):
        topic, bus = place.topic(provision=False), place.bus()
        assert isinstance(fault(lambda: bus.subscribe(topic, "x")), errors.InvalidRequest)

    def test_closed_things_say_so(self, place: Place):
        topic, bus = place.topic(), place.bus()
        subscription = bus.subscribe(topic, GROUP)
        bus.close(SOON_S)
        assert isinstance(fault(lambda: subscription.fetch(1, 1, 0)), errors.BusUnavailable)
        assert isinstance(bus.publish(records(topic, ["a"]), 0.1)[0], errors.BusUnavailable)


class PositionSuite:
    """A log can be read again; queues say that they cannot."""

    def test_a_subscription_starts_where_it_is_told(self, place: Place):
        topic, bus = place.topic(), place.bus()
        publish(bus, records(topic, range(6)))
        first = bus.subscribe(topic, GROUP)
        got = take(first, 6)
        first.ack(got[:3])
        first.close(SOON_S)
        second = bus.subscribe(topic, GROUP, {0: got[4].position})
        if not place.seeks:
            assert texts(take(second, 3)) == ["3", "4", "5"]
            assert isinstance(fault(lambda: second.seek(0, 0)), errors.InvalidRequest)
            return
        assert texts(take(second, 2)) == ["4", "5"]
        second.seek(0, EARLIEST)
        assert texts(take(second, 6)) == [str(i) for i in range(6)]
        second.seek(0, got[5].position)
        assert texts(take(second, 1)) == ["5"]

    def test_trimmed_records_are_gone_and_a_reader_of_them_is_told(self, place: Place):
        topic, bus = place.topic(), place.bus()
        publish(bus, records(topic, range(6)))
        first = bus.subscribe(topic, GROUP)
        got = take(first, 6)
        bus.trim(topic.name, {0: got[4].position}, SOON_S)
        if not place.seeks:
            return  # acknowledging is what trims a queue
        assert texts(take(bus.subscribe(topic, GROUP, {0: EARLIEST}), 2)) == ["4", "5"]
        late = bus.subscribe(topic, GROUP, {0: got[1].position})
        for _ in range(2):
            refused = fault(lambda: late.fetch(1, 1, 2.0))
            assert isinstance(refused, errors.PositionLost)
            assert refused.details == {"partition": 0, "position": got[1].position}
        late.seek(0, EARLIEST)
        assert texts(take(late, 2)) == ["4", "5"]

    def test_lag_is_what_is_not_acknowledged(self, place: Place):
        topic, bus = place.topic(2), place.bus()
        publish(bus, [*records(topic, range(5), 0), *records(topic, range(3), 1)])
        subscription = bus.subscribe(topic, GROUP)
        got = take(subscription, 8)
        subscription.ack([one for one in got if one.partition == 0][:4])
        subscription.close(SOON_S)
        # a queue takes back what the reader held when it learns of its end
        becomes(lambda: bus.lag(topic, GROUP, SOON_S), {0: 1, 1: 3})

    def test_the_same_bytes_twice_are_two_records(self, place: Place):
        topic, bus = place.topic(), place.bus()
        publish(bus, records(topic, ["a", "a"]))
        publish(bus, records(topic, ["a"]))
        assert drain(bus.subscribe(topic, GROUP), {"a"})
        again = take(bus.subscribe(topic, GROUP, {0: EARLIEST}), 3) if place.seeks else None
        assert again is None or first_seen(texts(again)) == ["a"]
