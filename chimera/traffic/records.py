"""Events as records of a bus, and what their CloudEvents attributes say.

Headers are those of Kafka's protocol binding; a bus on another broker has them as that one does.
"""

from __future__ import annotations

from chimera.bus.protocol import Received, Record, Topic
from chimera.contracts import cloudevents
from chimera.contracts.cloudevents import Envelope
from chimera.contracts.codec import Codec
from chimera.contracts.events import Event


class Writer:
    """Makes records of events. Safe for threads."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def record(
        self, topic: Topic, partition: int, event: Event, envelope: Envelope, subject: str = ""
    ) -> Record:
        """The record of an event; `subject` is what RabbitMQ's consumers may bind by.

        Raises ValueError for what its schema does not allow, and what the registry raises.
        """
        message = self._codec.encode(event, envelope)
        headers = tuple(message.kafka_headers())
        return Record(
            topic.name, partition, message.value, message.key, headers, envelope.time, subject
        )


def envelope(record: Received) -> Envelope | None:
    """The CloudEvents attributes of a record; None if it has none. Raises BadRecord."""
    return cloudevents.from_kafka(record.headers)
