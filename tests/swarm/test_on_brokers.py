"""A swarm behind a real broker: tasks go in through it, results come out of it, whatever dies."""

from __future__ import annotations

import contextlib
import re
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chimera import names
from chimera.bus.connect import connect
from chimera.bus.protocol import EARLIEST, Record, Subscription, Topic
from chimera.contracts import wire
from chimera.contracts.cloudevents import Envelope
from chimera.contracts.codec import Codec
from chimera.contracts.events import Command, RegionSummary, Result
from chimera.contracts.own import OwnSchemas
from chimera.errors import BusUnavailable
from chimera.traffic.records import Writer, envelope
from chimera.traffic.topics import Topics, topics
from examples.outside_producer import by_kafka, by_rabbitmq
from tests.contract.conftest import Served
from tests.guarantees.kit import World, notes, payloads, times_run, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


#: a command that no command can be read from: what it must have is not in it
INCOMPATIBLE = """{"type": "record", "name": "Command", "namespace": "io.chimera.task",
 "fields": [{"name": "amount", "type": "int"}]}"""


def register(world: World, schema: str) -> int:
    """The id that the swarm's own registry gives a schema."""
    home = world.cluster.find(names.ORCHESTRATOR)
    given = {"subject": "somebody-elses", "body": {"schema": schema}}
    answer = world.cluster.call(home.registry.remote("register", given), 10.0)
    return int(answer["id"])


class Outside:
    """Somebody who knows the broker and the contracts, and no swarm."""

    def __init__(self, url: str, found: Topics) -> None:
        self.bus = connect(url)
        self.topics = found
        self.codec = Codec(OwnSchemas())
        self.writer = Writer(self.codec)
        self._readings: dict[str, tuple[Subscription, list[Any]]] = {}

    def provision(self) -> None:
        self.bus.provision(tuple(self.topics), 30.0)

    def ask(self, payload: bytes, id: str, shard: int = 0, **more: Any) -> None:
        event = Command(type=more.pop("type", "echo"), payload=payload, **more)
        record = self.writer.record(self.topics.commands, shard, event, Envelope(id, "/shop"))
        self.publish(record)

    def publish(self, record: Record) -> None:
        assert self.bus.publish([record], 30.0) == [None]

    def read(self, topic: Topic, enough: Callable[[list[Any]], bool]) -> list[Any]:
        """All events of a topic so far, as soon as there are enough of them."""
        if topic.name not in self._readings:
            begin = dict.fromkeys(range(topic.partitions), EARLIEST)
            self._readings[topic.name] = self.bus.subscribe(topic, "outside", begin), []
        reading, found = self._readings[topic.name]
        end = time.monotonic() + 60.0
        while not enough(found):
            assert time.monotonic() < end, found
            with contextlib.suppress(BusUnavailable):
                records = reading.fetch(500, 1 << 20, 0.2)
                found += [(self.codec.decode(one.value), envelope(one)) for one in records]
                reading.ack(records)
        return list(found)

    def close(self) -> None:
        self.bus.close(2.0)


@dataclass(frozen=True)
class Server:
    """A broker that can be killed and started again."""

    url: str
    kill: Callable[[], None]
    start: Callable[[], None]


