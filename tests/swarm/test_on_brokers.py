"""A swarm behind a real broker: tasks go in through it, results come out of it, whatever dies."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chimera.bus.connect import connect
from chimera.bus.protocol import Record, Topic
from chimera.contracts.cloudevents import Envelope
from chimera.contracts.codec import Codec
from chimera.contracts.events import Command, DeadLetter, Event, RegionSummary, Result
from chimera.contracts.own import OwnSchemas
from chimera.traffic.records import Writer, envelope
from chimera.traffic.topics import Topics, topics
from examples.outside_producer import by_kafka, by_rabbitmq
from tests.contract.conftest import Served
from tests.guarantees.kit import World, notes, payloads, times_run, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


class Outside:
    """Somebody who knows the broker and the contracts, and no swarm."""

    def __init__(self, url: str, found: Topics) -> None:
        self.bus = connect(url)
        self.topics = found
        self.codec = Codec(OwnSchemas())
        self.writer = Writer(self.codec)

    def provision(self) -> None:
        self.bus.provision(tuple(self.topics), 30.0)

    def ask(self, payload: bytes, id: str, shard: int = 0, **more: Any) -> None:
        event = Command(type=more.pop("type", "echo"), payload=payload, **more)
        record = self.writer.record(self.topics.commands, shard, event, Envelope(id, "/shop"))
        self.publish(record)

    def publish(self, record: Record) -> None:
        assert self.bus.publish([record], 30.0) == [None]

    def read(self, topic: Topic, enough: Callable[[list[Any]], bool]) -> list[Any]:
        """Events of a topic from its beginning, until there are enough of them."""
        reading = self.bus.subscribe(topic, "outside", dict.fromkeys(range(topic.partitions), -2))
        found: list[tuple[Event, Envelope | None]] = []
        try:
            end = time.monotonic() + 60.0
            while not enough(found):
                assert time.monotonic() < end, found
                records = reading.fetch(500, 1 << 20, 0.2)
                found += [(self.codec.decode(one.value), envelope(one)) for one in records]
                reading.ack(records)
        finally:
            reading.close(2.0)
        return found

    def close(self) -> None:
        self.bus.close(2.0)


@dataclass(frozen=True)
class Server:
    """A broker that can be killed and started again."""

    url: str
    kill: Callable[[], None]
    start: Callable[[], None]


@pytest.fixture(params=["kafka", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> Server:
    found: Any = request.getfixturevalue(request.param)
    if request.param == "kafka":
        node = found.nodes[0]
        return Server(f"kafka://{found.bootstrap}", node.kill, node.start)
    return Server(found.url, found.kill, found.start)


@pytest.fixture
def outside(broker: Server, make_swarm: Callable[..., World]) -> Iterator[tuple[World, Outside]]:
    name = f"b{uuid.uuid4().hex[:8]}"
    those = Outside(broker.url, topics(name, 8))
    those.provision()
    yield make_swarm(name=name, bus=broker.url), those
    those.close()


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
    world.check_one_outcome_each(401)
    ran = times_run(notes(log, "ran"))
    assert len(ran) == 401
    found = those.read(those.topics.results, lambda found: len({n.id for _, n in found}) == 401)
    assert {event.state for event, _ in found if isinstance(event, Result)} == {"succeeded"}


def test_anyone_with_the_broker_can_ask_for_work_and_read_what_became_of_it(
    outside: tuple[World, Outside],
) -> None:
    world, those = outside
    for n in range(5):
        those.ask(b"%d" % n, f"order-{n}", shard=n)
    those.ask(b"0", "order-0", shard=0)
    those.ask(b"1", "odd", type="nobody")
    those.publish(Record(those.topics.commands.name, 3, b"no avro"))
    found = those.read(those.topics.results, lambda found: len(found) >= 5)
    told = {event.command_id: event.result for event, _ in found if isinstance(event, Result)}
    assert told == {f"order-{n}": b"%d" % n for n in range(5)}
    refused = those.read(those.topics.dead_letters, lambda found: len(found) >= 2)
    reasons = {event.reason for event, _ in refused if isinstance(event, DeadLetter)}
    assert reasons == {"unknown_task_type", "bad_record"}
    until(lambda: world.counter("succeeded") == 5)
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
    assert "region local: 2 workers" in told
    for module in (by_kafka, by_rabbitmq):
        assert "import chimera" not in Path(module.__file__).read_text()
        assert "from chimera" not in Path(module.__file__).read_text()
