"""What a swarm tells through its broker: every kind of event, read by who knows brokers only."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import aio_pika
import fastavro
import pytest
from confluent_kafka import Consumer

from chimera import names
from chimera.bus.connect import connect
from chimera.bus.protocol import Record, Topic
from chimera.contracts import schemas
from chimera.contracts.events import kinds
from chimera.errors import TaskFailed
from chimera.store import audit
from chimera.traffic.topics import Topics, topics
from tests.guarantees.kit import World
from tests.servers.kafka import Kafka
from tests.servers.rabbitmq import RabbitMQ

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

SOON_S = 60.0
EPOCH, MS = datetime.fromtimestamp(0, timezone.utc), timedelta(milliseconds=1)


@dataclass(frozen=True)
class Seen:
    """A record as the broker's own client gives it: attributes as its binding of CloudEvents has
    them, without the binding's prefix."""

    attributes: dict[str, str]
    content_type: str | None
    value: bytes
    key: bytes | None = None
    rest: dict[str, Any] = field(default_factory=dict)  #: headers that are no CloudEvents ones


def split(prefix: str, headers: dict[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    ours = {n.removeprefix(prefix): v for n, v in headers.items() if n.startswith(prefix)}
    return ours, {n: v for n, v in headers.items() if not n.startswith(prefix)}


def in_kafka(server: Kafka, topic: Topic) -> Iterator[Seen | None]:
    consumer = Consumer(
        {"bootstrap.servers": server.bootstrap, "group.id": uuid.uuid4().hex,
         "auto.offset.reset": "earliest"}
    )  # fmt: skip
    consumer.subscribe([topic.name])
    try:
        while True:
            message = consumer.poll(0.2)
            if message is None:
                yield None
                continue
            assert message.error() is None
            headers = {name: value.decode() for name, value in message.headers()}
            ours, rest = split("ce_", headers)
            yield Seen(ours, rest.pop("content-type"), message.value(), message.key(), rest)
    finally:
        consumer.close()


def in_rabbitmq(server: RabbitMQ, topic: Topic) -> Iterator[Seen | None]:
    async def some(url: str, queue: str) -> list[Seen]:
        found: list[Seen] = []
        async with await aio_pika.connect(url) as connection:
            channel = await connection.channel()
            with contextlib.suppress(asyncio.TimeoutError):
                async with (await channel.get_queue(queue)).iterator(timeout=0.5) as messages:
                    async for one in messages:
                        ours, rest = split("cloudEvents:", dict(one.headers))
                        key = rest.get("chimera-key")
                        found.append(Seen(ours, one.content_type, one.body, key, rest))
                        await one.ack()
        return found

    while True:
        yield from asyncio.run(some(server.url, names.queue(topic.name, "outside", None)))
        yield None


class Reader:
    """Somebody outside, who asks the swarm's registry what the id of a record means."""

    def __init__(
        self, world: World, those: Topics, read: Callable[[Topic], Iterator[Seen | None]]
    ) -> None:
        self.world = world
        self.topics = those
        self._read = read

    def schema(self, id: int) -> dict[str, Any]:
        handle = self.world.cluster.find(names.ORCHESTRATOR)
        answer = self.world.cluster.call(handle.registry.remote("by_id", {"id": id}), 10.0)
        return dict(json.loads(answer["schema"]))

    def first(
        self, topic: Topic, name: str, wanted: Callable[[dict[str, Any]], bool]
    ) -> dict[str, Any]:
        """The first event that is wanted; all before it are as sound as it is."""
        end = time.monotonic() + SOON_S
        told: list[dict[str, Any]] = []
        for seen in self._read(topic):
            assert time.monotonic() < end, told[-3:]
            if seen is None:
                continue
            told.append(self.event(seen, name))
            if wanted(told[-1]):
                return {**told[-1], "ce": seen.attributes, "before": told}
        raise AssertionError("not reached")

    def event(self, seen: Seen, name: str) -> dict[str, Any]:
        """The record in Avro, whose schema and attributes are those of the kind of event."""
        assert seen.value[0] == 0
        schema = self.schema(int.from_bytes(seen.value[1:5], "big"))
        assert f"{schema['namespace']}.{schema['name']}" == schemas.newest(name).subject
        body = io.BytesIO(seen.value[5:])
        found = fastavro.schemaless_reader(body, fastavro.parse_schema(schema), None)
        assert not body.read()
        assert seen.content_type == "application/avro"
        attributes = seen.attributes
        assert attributes["specversion"] == "1.0"
        assert attributes["type"] == kinds()[name].ce_type
        assert attributes["id"]
        assert attributes["source"].startswith(f"/chimera/{self.world.name}/")
        told_at = datetime.fromisoformat(attributes["time"].replace("Z", "+00:00"))
        assert abs(told_at.timestamp() - time.time()) < 3600
        assert (seen.key or b"").decode() == attributes.get("partitionkey", "")
        return {
            name: (value - EPOCH) // MS if isinstance(value, datetime) else value
            for name, value in dict(found).items()
        }


@pytest.fixture(scope="module", params=["kafka", "rabbitmq"])
def reader(request: pytest.FixtureRequest, ray_cluster: Any, tmp_path_factory: Any) -> Any:
    """A swarm to which something has happened, and who reads of it."""
    server: Any = request.getfixturevalue(request.param)
    name = f"e{uuid.uuid4().hex[:8]}"
    url = f"kafka://{server.bootstrap}" if request.param == "kafka" else server.url
    read = in_kafka if request.param == "kafka" else in_rabbitmq
    bus, those = connect(url), topics(name, 8)
    bus.provision(tuple(those), SOON_S)
    world = World(name, tmp_path_factory.mktemp("events"), bus=url)
    try:
        world.up()
        assert world.client.submit("echo", {"n": 1}, key="k").result(timeout_s=SOON_S) == {"n": 1}
        bad = {"log": str(world.dir / "log"), "raises": "permanent"}
        with pytest.raises(TaskFailed):
            world.client.call("picky", bad, timeout_s=SOON_S)
        assert bus.publish([Record(those.commands.name, 0, b"no avro")], SOON_S) == [None]
        yield Reader(world, those, lambda topic: read(server, topic))
    finally:
        bus.close(2.0)
        world.down()


def test_a_result_tells_of_its_task_and_names_it(reader: Reader) -> None:
    found = reader.first(reader.topics.results, "result", lambda event: event["key"] == "k")
    assert (found["type"], found["state"], found["attempts"]) == ("echo", "succeeded", 1)
    assert json.loads(found["result"]) == {"n": 1}
    named = found["ce"]
    assert named["id"] == named["subject"] == named["correlationid"] == found["task_id"]
    assert named["partitionkey"] == "k"
    assert named["source"] in {
        f"/chimera/{reader.world.name}/{name}" for name in reader.world.leaders()
    }


def test_a_failure_and_a_record_that_is_none_are_dead_letters(reader: Reader) -> None:
    letters: dict[str, dict[str, Any]] = {}

    def both(event: dict[str, Any]) -> bool:
        letters[event["reason"]] = event
        return letters.keys() == {"failed", "bad_record"}

    reader.first(reader.topics.dead_letters, "dead_letter", both)
    failed, refused = letters["failed"], letters["bad_record"]
    assert failed["type"] == "picky"
    assert failed["error"]["message"] == "it never will"
    assert json.loads(failed["payload"])["raises"] == "permanent"
    assert refused["task_id"] is None
    assert refused["record"] == b"no avro"
    assert refused["origin"]["topic"] == reader.topics.commands.name


def test_a_region_is_summed_up_by_its_coordinator(reader: Reader) -> None:
    found = reader.first(
        reader.topics.regions, "region_summary",
        lambda event: "run" in event["latency"]
        and all(event["counters"].get(name) for name in ("succeeded", "failed")),
    )  # fmt: skip
    assert (found["region"], found["coordinator"]) == ("local", "coordinator/local")
    assert (found["ready"], found["leaders"], found["leaders_expected"]) == (True, 2, 2)
    assert sorted(shard["shard"] for shard in found["shards"]) == list(range(8))
    assert found["latency"]["run"]["count"] >= 1
    assert found["ce"]["subject"] == found["coordinator"]
    numbers = [event["sequence"] for event in found["before"]]
    assert numbers == sorted(numbers)


def test_each_leader_reports_through_its_coordinator(reader: Reader) -> None:
    owned: dict[int, str] = {}

    def serve(event: dict[str, Any]) -> bool:
        owned.update({shard["shard"]: event["leader"] for shard in event["shards"]})
        leaders = reader.world.leaders().items()
        now = {shard.shard: name for name, one in leaders for shard in one.shards}
        return event["ready"] and owned == now

    found = reader.first(reader.topics.leaders, "leader_report", serve)
    assert (found["region"], found["workers"]) == ("local", 1)
    assert found["ce"]["subject"] == found["leader"]
    assert found["ce"]["source"] == f"/chimera/{reader.world.name}/coordinator/local"


def test_a_worker_that_dies_and_the_one_that_comes_for_it_are_told(reader: Reader) -> None:
    world = reader.world
    name, info = next(iter(world.workers().items()))
    world.kill(info.process)
    seen: dict[tuple[str, str], dict[str, Any]] = {}

    def both(event: dict[str, Any]) -> bool:
        seen[event["worker"], event["event"]] = event
        came = {one for one, what in seen if what == "started"}
        return (name, "stopped") in seen and len(came) == 3

    found = reader.first(reader.topics.workers, "worker_lifecycle", both)
    began, ended = seen[name, "started"], seen[name, "stopped"]
    assert began["pid"] == ended["pid"] == info.process.pid
    assert began["at"] < ended["at"]
    assert ended["reason"] == "no leader reports it"
    assert {event["region"] for event in seen.values()} == {"local"}
    assert found["ce"]["subject"] == found["worker"]


def test_what_was_done_to_a_swarm_is_told_as_a_chain(reader: Reader) -> None:
    tellers: set[str] = set()

    def both(event: dict[str, Any]) -> bool:
        tellers.add(event["actor"])
        return {"orchestrator", "coordinator/local"} <= tellers

    found = reader.first(reader.topics.audit, "audit", both)
    entries = {event["hash"]: event for event in found["before"]}
    assert any(event["seq"] == 1 for event in entries.values())
    for event in entries.values():
        told = {name: event[name] for name in ("at", "actor", "action", "subject", "detail")}
        again = audit.chained(event["seq"] - 1, event["prev_hash"], **told)
        assert again.hash == event["hash"]
        assert event["prev_hash"] in entries or event["seq"] == 1
    assert found["ce"]["id"].endswith(f"/{found['seq']}")
