"""Events become records and come back; records from outside never do more than raise BadRecord."""

from __future__ import annotations

import json
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.contracts import Codec, Command, Envelope, OwnSchemas, schemas, wire
from chimera.contracts.events import kinds
from chimera.errors import BadRecord, Unavailable, UnknownSchema
from tests.contract.samples import EVENTS

OURS = Envelope(id="1", source="/chimera/demo")


def record(id, body):
    return wire.header(id) + body


class Texts(OwnSchemas):
    """Gives ids to any texts, counts what it is asked, and can be away."""

    def __init__(self):
        super().__init__(self._foreign)
        self.texts = {}
        self.asked = []
        self.is_away = False

    def add(self, text):
        """The id of a text of somebody else's."""
        self.texts[1000 + len(self.texts)] = text
        return max(self.texts)

    def _foreign(self, id):
        if id not in self.texts:
            raise UnknownSchema(f"no schema has the id {id}", id=str(id))
        return self.texts[id]

    def schema(self, id):
        self.asked.append(id)
        if self.is_away:
            raise Unavailable("the registry does not answer")
        return super().schema(id)


@pytest.fixture
def registry():
    return Texts()


@pytest.fixture
def codec(registry):
    return Codec(registry)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_every_event_comes_back_as_it_was(codec, event):
    message = codec.encode(event, OURS)
    assert codec.decode(message.value) == event
    assert message.envelope.type == event.ce_type


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_samples_leave_no_field_at_its_default(event):
    """Else the round trip above would prove less than it says."""
    for field in msgspec.structs.fields(event):
        assert field.default is msgspec.NODEFAULT or getattr(event, field.name) != field.default


@pytest.mark.parametrize("event", kinds())
def test_the_class_has_the_fields_and_defaults_of_the_newest_schema(event):
    fields = {field["name"]: field for field in schemas.newest(event).schema()["fields"]}
    mine = {field.name: field for field in msgspec.structs.fields(kinds()[event])}
    assert mine.keys() == fields.keys()
    for name, field in mine.items():
        has_default = (
            field.default is not msgspec.NODEFAULT or field.default_factory is not msgspec.NODEFAULT
        )
        assert has_default == ("default" in fields[name]), name
        if field.default not in (msgspec.NODEFAULT, ()):
            assert field.default == fields[name]["default"], name


def test_an_event_of_the_wrong_type_is_refused_by_name(codec):
    with pytest.raises(ValueError, match="no command: "):
        codec.encode_value(Command(type="t", payload=None))


def test_a_record_of_a_newer_writer_is_read(codec, registry):
    newer = schemas.newest("command_frame").schema()
    newer["fields"].append({"name": "colour", "type": "string", "default": "red"})
    id = registry.add(json.dumps(newer))
    body = b"\x02t" + b"\x02a" + b"\x02" + b"\x02F" + b"\x06red"
    event = codec.decode(record(id, body))
    assert (event.type, event.tenant, event.count, event.frame) == ("t", "a", 1, b"F")


def test_an_unknown_id_is_told_and_not_asked_for_at_once_again(registry):
    now = [0.0]
    codec = Codec(registry, clock=lambda: now[0])
    for _ in range(3):
        with pytest.raises(UnknownSchema) as told:
            codec.decode(record(4_000_000_000, b"x"))
    assert told.value.details == {"id": "4000000000"}
    assert registry.asked == [4_000_000_000]
    now[0] = 6.0
    with pytest.raises(UnknownSchema):
        codec.decode(record(4_000_000_000, b"x"))
    assert len(registry.asked) == 2


def test_a_registry_that_is_away_is_no_fault_of_the_record(codec, registry):
    value = codec.encode_value(EVENTS[0])
    registry.is_away = True
    with pytest.raises(Unavailable):
        codec.decode(value)
    registry.is_away = False
    assert codec.decode(value) == EVENTS[0]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "without a value"),
        (b"", "begins with nothing"),
        (b'{"type":"t"}', "begins with 7b 22"),
        (b"\x00\x00\x00", "begins with 00 00 00"),
        (b"\x01" + b"\x07" * 20, "no schema has the id 07070707-"),
    ],
)
def test_what_is_no_record_says_so(codec, value, said):
    with pytest.raises(BadRecord, match=said):
        codec.decode(value)


def test_a_schema_of_others_is_no_event(codec, registry):
    other = '{"type": "record", "name": "shop.Order", "fields": []}'
    for text in (other, '"string"', '{"type": "nonsense"}', "no json"):
        with pytest.raises(BadRecord, match="a record of "):
            codec.decode(record(registry.add(text), b""))


@pytest.mark.parametrize(
    "items",
    ['"null"', '{"type": "fixed", "name": "F", "size": 0}',
     '{"type": "record", "name": "E", "fields": [{"name": "n", "type": "null"}]}'],
)  # fmt: skip
def test_lists_that_could_be_without_end_are_not_read(codec, registry, items):
    schema = schemas.newest("command_frame").schema()
    endless = {"type": "array", "items": json.loads(items)}
    schema["fields"].append({"name": "x", "type": endless, "default": []})
    id = registry.add(json.dumps(schema))
    many = b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"
    with pytest.raises(BadRecord, match="without end"):
        codec.decode(record(id, b"\x02t\x02a\x02\x02F" + many))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_a_cut_or_longer_record_is_refused(codec, event):
    value = codec.encode_value(event)
    for end in range(len(value)):
        with pytest.raises(BadRecord):
            codec.decode(value[:end])
    with pytest.raises(BadRecord, match="1 bytes follow"):
        codec.decode(value + b"\0")


@given(kind=st.integers(1, len(EVENTS)), body=st.binary(max_size=60))
def test_no_bytes_raise_anything_but_bad_record(kind, body):
    try:
        Codec(OwnSchemas()).decode(struct.pack(">bI", 0, kind) + body)
    except BadRecord:
        pass
