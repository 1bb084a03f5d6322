"""Ask a swarm for work, and read what became of it, with nothing but its RabbitMQ and its registry.

No line of this imports Chimera: it is what a program of another team looks like, in any language.
Schemas are read from the registry by its REST API, records written and read with any Avro library.

    python -m examples.outside_producer.by_rabbitmq --amqp amqp://USER:PASSWORD@HOST/ \
        --registry URL --swarm NAME audit.file '{"module": "abc", "path": "/usr/lib/.../abc.py"}'
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import struct
import sys
import urllib.request
import uuid
import zlib
from collections.abc import Callable
from typing import Any

import aio_pika
import fastavro

COMMAND = "io.chimera.task.Command"
#: who asks; together with an event's id it names a command for ever
SOURCE = "/examples/outside_producer"
WAIT_S = 60.0
#: a zero byte, the schema's id, then Avro: Confluent's wire format
_HEADER = struct.Struct(">bI")


class Registry:
    """Schemas by subject and by id."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._known: dict[int, Any] = {}

    def write(self, subject: str, record: dict[str, Any]) -> bytes:
        newest = self._get(f"/subjects/{subject}/versions/latest")
        out = io.BytesIO()
        out.write(_HEADER.pack(0, newest["id"]))
        schema = fastavro.parse_schema(json.loads(newest["schema"]))
        fastavro.schemaless_writer(out, schema, record)
        return out.getvalue()

    def read(self, data: bytes) -> dict[str, Any]:
        _, id = _HEADER.unpack_from(data)
        if id not in self._known:
            schema = json.loads(self._get(f"/schemas/ids/{id}")["schema"])
            self._known[id] = fastavro.parse_schema(schema)
        source = io.BytesIO(data[_HEADER.size :])
        record: Any = fastavro.schemaless_reader(source, self._known[id], None)
        return dict(record)

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(self._url + path, timeout=WAIT_S) as answer:
            return json.load(answer)


class Reading:
    """What comes to an exchange from now on, in a queue of our own that is gone with us."""

    def __init__(self, queue: aio_pika.abc.AbstractQueue, registry: Registry) -> None:
        self._queue = queue
        self._registry = registry

    async def wait(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first event that is wanted."""
        async with self._queue.iterator(no_ack=True, timeout=WAIT_S) as messages:
            async for message in messages:
                event = self._registry.read(message.body)
                if wanted(event):
                    return event
        raise SystemExit(f"nothing came within {WAIT_S:g} s")


def partition(command: dict[str, Any], partitions: int) -> int:
    """A key decides, as it does for Chimera's own clients; without one any partition will do."""
    text = f"{command.get('tenant', 'default')}\0{command.get('key') or uuid.uuid4()}"
    return zlib.crc32(text.encode()) % partitions


async def ask(args: argparse.Namespace) -> int:
    registry = Registry(args.registry)
    name = f"chimera.{args.swarm}"
    async with await aio_pika.connect(args.amqp) as connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        readings = []
        for topic in ("results", "regions"):
            exchange = await channel.get_exchange(f"{name}.{topic}")
            queue = await channel.declare_queue(exclusive=True)
            await queue.bind(exchange, "#")
            readings.append(Reading(queue, registry))
        id = str(uuid.uuid4())
        command = {"type": args.type, "payload": args.payload.encode()}
        commands = await channel.get_exchange(f"{name}.commands")
        message = aio_pika.Message(
            registry.write(COMMAND, command),
            content_type="application/avro",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            headers={
                "cloudEvents:specversion": "1.0",
                "cloudEvents:id": id,
                "cloudEvents:source": SOURCE,
                "cloudEvents:type": "io.chimera.task.command.v1",
            },
        )
        # durable when this returns; one that no queue takes raises
        await commands.publish(message, str(partition(command, args.partitions)), mandatory=True)
        result = await readings[0].wait(lambda event: bool(event["command_id"] == id))
        print(f"task {result['task_id']}: {result['state']} after {result['attempts']} attempt(s)")
        if result["result"] is not None:
            print(f"result: {result['result'].decode()}")
        if result["error"] is not None:
            print(f"error: {result['error']['error']}: {result['error']['message']}")
        summary = await readings[1].wait(lambda event: True)
        print(f"region {summary['region']}: {summary['workers']} workers, {summary['counters']}")
    return 0 if result["state"] == "succeeded" else 1


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--amqp", required=True, metavar="URL")
    parser.add_argument("--registry", required=True, metavar="URL")
    parser.add_argument("--swarm", default="local")
    parser.add_argument("--partitions", type=int, default=8, help="`shards` of the swarm's spec")
    parser.add_argument("type", help="task type, of which the swarm has a handler")
    parser.add_argument("payload", help="JSON")
    args = parser.parse_args(argv)
    json.loads(args.payload)
    return asyncio.run(ask(args))


if __name__ == "__main__":
    sys.exit(main())
