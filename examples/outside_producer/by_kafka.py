"""Ask a swarm for work, and read what became of it, with nothing but its Kafka and its registry.

No line of this imports Chimera: it is what a program of another team looks like, in any language.

    python -m examples.outside_producer.by_kafka --kafka HOST:PORT --registry URL --swarm NAME \
        audit.file '{"module": "abc", "path": "/usr/lib/python3.11/abc.py"}'
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import uuid
import zlib
from collections.abc import Callable
from typing import Any

from confluent_kafka import OFFSET_END, Consumer, Message, Producer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient, record_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

COMMAND = "io.chimera.task.Command"
#: who asks; together with an event's id it names a command for ever
SOURCE = "/examples/outside_producer"
WAIT_S = 60.0


class Outside:
    """A connection to a swarm's broker and registry."""

    def __init__(self, kafka: str, registry: str, swarm: str) -> None:
        self.commands = f"chimera.{swarm}.commands"
        self.results = f"chimera.{swarm}.results"
        self.regions = f"chimera.{swarm}.regions"
        self._kafka = kafka
        schemas = SchemaRegistryClient({"url": registry})
        self._write = AvroSerializer(
            schemas,
            schemas.get_latest_version(COMMAND).schema.schema_str,
            conf={
                "auto.register.schemas": False,
                "subject.name.strategy": record_subject_name_strategy,
            },
        )
        self._read = AvroDeserializer(schemas)
        self._producer = Producer(
            {"bootstrap.servers": kafka, "acks": "all", "enable.idempotence": True}
        )

    def submit(self, command: dict[str, Any], id: str) -> None:
        """Ask for a task; it is durable when this returns. The same id twice is one task."""
        topic = self.commands
        failed: list[Any] = []
        self._producer.produce(
            topic,
            self._write(command, SerializationContext(topic, MessageField.VALUE)),
            partition=self._partition(command),
            headers={
                "ce_specversion": "1.0",
                "ce_id": id,
                "ce_source": SOURCE,
                "ce_type": "io.chimera.task.command.v1",
                "content-type": "application/avro",
            },
            on_delivery=lambda fault, _: failed.append(fault),
        )
        self._producer.flush(WAIT_S)
        if failed != [None]:
            raise SystemExit(f"the broker did not take the command: {failed or 'no answer'}")

    def _partition(self, command: dict[str, Any]) -> int:
        """A key decides, as for Chimera's own clients; without one any partition will do."""
        count = len(
            self._producer.list_topics(self.commands, WAIT_S).topics[self.commands].partitions
        )
        if command.get("key") is None:
            return int(time.time() * 1000) % count
        text = f"{command.get('tenant', 'default')}\0{command['key']}"
        return zlib.crc32(text.encode()) % count

    def reader(self, topic: str) -> Consumer:
        """Reads a topic from now on, every partition."""
        consumer = Consumer({"bootstrap.servers": self._kafka, "group.id": "outside"})
        found = consumer.list_topics(topic, WAIT_S).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, OFFSET_END) for number in found])
        for number in found:  # where the end is, is asked for now, not at the first poll
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), WAIT_S)
            consumer.seek(TopicPartition(topic, number, max(low, high)))
        return consumer

    def wait(self, consumer: Consumer, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first event that is wanted."""
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            message: Message | None = consumer.poll(0.5)
            if message is None or message.error():
                continue
            context = SerializationContext(message.topic(), MessageField.VALUE)
            event: dict[str, Any] = self._read(message.value(), context)
            if wanted(event):
                return event
        raise SystemExit(f"nothing came within {WAIT_S:g} s")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kafka", required=True, metavar="HOST:PORT")
    parser.add_argument("--registry", required=True, metavar="URL")
    parser.add_argument("--swarm", default="local")
    parser.add_argument("type", help="task type, of which the swarm has a handler")
    parser.add_argument("payload", help="JSON")
    args = parser.parse_args(argv)
    json.loads(args.payload)
    outside = Outside(args.kafka, args.registry, args.swarm)
    results, regions = outside.reader(outside.results), outside.reader(outside.regions)
    id = str(uuid.uuid4())
    outside.submit({"type": args.type, "payload": args.payload.encode()}, id)
    result = outside.wait(results, lambda event: event["command_id"] == id)
    print(f"task {result['task_id']}: {result['state']} after {result['attempts']} attempt(s)")
    if result["result"] is not None:
        print(f"result: {result['result'].decode()}")
    if result["error"] is not None:
        print(f"error: {result['error']['error']}: {result['error']['message']}")
    summary = outside.wait(regions, lambda event: True)
    print(f"region {summary['region']}: {summary['workers']} workers, {summary['counters']}")
    results.close()
    regions.close()
    return 0 if result["state"] == "succeeded" else 1


if __name__ == "__main__":
    sys.exit(main())
