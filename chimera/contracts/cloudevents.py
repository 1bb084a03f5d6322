"""CloudEvents 1.0 attributes of a record, and how each broker carries them (binary mode).

Kafka: headers `ce_NAME`, UTF-8, and `content-type`; the record's key is `partitionkey`.
AMQP: application properties `cloudEvents:NAME` (read also as `cloudEvents_NAME`), and the message's
content type. Sources: the Kafka and AMQP protocol bindings and the documented extensions of the
CloudEvents specification, 1.0.2.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec

from chimera.errors import BadRecord

#: content type of a record in the Confluent wire format
AVRO = "application/avro"
KAFKA_PREFIX = "ce_"
AMQP_PREFIX = "cloudEvents:"
#: registered extensions that are used here, and for what
EXTENSIONS = {
    "traceparent": "W3C trace context of the one who sent it",
    "tracestate": "W3C trace state",
    "partitionkey": "what chooses the partition: a task's key; the key of a Kafka record",
    "sequence": "number of the event in its source, so that one that comes again is recognised",
    "correlationid": "id of the task that this is about",
    "causationid": "CloudEvents id of the event that led to this one",
    "expirytime": "when the event stops to be of use: a command's deadline",
    "dataref": "where the data lie if they travel as a claim check",
    "authtype": "kind of the one who sent it, e.g. `service_account`",
    "authid": "who sent it",
    "recordedtime": "when the outcome was recorded",
    "dssematerial": "DSSE envelope with a signature over the event",
}

_AMQP_PREFIXES = (AMQP_PREFIX, "cloudEvents_")
_CORE = ("id", "source", "specversion", "type", "subject", "time", "dataschema")
_NAME = re.compile(r"[a-z0-9]{1,64}\Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Envelope(msgspec.Struct, frozen=True):
    """The attributes of an event."""

    id: str  #: unique in its source
    source: str  #: URI reference of the one who made it, e.g. `/chimera/SWARM/leader/a-1`
    type: str = ""  #: e.g. `io.chimera.task.result.v1`; empty: that of what is encoded
    subject: str | None = None  #: what it is about: task id, name of an actor
    time: int | None = None  #: Unix milliseconds
    dataschema: str | None = None
    datacontenttype: str = AVRO
    extensions: dict[str, str] = {}

    def __post_init__(self) -> None:
        if not self.id or not self.source:
            raise ValueError("an event has an id and a source")
        for name in self.extensions:
            if name in EXTENSIONS:
                continue
            if not _NAME.match(name) or name in _CORE or name in ("datacontenttype", "data"):
                raise ValueError(f"{name!r} is no name of an extension: a-z and 0-9 only")

    def attributes(self) -> dict[str, str]:
        """All but the content type, as text, by name."""
        found = {"specversion": "1.0", "id": self.id, "source": self.source, "type": self.type}
        if self.subject is not None:
            found["subject"] = self.subject
        if self.time is not None:
            found["time"] = timestamp(self.time)
        if self.dataschema is not None:
            found["dataschema"] = self.dataschema
        found.update(self.extensions)
        return found


def kafka_headers(envelope: Envelope) -> list[tuple[str, bytes]]:
    """The headers of a Kafka record."""
    found = [(KAFKA_PREFIX + name, text.encode()) for name, text in envelope.attributes().items()]
    return [("content-type", envelope.datacontenttype.encode()), *found]


def from_kafka(headers: Iterable[tuple[str, bytes | None]] | None) -> Envelope | None:
    """What a Kafka record's headers say; None if it is no CloudEvent. Raises BadRecord."""
    found: dict[str, Any] = {}
    content_type = AVRO
    for name, value in headers or ():
        lower = name.lower()
        if lower == "content-type" and value:
            content_type = value.decode("utf-8", "replace")
        elif lower.startswith(KAFKA_PREFIX) and value is not None:
            found[lower[len(KAFKA_PREFIX) :]] = value
    return _envelope(found, content_type)


def amqp_properties(envelope: Envelope) -> dict[str, str]:
    """The application properties of an AMQP message; its content type is `datacontenttype`."""
    return {AMQP_PREFIX + name: text for name, text in envelope.attributes().items()}


def from_amqp(
    properties: Mapping[str, Any] | None, content_type: str | None = None
) -> Envelope | None:
    """What an AMQP message's properties say; None if it is no CloudEvent. Raises BadRecord."""
    found = {}
    for name, value in (properties or {}).items():
        for prefix in _AMQP_PREFIXES:
            if name.startswith(prefix):
                found[name[len(prefix) :]] = value
    return _envelope(found, content_type or AVRO)


def timestamp(ms: int) -> str:
    """Unix milliseconds in RFC 3339."""
    return f"{_second(ms // 1000)}.{ms % 1000:03d}Z"


@functools.lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    # one after another, events are of the same few seconds
    return (_EPOCH + timedelta(seconds=seconds)).isoformat().removesuffix("+00:00")


def _envelope(found: dict[str, Any], content_type: str) -> Envelope | None:
    if not found:
        return None
    try:
        texts = {name: value if name == "time" else _text(value) for name, value in found.items()}
        version = texts.pop("specversion", "")
        if not version.startswith("1."):
            raise ValueError(f"specversion is {version!r}, this reads 1.x")
        missing = [name for name in ("id", "source", "type") if not texts.get(name)]
        if missing:
            raise ValueError(f"no {' and no '.join(missing)}")
        return Envelope(
            id=texts.pop("id"), source=texts.pop("source"), type=texts.pop("type"),
            subject=texts.pop("subject", None), time=_milliseconds(texts.pop("time", None)),
            dataschema=texts.pop("dataschema", None), datacontenttype=content_type,
            extensions=texts,
        )  # fmt: skip
    except ValueError as fault:
        raise BadRecord(f"the record's CloudEvents attributes: {fault}") from fault


def _text(value: Any) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).decode()
    return str(value).lower() if isinstance(value, bool) else str(value)


def _milliseconds(value: Any) -> int | None:
    if value is None:
        return None
    if not isinstance(value, datetime):
        text = _text(value)
        value = datetime.fromisoformat(
            _FRACTION.sub(_six_digits, text.upper().replace("Z", "+00:00"))
        )
    if value.tzinfo is None:
        value = value.replace(tzinfo=timezone.utc)
    return int((value - _EPOCH) / timedelta(milliseconds=1))


#: Python 3.10 reads three or six digits of a second only
_FRACTION = re.compile(r"\.(\d+)")


def _six_digits(match: re.Match[str]) -> str:
    return "." + match[1][:6].ljust(6, "0")
