"""Events to records and back: Avro in Confluent's wire format, with CloudEvents attributes.

A codec knows no broker. It asks `Schemas` for a schema's id when it first writes an event of a
kind, and for a schema when it first meets an id; both are remembered for ever, since a registry
never gives an id a second meaning. An id that nobody knows is asked for again after a while.
"""

from __future__ import annotations

import io
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias
from uuid import UUID

import fastavro
import msgspec

from chimera.contracts import cloudevents, schemas, wire
from chimera.contracts.avro_writer import Write, compile_writer
from chimera.contracts.cloudevents import Envelope
from chimera.contracts.events import Event, kinds
from chimera.contracts.plain import is_weightless, parse
from chimera.errors import BadRecord, UnknownSchema

#: an unknown id is asked for again after so long, seconds: a flood of bad records is no flood of
#: questions
UNKNOWN_S = 5.0
#: unknown ids that are remembered
_UNKNOWN_MAX = 1_000

_Decode: TypeAlias = Callable[[memoryview], Event]


class Schemas(Protocol):
    """Where schemas have ids: a registry, as the codec sees it. May block on I/O."""

    def register(self, subject: str, schema: str) -> int:
        """The id of an Avro schema, which is registered if it is new."""

    def schema(self, id: int | UUID) -> str:
        """The Avro schema of an id or GUID. Raises UnknownSchema, Unavailable."""


@dataclass(frozen=True, slots=True)
class Message:
    """An event, ready to be given to a broker."""

    value: bytes
    envelope: Envelope

    @property
    def key(self) -> bytes | None:
        """What chooses the partition; None: any."""
        found = self.envelope.extensions.get("partitionkey")
        return None if found is None else found.encode()

    def kafka_headers(self) -> list[tuple[str, bytes]]:
        """Headers of a Kafka record."""
        return cloudevents.kafka_headers(self.envelope)

    def amqp_properties(self) -> dict[str, str]:
        """Application properties of an AMQP message, whose content type is the envelope's."""
        return cloudevents.amqp_properties(self.envelope)


class Codec:
    """Encodes and decodes every event. Safe to use from any thread."""

    def __init__(self, registry: Schemas, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        self._clock = clock
        self._writers: dict[str, tuple[bytes, Write]] = {}
        self._readers: dict[int | UUID, _Decode] = {}
        self._unknown: dict[int | UUID, float] = {}

    def encode(self, event: Event, envelope: Envelope) -> Message:
        """The record of an event. Raises ValueError for what its schema does not allow.

        The first of a kind raises also what the registry raises.
        """
        value = self.encode_value(event)
        if not envelope.type:
            envelope = msgspec.structs.replace(envelope, type=event.ce_type)
        return Message(value, envelope)

    def encode_value(self, event: Event) -> bytes:
        """The record's bytes alone."""
        header, write = self._writers.get(event.name) or self._writer(event.name)
        out = bytearray(header)
        try:
            write(event, out)
        except (TypeError, ValueError, AttributeError, struct.error) as fault:
            raise ValueError(f"no {event.name}: {fault}") from fault
        return bytes(out)

    def decode(self, value: bytes | None) -> Event:
        """The event in a record, whatever version it was written by.

        Raises BadRecord (of these UnknownSchema for an id that the registry does not know) for
        what will never be readable; Unavailable if the registry does not answer: try again.
        """
        if value is None:
            raise BadRecord("a record without a value")
        id, body = wire.split(value)
        return (self._readers.get(id) or self._reader(id))(body)

    def _writer(self, name: str) -> tuple[bytes, Write]:
        newest = schemas.newest(name)
        id = self._registry.register(newest.subject, newest.text)
        parsed = parse(newest.text)
        write = compile_writer(parsed, parsed["__named_schemas"])
        found = self._writers[name] = wire.header(id), write
        return found

    def _reader(self, id: int | UUID) -> _Decode:
        asked = self._unknown.get(id)
        if asked is not None and self._clock() - asked < UNKNOWN_S:
            raise UnknownSchema(f"no schema has the id {id}", id=str(id))
        try:
            text = self._registry.schema(id)
        except UnknownSchema:
            if len(self._unknown) >= _UNKNOWN_MAX:
                self._unknown.clear()
            self._unknown[id] = self._clock()
            raise
        found = self._readers[id] = decoder(text)
        return found


def decoder(text: str) -> _Decode:
    """What reads records of a schema as the event it is a version of. Raises BadRecord."""
    try:
        writer = parse(text)
    except Exception as fault:  # whatever a library says to somebody else's text
        raise BadRecord(f"a record of what is no Avro schema: {fault}") from fault
    if is_weightless(writer):
        raise BadRecord("a record whose lists could be without end: its items take no bytes")
    name = writer.get("name") if isinstance(writer, dict) else None
    for event, versions in schemas.published().items():
        if versions[-1].subject == name:
            return _decoder(writer, parse(versions[-1].text), kinds()[event])
    raise BadRecord(f"a record of {name or text[:60]!r} is no event of Chimera")


def _decoder(writer: Any, reader: Any, kind: type[Event]) -> _Decode:
    if writer == reader:
        reader = None  # nothing to be resolved, which is quicker

    def decode(body: memoryview) -> Event:
        source = io.BytesIO(body)
        try:
            record: Any = fastavro.schemaless_reader(source, writer, reader)
            event: Event = msgspec.convert(record, kind, builtin_types=[bytes])
        except Exception as fault:  # whatever bytes from outside make a library raise
            said = f"{type(fault).__name__}: {fault}"
            raise BadRecord(f"the record is no {kind.name}: {said[:300]}") from fault
        if source.tell() != len(body):
            raise BadRecord(f"{len(body) - source.tell()} bytes follow the {kind.name}")
        return event

    return decode
