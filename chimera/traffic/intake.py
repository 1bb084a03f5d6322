"""Taking commands in: from a partition of the broker into a shard's journal, once.

A record is acknowledged to the broker only when what it holds is in the journal, or is known to be
refused and whoever should know of it can. Nothing is dropped: a shard that is full leaves the
records where they are, and so holds up those who send them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from chimera.bus.protocol import EARLIEST, Bus, Received, Record, first_error
from chimera.contracts.cloudevents import Envelope
from chimera.contracts.events import DeadLetter, Failure, Origin
from chimera.errors import ChimeraError, Fenced, NotOwner, PositionLost, Unavailable, from_wire
from chimera.store.protocol import Receipt, SourcePosition
from chimera.swarm.policy import TaskPolicy
from chimera.traffic.commands import Check, Decoder, Inline, Part, Reader
from chimera.traffic.receipts import Answer, Receipts
from chimera.traffic.records import Writer
from chimera.traffic.topics import GROUP, Topics

#: records and bytes of one transaction, at most
RECORDS_MAX = 500
BYTES_MAX = 4 * 1024 * 1024
#: bytes of a refused record that its dead letter repeats; larger ones are named by their origin
LETTER_MAX = 512 * 1024
#: for the broker to take dead letters, seconds
PUBLISH_S = 5.0


class Host(Protocol):
    """The owner of the shard."""

    @property
    def types(self) -> Mapping[str, TaskPolicy]:
        """What its workers run."""
        ...

    def append(
        self, shard: int, frames: Sequence[bytes], source: SourcePosition | None = None
    ) -> list[Receipt | dict[str, Any]]:
        """Accept frames; a receipt, or an error as plain data, for each."""
        ...

    def source_position(self, shard: int, name: str) -> int | None:
        """How far a source was read. Raises NotOwner."""
        ...


@dataclass(frozen=True, slots=True)
class Broker:
    """What an owner needs of a broker."""

    bus: Bus
    topics: Topics
    decoder: Decoder
    writer: Writer
    source: str  #: CloudEvents source of what this owner publishes


class Turn(NamedTuple):
    """What a turn did with records."""

    taken: int = 0  #: decided: accepted or refused
    refused: int = 0
    lost: int = 0  #: 1 if the broker had lost what was next


class Intake:
    """One shard's commands, for as long as it is served here. Belongs to one thread."""

    def __init__(
        self, shard: int, broker: Broker, host: Host, receipts: Receipts, inline: Inline,
        check: Check,
    ) -> None:  # fmt: skip
        self._shard = shard
        self._broker = broker
        self._host = host
        self._receipts = receipts
        self._reader = Reader(shard, broker.decoder, host.types, inline, check)
        topic = broker.topics.commands
        self._source = f"{topic.name}/{shard}"
        position = host.source_position(shard, self._source)
        start = EARLIEST if position is None else position
        self._subscription = broker.bus.subscribe(topic, GROUP, {shard: start})
        self._records: list[Received] = []  #: fetched, and not acknowledged
        self._parts: list[Part] | None = None  #: of them, those not decided; None: not read yet
        self._refused: list[Part] = []  #: to be told of
        self._unread = 0  #: the position that the journal has lags behind by a refusal
        self._count = 0  #: of refused records, of those that were fetched

    def turn(self, timeout: float) -> Turn:
        """Take in what there is; waits for `timeout` seconds if there is nothing.

        Raises NotOwner or Fenced when the shard is another's; else whatever keeps it from being
        taken in, and goes on with the same records at the next call.
        """
        if not self._records:
            try:
                self._records = self._subscription.fetch(RECORDS_MAX, BYTES_MAX, timeout)
            except PositionLost:
                self._subscription.seek(self._shard, EARLIEST)
                return Turn(lost=1)
            self._parts = None
        if not self._records:
            return Turn()
        if self._parts is None:
            self._parts = self._readable(self._reader.parts(self._records, _unix_ms()))
        self._tell()  # before the position says that they were read
        self._append()
        return self._finish()

    def trim(self, timeout: float) -> None:
        """Let the broker forget what is in the journal. Raises what the broker answers."""
        position = self._host.source_position(self._shard, self._source)
        if position and self._broker.bus.seeks:
            topic = self._broker.topics.commands.name
            self._broker.bus.trim(topic, {self._shard: position}, timeout)

    def close(self, timeout: float) -> None:
        """Leave the partition to its next reader."""
        self._receipts.stall(self._shard, None)
        self._subscription.close(timeout)

    def _append(self) -> None:
        parts = self._parts or []
        while parts:
            parts = self._append_some(parts)
            self._tell()

    def _append_some(self, parts: Sequence[Part]) -> list[Part]:
        """Accept what can be; returns what is to be tried again at once, in order.

        Raises why something must wait.
        """
        answers = self._host.append(self._shard, [part.frame for part in parts], self._position())
        left: list[Part] = []
        told: list[tuple[tuple[str, int, int], Answer]] = []
        waits: ChimeraError | None = None
        for part, answer in zip(parts, answers, strict=True):
            fault = None if isinstance(answer, Receipt) else from_wire(answer)
            if isinstance(fault, (NotOwner, Fenced)):
                raise fault
            if isinstance(fault, Unavailable):
                left.append(part)
                waits = waits or fault
            elif fault is not None and part.sender is None and len(part.records) > 1:
                left += self._one_by_one(part)
            else:
                self._decide(part, answer, fault)
                if part.sender is not None:
                    told.append((part.sender, answer))
        self._receipts.keep(self._shard, told)
        self._parts = left
        if type(waits) is Unavailable and left != parts:
            waits = None  # it was behind one of its producer that is decided now (P11)
        self._receipts.stall(self._shard, None if waits is None else waits.to_wire())
        if waits is not None:
            raise waits
        return left

    def _one_by_one(self, part: Part) -> list[Part]:
        """The commands of a refused frame, each alone: one of them must not spoil the others."""
        apart = [self._reader.parts([record], _unix_ms()) for record in part.records]
        return self._readable([one for parts in apart for one in parts])

    def _readable(self, parts: Sequence[Part]) -> list[Part]:
        """Those that may be accepted; the others are refused."""
        self._refuse([part for part in parts if part.fault is not None])
        return [part for part in parts if part.fault is None]

    def _decide(self, part: Part, answer: Answer, fault: ChimeraError | None) -> None:
        """Note what is to be told of a frame that was accepted, or never will be."""
        self._unread += fault is not None
        if part.sender is not None:
            return  # its client asks
        if fault is not None:
            part.fault = fault
            self._refuse([part])
        elif isinstance(answer, Receipt):
            self._refuse(_skipped(part, answer))

    def _position(self) -> SourcePosition:
        """How far the broker is read with what was fetched; a queue has no positions."""
        seeks = self._broker.bus.seeks
        return SourcePosition(self._source, self._records[-1].position + 1 if seeks else 0)

    def _refuse(self, parts: Sequence[Part]) -> None:
        self._refused += parts
        self._unread += len(parts)
        self._count += sum(len(part.records) for part in parts)

    def _tell(self) -> None:
        """Publish why records of others were refused. Raises BusUnavailable."""
        if not self._refused:
            return
        letters = [self._letter(part, one) for part in self._refused for one in part.records]
        answers = self._broker.bus.publish(letters, PUBLISH_S)
        if fault := first_error(answers):
            raise fault
        self._refused = []

    def _letter(self, part: Part, record: Received) -> Record:
        assert part.fault is not None
        origin = Origin(record.topic, record.partition, record.position, record.deliveries)
        event = DeadLetter(
            reason=part.fault.code,
            error=Failure(part.fault.code, part.fault.message, retryable=False),
            recorded_at=_unix_ms(),
            record=record.value if len(record.value) <= LETTER_MAX else None,
            shard=self._shard,
            origin=origin,
        )
        named = Envelope(
            id=f"{record.topic}/{record.partition}/{record.position}/{record.timestamp}",
            source=self._broker.source,
            time=_unix_ms(),
        )
        topic = self._broker.topics.dead_letters
        return self._broker.writer.record(topic, self._shard, event, named, part.fault.code)

    def _finish(self) -> Turn:
        if self._unread:  # nothing that is refused holds the position back any more
            self._host.append(self._shard, (), self._position())
        self._subscription.ack(self._records)
        turned = Turn(len(self._records), self._count)
        self._records, self._parts, self._unread, self._count = [], None, 0, 0
        return turned


def _skipped(part: Part, receipt: Receipt) -> list[Part]:
    """Those of a frame's records that were refused one by one."""
    return [
        Part([part.records[one.index]], fault=one.error)
        for one in receipt.skipped
        if one.error is not None
    ]


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000
