"""Events as records of a bus and back: where a broker keeps their CloudEvents attributes."""

from __future__ import annotations

from chimera.bus.protocol import Received, Record, Topic
from chimera.contracts import cloudevents
from chimera.contracts.cloudevents import Envelope
from chimera.contracts.codec import Codec
from chimera.contracts.events import Event


class Writer:
    """Makes records of events, in the binding of one kind of broker. Safe for threads."""

    def __init__(self, codec: Codec, url: str) -> None:
        self._codec = codec
        self._amqp = url.startswith("amqp")

    def record(
        self, topic: Topic, partition: int, event: Event, envelope: Envelope, subject: str = ""
    ) -> Record:
        """The record of an event; `subject` is what RabbitMQ's consumers may bind by.

        Raises ValueError for what its schema does not allow, and what the registry raises.
        """
        message = self._codec.encode(event, envelope)
        if self._amqp:
            found = message.amqp_properties().items()
            headers = [("content-type", envelope.datacontenttype.encode())]
            headers += [(name, text.encode()) for name, text in found]
        else:
            headers = message.kafka_headers()
        return Record(
            topic.name, partition, message.value, message.key, tuple(headers), envelope.time,
            subject,
        )  # fmt: skip


def envelope(record: Received) -> Envelope | None:
    """The CloudEvents attributes of a record, whatever the broker; None if it has none.

    Raises BadRecord.
    """
    found = cloudevents.from_kafka(record.headers)
    return found if found is not None else cloudevents.from_amqp(dict(record.headers))
