"""Tasks on their way through a broker: durable there, accepted when their shard has them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chimera.bus.memory import MemoryBroker, MemoryBus
from chimera.client.broker import BrokerLink
from chimera.client.core import Core
from chimera.client.ports import Gone, NoOwner, Pending, Promise, failed
from chimera.client.swarm import Swarm
from chimera.contracts.codec import Codec
from chimera.contracts.own import OwnSchemas
from chimera.errors import BusUnauthorized, ChimeraError, OutcomeUnknown, Overloaded, TopicMissing
from chimera.frames import command
from chimera.store.protocol import Receipt, SourcePosition
from chimera.swarm.policy import TaskPolicy
from chimera.traffic.intake import Broker, Intake
from chimera.traffic.receipts import Receipts
from chimera.traffic.records import Writer
from chimera.traffic.topics import topics
from tests.unit.client.fake import FakeLeaders, MemoryBlobs, eventually

TOPICS = topics("t", 2)


class Leaders(FakeLeaders):
    """Leaders that take in what the broker has, when a test lets them."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(ring=2)
        self.types = {name: TaskPolicy(type=name) for name in self.known_types}
        self.bus = MemoryBus(broker)
        self.codec = Codec(OwnSchemas())
        self.receipts = Receipts()
        self.asked: list[int] = []
        self.refusal: ChimeraError | None = None  #: of the next question for receipts
        self.intakes = [self.intake(shard) for shard in range(2)]

    def intake(self, shard: int) -> Intake:
        writer = Writer(self.codec)
        broker = Broker(self.bus, TOPICS, self.codec, writer, "/chimera/t/leader")
        return Intake(
            shard, broker, self, self.receipts, lambda body: (body, False), lambda *_: None
        )

    def append(
        self, shard: int, frames: Any, source: SourcePosition | None = None
    ) -> list[Receipt | dict[str, Any]]:
        if not frames:
            return []
        return self._append(shard, tuple(frames))

    def source_position(self, shard: int, name: str) -> int | None:
        return self.journals[shard].source_position(name)

    def ask(self, shard: int, verb: str, *args: Any) -> Pending[Any]:
        if verb != "receipts":
            return super().ask(shard, verb, *args)
        self.asked.append(shard)
        refusal, self.refusal = self.refusal, None
        if refusal is not None:
            return failed(refusal)
        promise: Promise[Any] = Promise()
        threading.Thread(
            target=lambda: promise.keep(self.receipts.wait(shard, args[2], args[1])), daemon=True
        ).start()
        return promise


