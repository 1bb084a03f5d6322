"""The bus's port: durable, partitioned topics of opaque records, on a broker or on this machine.

A bus moves bytes and knows nothing of tasks. Delivery is at least once: whoever writes down what
a record means recognises it by its content (P22), never by its position alone. Who reads a
partition is decided by the epochs of shards, not by the bus: a group only names whose
acknowledgements the broker remembers. Within a partition records are handed out in the order in
which they were published.

Every wait has a deadline. A bus reconnects for ever; nothing but `close` ends it. All methods may
be called from any thread. Times are Unix milliseconds, waits are seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Protocol

from chimera.errors import ChimeraError, InvalidRequest, RecordTooLarge, TopicMissing

#: start where the group's acknowledgements end; from the earliest record if there are none
REMEMBERED: Final = -1
#: start at the earliest record that is kept
EARLIEST: Final = -2
#: what one record may weigh in any topic: key, value and headers, bytes. Larger payloads travel as
#: claim checks
RECORD_MAX_BYTES: Final = 1280 * 1024


class Kind(Enum):
    """What a topic is for; it decides what the broker keeps, and how RabbitMQ lays it out."""

    COMMANDS = "commands"  #: kept until acknowledged and trimmed; one queue a partition
    EVENTS = "events"  #: kept for a while; one stream to each group


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it is declared; `Bus.provision` makes it so."""

    name: str
    partitions: int
    kind: Kind
    #: who may subscribe; a broker with queues keeps one for each, from when it is provisioned
    groups: tuple[str, ...]
    #: how long records of an EVENTS topic are kept; COMMANDS are never dropped for their age
    retention_ms: int = 7 * 24 * 3600 * 1000
    #: what a record may weigh here, RECORD_MAX_BYTES at most; told to a broker that can hold others
    #: to it. A client's own check knows the general limit only
    record_max_bytes: int = RECORD_MAX_BYTES
    #: copies on a broker of several nodes; 0: three, or as many as there are nodes
    replicas: int = 0

    def __post_init__(self) -> None:
        if self.partitions < 1:
            raise InvalidRequest(f"topic {self.name}: a topic has at least one partition")
        if not 0 < self.record_max_bytes <= RECORD_MAX_BYTES:
            raise InvalidRequest(
                f"topic {self.name}: records have {RECORD_MAX_BYTES} bytes at most"
            )
        if not self.groups:
            raise InvalidRequest(f"topic {self.name}: nobody would read it: name a group")


@dataclass(frozen=True, slots=True)
class Record:
    """A record to publish."""

    topic: str
    partition: int
    value: bytes
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp: int | None = None  #: None: when it is published
    #: dotted words after the partition in RabbitMQ's routing key, for consumers that bind by them
    subject: str = ""

    @property
    def size(self) -> int:
        """What counts against RECORD_MAX_BYTES."""
        return (
            len(self.value)
            + len(self.key or b"")
            + sum(len(name) + len(value) for name, value in self.headers)
        )


