"""Records as messages of AMQP: routing keys, and headers in the AMQP binding of CloudEvents.

The port's headers are those of Kafka's binding (`ce_NAME`, `content-type`); here they become
application properties `cloudEvents:NAME` and the property `content-type`, and back.
"""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

from aiormq.abc import DeliveredMessage
from pamqp import commands as spec

from chimera.bus.protocol import Record

_CE = "ce_"
_AMQP_CE = ("cloudEvents:", "cloudEvents_")
_CONTENT_TYPE = "content-type"
#: what AMQP has no place for
_KEY = "chimera-key"
_TIME = "chimera-time"  #: ms; AMQP's own timestamp has whole seconds
#: set by the broker
_DELIVERIES = "x-delivery-count"
_PERSISTENT = 2


def routing_key(record: Record) -> str:
    """The partition, then words to bind by."""
    return f"{record.partition}.{record.subject}" if record.subject else str(record.partition)


def properties(record: Record) -> spec.Basic.Properties:
    """Everything of a record but its value, topic and partition."""
    content_type = None
    headers: dict[str, Any] = {}
    for name, value in record.headers:
        if name == _CONTENT_TYPE:
            content_type = value.decode("utf-8", "replace")
        elif name.startswith(_CE):
            headers[_AMQP_CE[0] + name[len(_CE) :]] = _text(value)
        else:
            headers[name] = _text(value)
    stamp = int(time.time() * 1000) if record.timestamp is None else record.timestamp
    headers[_TIME] = stamp
    if record.key is not None:
        headers[_KEY] = bytearray(record.key)
    return spec.Basic.Properties(
        content_type=content_type,
        delivery_mode=_PERSISTENT,
        headers=headers,
        timestamp=dt.datetime.fromtimestamp(stamp / 1000, dt.timezone.utc),
    )


def _text(value: bytes) -> str | bytearray:
    """As text where it is: that is what other programs expect in a header."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return bytearray(value)


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    return str(value).encode()


def partition_of(message: DeliveredMessage) -> int:
    """The partition that a routing key names; 0 where another program sent something else."""
    delivery: Any = message.delivery
    word = (delivery.routing_key or "").split(".")[0]
    return int(word) if word.isascii() and word.isdigit() else 0


def deliveries(message: DeliveredMessage) -> int:
    """How often it was handed out, this time included."""
    headers = message.header.properties.headers or {}
    count = headers.get(_DELIVERIES, 0)
    return 1 + (count if isinstance(count, int) else 0)


def key_of(message: DeliveredMessage) -> bytes | None:
    value = (message.header.properties.headers or {}).get(_KEY)
    return None if value is None else _bytes(value)


def headers_of(message: DeliveredMessage) -> tuple[tuple[str, bytes], ...]:
    """As the port has them."""
    found: list[tuple[str, bytes]] = []
    if content_type := message.header.properties.content_type:
        found.append((_CONTENT_TYPE, content_type.encode()))
    for name, value in (message.header.properties.headers or {}).items():
        if name in (_KEY, _TIME) or name.startswith("x-"):
            continue
        for prefix in _AMQP_CE:
            if name.startswith(prefix):
                name = _CE + name[len(prefix) :]
        found.append((name, _bytes(value)))
    return tuple(found)


def timestamp_of(message: DeliveredMessage) -> int:
    """When it was published, Unix ms; now, where nothing says so."""
    stamp = (message.header.properties.headers or {}).get(_TIME)
    if isinstance(stamp, int):
        return stamp
    published = message.header.properties.timestamp
    return int((published.timestamp() if published else time.time()) * 1000)
