"""CloudEvents attributes in the headers of Kafka and the properties of AMQP."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from chimera.contracts import Envelope, from_amqp, from_kafka
from chimera.contracts.cloudevents import amqp_properties, kafka_headers
from chimera.errors import BadRecord

FULL = Envelope(
    id="7/4", source="/chimera/demo/shard/3", type="io.chimera.task.result.v1", subject="tásk",
    time=1_764_252_000_123, dataschema="http://r/schemas/ids/3",
    extensions={"traceparent": "00-ab", "partitionkey": "k", "sequence": "7"},
)  # fmt: skip
BARE = [("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"/s"), ("ce_type", b"t")]


def test_kafka_headers_are_those_of_the_binding():
    assert dict(kafka_headers(FULL)) == {
        "content-type": b"application/avro", "ce_specversion": b"1.0", "ce_id": b"7/4",
        "ce_source": b"/chimera/demo/shard/3", "ce_type": b"io.chimera.task.result.v1",
        "ce_subject": "tásk".encode(), "ce_time": b"2025-11-27T14:00:00.123Z",
        "ce_dataschema": b"http://r/schemas/ids/3", "ce_traceparent": b"00-ab",
        "ce_partitionkey": b"k", "ce_sequence": b"7",
    }  # fmt: skip


def test_amqp_properties_are_those_of_the_binding():
    found = amqp_properties(FULL)
    assert found["cloudEvents:id"] == "7/4"
    assert found["cloudEvents:time"] == "2025-11-27T14:00:00.123Z"
    assert all(name.startswith("cloudEvents:") for name in found)


def test_both_come_back_whole():
    assert from_kafka(kafka_headers(FULL)) == FULL
    assert from_amqp(amqp_properties(FULL), "application/avro") == FULL


def test_amqp_is_read_with_the_other_prefix_and_its_own_types():
    properties = {
        "cloudEvents_specversion": b"1.0", "cloudEvents_id": 5, "cloudEvents_source": "/s",
        "cloudEvents_type": "t", "cloudEvents_flag": True, "other": 1,
        "cloudEvents_time": datetime(2025, 11, 27, 14, tzinfo=timezone.utc),
    }  # fmt: skip
    found = from_amqp(properties, None)
    assert found == Envelope("5", "/s", "t", time=1_764_252_000_000, extensions={"flag": "true"})


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2025-11-27T14:00:00Z", 0),
        ("2025-11-27t15:00:00.5+01:00", 500),
        ("2025-11-27T14:00:00.123456789Z", 123),
    ],
)
def test_times_are_read_as_rfc_3339_has_them(text, ms):
    found = from_kafka([*BARE, ("ce_time", text.encode())])
    assert found.time == 1_764_252_000_000 + ms


@pytest.mark.parametrize("headers", [None, [], [("content-type", b"x"), ("traceparent", b"y")]])
def test_a_record_without_attributes_is_no_event(headers):
    assert from_kafka(headers) is None


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        (BARE[1:], "specversion is ''"),
        ([("ce_specversion", b"0.3"), *BARE[1:]], "specversion is '0.3'"),
        (BARE[:1], "no id and no source and no type"),
        ([*BARE, ("ce_time", b"noon")], "isoformat"),
        ([*BARE, ("ce_subject", b"\xff")], "utf-8"),
        ([*BARE, ("ce_Not-A-Name", b"x")], "no name of an extension"),
    ],
)
def test_wrong_attributes_are_told(headers, said):
    with pytest.raises(BadRecord, match=f"CloudEvents attributes: .*{said}"):
        from_kafka(headers)


def test_an_envelope_needs_what_every_event_has():
    with pytest.raises(ValueError, match="an id and a source"):
        Envelope(id="", source="/s")
    with pytest.raises(ValueError, match="no name of an extension"):
        Envelope(id="1", source="/s", extensions={"Trace-Parent": "x"})