@dataclass(frozen=True, slots=True)
class Received:
    """A record that was fetched. It stays in flight until it is acknowledged or given back."""

    topic: str
    partition: int
    #: grows within a partition. On a bus that seeks it is the record's for ever; else it is this
    #: subscription's own number, and means nothing to another one
    position: int
    value: bytes
    key: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp: int
    #: how often it was handed out, as far as the bus can tell; a log does not count, and says 1
    deliveries: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that `check` found."""

    serious: bool  #: False: fine for trying things out
    subject: str  #: a topic, a queue or the broker
    problem: str
    remedy: str


class Subscription(Protocol):
    """Reads partitions of one topic for one group."""

    def fetch(self, max_records: int, max_bytes: int, timeout: float) -> list[Received]:
        """What can be had now, in order within each partition; waits if there is nothing.

        Returns at least one record whatever its size, and an empty list when nothing came in
        time: because there is none, because another consumer of the group is active, or because
        as much is in flight as the bus allows. Bytes of a record are never looked at.

        Raises, after having waited for `timeout`: BusUnavailable if the broker could not be
        reached, BusUnauthorized if it refuses us, TopicMissing. Raises PositionLost if what is
        next in a partition is not kept any more, each time until `seek`. The subscription
        survives all of these, and so may the caller's loop.
        """
        ...

    def ack(self, records: Iterable[Received]) -> None:
        """These are dealt with, durably: do not hand them out again.

        In any order; the broker is told in the background, and may forget: then they are handed
        out again. On a bus with positions only what has no gap before it counts. Records of
        before a reconnect are ignored.
        """
        ...

    def nack(self, records: Iterable[Received]) -> None:
        """Give these back, and what is in flight after the first of them in its partition.

        All of that is handed out again, in order. Costs a round trip: pause before the next try.
        """
        ...

    def seek(self, partition: int, position: int) -> None:
        """Go on at a position, or EARLIEST; what is in flight there is forgotten.

        Raises InvalidRequest on a bus that does not seek.
        """
        ...

    def close(self, timeout: float) -> None:
        """Tell the broker what is acknowledged, then leave; what is in flight goes to others."""
        ...


class Bus(Protocol):
    """A connection to where topics live. Made by `chimera.bus.connect`, which waits for nothing."""

    #: whether positions outlive a subscription, so that one may start at them
    seeks: bool

    def publish(self, records: Sequence[Record], timeout: float) -> list[ChimeraError | None]:
        """Write records in order; one answer each: None when it is as durable as the broker can.

        An error means that the record *may* have been written: publish it again, unless it is
        RecordTooLarge or TopicMissing, which never are. BusUnavailable: no answer in time.
        BusUnauthorized: the broker refuses us. A refused record does not keep others from being
        written. Waits while too much is under way, for `timeout` at most.
        """
        ...

    def subscribe(
        self, topic: Topic, group: str, start: Mapping[int, int] | None = None
    ) -> Subscription:
        """Read partitions from given positions; None: all of them, as REMEMBERED.

        A position may be REMEMBERED or EARLIEST; a bus that does not seek hands out what is not
        acknowledged, whatever is asked. With queues, one subscription of a group is active a
        partition, and the others wait for it to leave or to be lost; with a log each gets all.
        An EVENTS topic is read whole. Waits for nothing: faults show in `fetch`.
        """
        ...

    def provision(self, topics: Sequence[Topic], timeout: float) -> list[str]:
        """Make what is missing, say what was made or changed. Never done by the way.

        Raises InvalidRequest for a topic that is there with another number of partitions, besides
        BusUnavailable and BusUnauthorized.
        """
        ...

    def trim(self, topic: str, below: Mapping[int, int], timeout: float) -> None:
        """Give back the space of records below these positions; nothing where acks do that."""
        ...

    def lag(self, topic: Topic, group: str, timeout: float) -> dict[int, int]:
        """How many records a group has not acknowledged, by partition.

        A bus that does not seek leaves out those that a reader holds: AMQP tells of a queue only
        what is ready. It has one queue for an EVENTS topic: that is told as partition 0.
        """
        ...

    def check(
        self, topics: Sequence[Topic], timeout: float, production: bool = False
    ) -> list[Finding]:
        """What is wrong, and how to mend it: topics, partitions, and how safe the broker is.

        With `production`, what loses records with one machine is serious. Raises like `lag`.
        """
        ...

    def close(self, timeout: float) -> None:
        """End everything within `timeout`; records not yet answered for are reported as unknown."""
        ...


def too_large(record: Record, limit: int = RECORD_MAX_BYTES) -> RecordTooLarge | None:
    """The refusal of a record that is over the limit; it says how large it may be."""
    if record.size <= limit:
        return None
    return RecordTooLarge(
        f"a record of {record.size} bytes for topic {record.topic}: {limit} at most",
        size=record.size,
        limit=limit,
    )


def missing(topic: str, partition: int | None = None) -> TopicMissing:
    """The refusal of what is addressed to, or read from, a topic that is not there."""
    what = f"topic {topic}" if partition is None else f"partition {partition} of topic {topic}"
    return TopicMissing(f"there is no {what}: `chimera bus provision` makes it", topic=topic)


def wrong_partitions(topic: Topic, found: int) -> InvalidRequest:
    """The refusal to provision over a topic of another shape."""
    return InvalidRequest(
        f"topic {topic.name} has {found} partitions, not {topic.partitions}: the ring of shards"
        " is fixed at a swarm's birth; give the swarm another name, or delete the topic"
    )


def first_error(answers: Iterable[ChimeraError | None]) -> ChimeraError | None:
    """The first refusal of a publish, if there is one."""
    return next((answer for answer in answers if answer is not None), None)