class World:
    """A client, a broker and leaders, in memory."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.leaders = Leaders(self.broker)
        self.leaders.bus.provision(tuple(TOPICS), 1.0)
        self.link = BrokerLink(
            self.leaders, MemoryBus(self.broker), TOPICS, Writer(self.leaders.codec)
        )
        blobs = MemoryBlobs()
        self.core = Core("t", self.link, lambda url: blobs)
        self.swarm = Swarm(self.core, "default", self.core.close)
        self.stop = threading.Event()
        self.pumps: list[threading.Thread] = []

    def pump(self) -> None:
        """From now on what the broker has is taken in."""
        for shard in range(2):
            thread = threading.Thread(target=self._pump, args=(shard,), daemon=True)
            thread.start()
            self.pumps.append(thread)

    def _pump(self, shard: int) -> None:
        while not self.stop.is_set():
            try:
                self.leaders.intakes[shard].turn(0.02)
            except ChimeraError:
                self.stop.wait(0.01)

    def records(self) -> int:
        return sum(self.broker.log(TOPICS.commands.name, shard).next for shard in range(2))

    def close(self) -> None:
        self.stop.set()
        for thread in self.pumps:
            thread.join(5.0)
        self.swarm.close()


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def begin(work: Callable[[], Any]) -> list[Any]:
    """Do something in a thread; the list gets its result or its error."""
    out: list[Any] = []

    def run() -> None:
        try:
            out.append(work())
        except Exception as fault:
            out.append(fault)

    threading.Thread(target=run, daemon=True).start()
    return out


def test_a_task_goes_through_the_broker_and_counts_when_its_shard_has_it(world: World) -> None:
    done = begin(lambda: world.swarm.submit("echo", 7, key="k"))
    eventually(world.records)
    assert not done
    world.pump()
    eventually(lambda: done)
    assert world.swarm.handle(done[0].id).status().state == "queued"
    assert world.leaders.appends() == [], "no frame reaches a leader but through the broker"


def test_a_bulk_goes_through_the_broker(world: World) -> None:
    world.leaders.handler = lambda payload: payload + 1
    world.pump()
    bulk = world.swarm.submit_many("echo", range(3000))
    assert list(bulk.results()) == list(range(1, 3001))
    assert world.swarm.call("echo", 41) == 42


def test_a_frame_whose_owner_dies_is_published_again_and_runs_once(world: World) -> None:
    world.leaders.refusal = Gone("dead")
    done = begin(lambda: world.swarm.submit("echo", 7, key="k"))
    eventually(lambda: world.records() >= 2)
    world.pump()
    eventually(lambda: done)
    assert not isinstance(done[0], Exception)
    assert sum(len(disk.tasks) for disk in world.leaders.disks) == 1


def test_a_refusal_by_the_shard_is_told_to_whoever_sent_it(world: World) -> None:
    world.leaders.known_types = ("echo",)
    world.pump()
    session = world.core.session.take(0, 1).session
    world.core.session._next.clear()
    head = command.Head("echo", at=1)
    world.leaders.journals[0].append([command.pack(session, 0, 0, head, [b"1"])], 1, 10)
    world.leaders.map = {0: "leader/local/0"}
    done = begin(lambda: world.swarm.submit("echo", 2))
    eventually(lambda: done)
    assert done[0].code == "id_conflict"


def test_a_full_shard_is_told_before_anything_more_is_published(world: World) -> None:
    world.leaders.queue_bound = 1
    world.pump()
    world.swarm.submit("echo", 1, key="k")
    waits = begin(lambda: world.swarm.submit("echo", 2, key="k", timeout_s=2.0))
    eventually(lambda: world.link._stalled)
    before = world.records()
    eventually(lambda: waits)
    assert isinstance(waits[0], OutcomeUnknown), "the broker has it: it will run"
    with pytest.raises(Overloaded):
        world.swarm.submit("echo", 3, key="k", timeout_s=2.0)
    assert world.records() == before
    world.leaders.queue_bound = 100
    eventually(lambda: sum(len(disk.tasks) for disk in world.leaders.disks) == 2)


def test_a_bulk_waits_for_a_full_shard_and_is_published_once(world: World) -> None:
    world.leaders.queue_bound = 5
    world.leaders.handler = None
    world.pump()
    bulk = begin(lambda: world.swarm.submit_many("echo", range(8), key=["k"] * 8))
    eventually(lambda: world.link._stalled)
    eventually(lambda: len(world.leaders.asked) >= 5)
    assert (world.records(), bulk) == (1, [])
    world.leaders.queue_bound = 100
    eventually(lambda: bulk)
    assert len(bulk[0]) == 8
    assert sum(len(disk.tasks) for disk in world.leaders.disks) == 8


def test_a_broker_that_is_down_is_waited_for(world: World) -> None:
    world.pump()
    world.broker.crash()
    done = begin(lambda: world.swarm.submit("echo", 7))
    eventually(lambda: world.core.publisher._troubled.total())
    assert not done
    world.broker.restart()
    eventually(lambda: done)
    assert not isinstance(done[0], Exception)


def test_a_broker_that_stays_away_is_named_in_the_error(world: World) -> None:
    world.broker.crash()
    with pytest.raises(OutcomeUnknown, match="the broker is down"):
        world.swarm.submit("echo", 7, timeout_s=0.5)


def test_a_broker_that_refuses_us_is_told_at_once(world: World) -> None:
    world.broker.fault = BusUnauthorized("user `client` is not allowed to write")
    with pytest.raises(BusUnauthorized, match="not allowed to write"):
        world.swarm.submit("echo", 7)


def test_a_topic_that_is_not_there_is_told_at_once(world: World) -> None:
    del world.broker.topics[TOPICS.commands.name]
    with pytest.raises(TopicMissing):
        world.swarm.submit("echo", 7)


def test_a_shard_without_an_owner_gets_nothing(world: World) -> None:
    world.leaders.map = world.leaders.true_map = {}
    with pytest.raises(NoOwner):
        world.link.ask(0, "append", 0, b"").get(1.0)
    assert not world.records()