@pytest.fixture(scope="module", params=["kafka", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> Server:
    found: Any = request.getfixturevalue(request.param)
    if request.param == "kafka":
        node = found.nodes[0]
        return Server(f"kafka://{found.bootstrap}", node.kill, node.start)
    return Server(found.url, found.kill, found.start)


@pytest.fixture(scope="module")
def outside(
    ray_cluster: Any, broker: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[World, Outside]]:
    """A swarm behind each broker, for all tests; the last of them kills parts of it."""
    name = f"b{uuid.uuid4().hex[:8]}"
    those = Outside(broker.url, topics(name, 8))
    those.provision()
    world = World(name, tmp_path_factory.mktemp("swarm"), bus=broker.url)
    try:
        world.up()
        yield world, those
    finally:
        those.close()
        world.down()


def answers(found: list[Any]) -> dict[str, bytes]:
    """What each command of others came to."""
    return {event.command_id: event.result for event, _ in found if isinstance(event, Result)}


def told_of(found: list[Any]) -> dict[str, str]:
    """The state in which each task ended, as its results say."""
    return {event.task_id: event.state for event, _ in found if isinstance(event, Result)}


def test_anyone_with_the_broker_can_ask_for_work_and_read_what_became_of_it(
    outside: tuple[World, Outside],
) -> None:
    world, those = outside
    for n in range(5):
        those.ask(b"%d" % n, f"order-{n}", shard=n)
    those.ask(b"0", "order-0", shard=0)
    those.ask(b"1", "odd", type="nobody")
    commands = those.topics.commands.name
    those.publish(Record(commands, 3, b"no avro"))
    those.publish(Record(commands, 4, b"\0" + (999_999).to_bytes(4, "big") + b"no schema"))
    those.publish(Record(commands, 5, wire.header(register(world, INCOMPATIBLE)) + b"\x02"))
    found = those.read(those.topics.results, lambda found: len(answers(found)) >= 5)
    assert answers(found) == {f"order-{n}": b"%d" % n for n in range(5)}
    refused = those.read(those.topics.dead_letters, lambda found: len(found) >= 4)
    told = {(event.origin.partition, event.reason): event.error.message for event, _ in refused}
    assert told.keys() == {
        (0, "unknown_task_type"), (3, "bad_record"), (4, "unknown_schema"), (5, "bad_record"),
    }  # fmt: skip
    assert "999999" in told[4, "unknown_schema"]
    assert "the record is no command" in told[5, "bad_record"]
    for n in (0, 3, 4, 5):  # who refused them goes on
        those.ask(b"9", f"after-{n}", shard=n)
    found = those.read(those.topics.results, lambda found: len(answers(found)) >= 9)
    assert sum(answer == b"9" for answer in answers(found).values()) == 4
    until(lambda: world.counter("succeeded") == 9)
    summaries = those.read(
        those.topics.regions, lambda found: any(e.counters.get("succeeded") for e, _ in found)
    )
    assert all(isinstance(event, RegionSummary) for event, _ in summaries)


def test_the_example_of_a_program_outside_asks_and_is_answered(
    broker: Server, outside: tuple[World, Outside], served: Served,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    world, _ = outside
    served.registry.publish_own()
    common = ["--registry", served.url, "--swarm", world.name, "echo", '{"n": 1}']
    hosts = broker.url.partition("://")[2]
    if broker.url.startswith("kafka"):
        code = by_kafka.main(["--kafka", hosts, *common])
    else:
        code = by_rabbitmq.main(["--amqp", broker.url, *common])
    told = capsys.readouterr().out
    assert code == 0, told
    assert 'result: {"n":1}' in told or 'result: {"n": 1}' in told
    assert re.search(r"region local: \d workers", told), told
    for module in (by_kafka, by_rabbitmq):
        assert "import chimera" not in Path(module.__file__).read_text()
        assert "from chimera" not in Path(module.__file__).read_text()


def test_work_goes_through_the_broker_and_survives_its_and_a_leaders_death(
    broker: Server, outside: tuple[World, Outside]
) -> None:
    world, those = outside
    log = world.dir / "log"
    first = world.client.submit_many("work", payloads(200, log, ms=2))
    single = world.client.submit("work", payloads(1, log)[0], key="k")
    assert single.result(timeout_s=60) == 0
    broker.kill()
    victim = next(iter(world.leaders().values()))
    world.kill(victim.process)
    broker.start()
    second = world.client.submit_many("work", payloads(200, log, ms=2))
    assert sorted(first.results(timeout_s=120)) == list(range(200))
    assert sorted(second.results(timeout_s=120)) == list(range(200))
    world.check_one_outcome_each()
    ran = times_run(notes(log, "ran"))
    assert len(ran) == 401
    found = those.read(those.topics.results, lambda found: ran.keys() <= told_of(found).keys())
    assert {told_of(found)[task_id] for task_id in ran} == {"succeeded"}
