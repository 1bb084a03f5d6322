"""A broker, a journal and an owner in memory, for tests of what travels between them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from chimera.bus.memory import MemoryBroker, MemoryBus
from chimera.bus.protocol import Received, Record
from chimera.contracts.cloudevents import Envelope
from chimera.contracts.codec import Codec
from chimera.contracts.events import Command, CommandFrame, DeadLetter, Event
from chimera.contracts.own import OwnSchemas
from chimera.errors import ChimeraError, InvalidPayload, NotOwner, StaleEpoch
from chimera.frames import command
from chimera.store.memory import MemoryJournal
from chimera.store.memory_disk import MemoryDisk
from chimera.store.protocol import Filter, Receipt, SourcePosition, TaskRecord
from chimera.swarm.policy import TaskPolicy
from chimera.swarm.reports import Owner
from chimera.traffic.intake import Broker, Intake
from chimera.traffic.receipts import Receipts
from chimera.traffic.records import Writer, envelope
from chimera.traffic.topics import topics

ME = Owner("leader/local/0", "boot", 1, 1, 1, "node")
SHARD = 1
TYPES = {"echo": TaskPolicy(type="echo"), "slow": TaskPolicy(type="slow", priority=2)}


def check(policy: TaskPolicy, value: Any) -> None:
    """As a contract that allows everything but -1."""
    if value == -1:
        raise InvalidPayload("-1 is not allowed")


def frame(first: int = 0, count: int = 3, **more: Any) -> bytes:
    columns = command.Columns(**more) if more else None
    head = command.Head("echo", at=int(time.time() * 1000))
    return command.pack(7, SHARD, first, head, [b"%d" % n for n in range(count)], columns)


class World:
    """Records go in at one end, and are in the journal at the other."""

    def __init__(self, seeks: bool = True) -> None:
        self.disk = MemoryDisk()
        self.types = dict(TYPES)
        self.bound = 1_000_000
        self.broker = MemoryBroker(seeks=seeks)
        self.bus = MemoryBus(self.broker)
        self.topics = topics("t", 4)
        self.bus.provision(tuple(self.topics), 1.0)
        self.codec = Codec(OwnSchemas())
        self.writer = Writer(self.codec)
        self.receipts = Receipts()
        self.intake: Intake | None = None
        self.take_over()

    def take_over(self) -> None:
        """Another owner, who knows what is durable and nothing else."""
        if self.intake is not None:
            self.intake.close(1.0)
        self.journal = MemoryJournal(self.disk, SHARD)
        self.journal.take(self.disk.epoch, ME)
        self.receipts = Receipts()
        broker = Broker(self.bus, self.topics, self.codec, self.writer, "/chimera/t/leader")
        self.intake = Intake(SHARD, broker, self, self.receipts, lambda body: (body, False), check)

    # the host

    def append(
        self, shard: int, frames: Sequence[bytes], source: SourcePosition | None = None
    ) -> list[Receipt | dict[str, Any]]:
        try:
            answers = self.journal.append(frames, int(time.time() * 1000), self.bound, source)
        except StaleEpoch as fault:
            raise NotOwner from fault
        return [one.to_wire() if isinstance(one, ChimeraError) else one for one in answers]

    def source_position(self, shard: int, name: str) -> int | None:
        return self.journal.source_position(name)

    # those outside

    def publish(self, event: Event, id: str = "1", source: str = "/shop", **more: str) -> None:
        record = self.writer.record(
            self.topics.commands, SHARD, event, Envelope(id, source, extensions=more)
        )
        assert self.bus.publish([record], 10.0) == [None]

    def command(self, payload: bytes = b"1", id: str = "1", **more: Any) -> None:
        self.publish(Command(type=more.pop("type", "echo"), payload=payload, **more), id)

    def send(self, data: bytes) -> None:
        """As a client of ours."""
        of = command.header(data)
        self.publish(CommandFrame(type="echo", count=of.count, frame=data), "f")

    def raw(self, value: bytes, headers: tuple[tuple[str, bytes], ...] = ()) -> None:
        record = Record(self.topics.commands.name, SHARD, value, headers=headers)
        assert self.bus.publish([record], 10.0) == [None]

    def turn(self) -> None:
        assert self.intake is not None
        self.intake.turn(0.01)

    def tasks(self) -> list[TaskRecord]:
        return sorted(self.journal.list(Filter(), None, 1000), key=lambda one: one.position)

    def letters(self) -> list[tuple[DeadLetter, Envelope]]:
        reading = self.bus.subscribe(self.topics.dead_letters, "outside")
        found: list[Received] = reading.fetch(100, 1 << 20, 0.01)
        reading.close(1.0)
        out = []
        for record in found:
            event, named = self.codec.decode(record.value), envelope(record)
            assert isinstance(event, DeadLetter)
            assert named is not None
            out.append((event, named))
        return out
