"""Many tasks as a few ranges: nothing is kept a task but a byte of state, and a key's shard."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from chimera.client.core import Core
from chimera.client.parcels import Accepted
from chimera.client.task import Task, accepted
from chimera.client.wait import SKIPPED
from chimera.frames import outcome
from chimera.frames.ids import TaskKey, format_id
from chimera.store.protocol import Skipped


@dataclass(frozen=True, slots=True)
class Counts:
    """How many tasks of a bulk are in which state, as far as this client has heard."""

    total: int
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    refused: int = 0  #: at submit, e.g. for an idempotency key that was used with other content
    duplicates: int = 0  #: of tasks submitted before; those count where they were submitted

    @property
    def done(self) -> int:
        """Tasks that nothing more will be heard of."""
        return (
            self.succeeded + self.failed + self.cancelled + self.expired
            + self.refused + self.duplicates
        )  # fmt: skip

    @property
    def open(self) -> int:
        return self.total - self.done


@dataclass(slots=True, eq=False)
class Segment:
    """Tasks that were accepted in one frame."""

    indices: Sequence[int]  #: which of the bulk's tasks they are, ascending
    accepted: Accepted
    skipped: dict[int, Skipped] = field(default_factory=dict)  #: by offset in the segment
    states: bytearray = field(default_factory=bytearray)  #: a byte a task: 0 while nothing is known

    def __post_init__(self) -> None:
        self.states = bytearray(self.accepted.count)
        for one in self.accepted.skipped:
            self.skipped[one.index] = one
            self.states[one.index] = SKIPPED

    @property
    def key(self) -> TaskKey:
        """Id of the first task."""
        return TaskKey(self.accepted.session, self.accepted.shard, self.accepted.first)


class BulkTasks:
    """What a bulk handle is made of; shared by the blocking and the awaited kind."""

    def __init__(self, core: Core, tenant: str) -> None:
        self.core = core
        self.tenant = tenant
        self.segments: list[Segment] = []  #: by their first index
        self.total = 0
        self._is_sorted = True

    def add(self, segment: Segment) -> None:
        """Tasks that were accepted."""
        if self.segments and segment.indices[0] < self.segments[-1].indices[0]:
            self._is_sorted = False
        self.segments.append(segment)
        self.total += len(segment.indices)

    def seal(self) -> None:
        """No more will come: bring the segments into order."""
        if not self._is_sorted:
            self.segments.sort(key=lambda segment: segment.indices[0])
            self._is_sorted = True

    def task(self, index: int) -> Task:
        """One of the tasks, by its place among the payloads. Raises IndexError."""
        at = index + self.total if index < 0 else index
        if 0 <= at < self.total:
            for segment in reversed(self.segments):
                if segment.indices[0] <= at <= segment.indices[-1]:
                    offset = bisect_left(segment.indices, at)
                    if segment.indices[offset] == at:
                        return accepted(self.core, self.tenant, segment.accepted, offset)
        raise IndexError(f"{index}: the bulk has {self.total} accepted tasks")

    def ids(self) -> Iterator[str]:
        """Their ids, frame by frame."""
        for segment in self.segments:
            session, shard, first = segment.key
            for offset in range(segment.accepted.count):
                yield format_id(session, shard, first + offset)

    def counts(self) -> Counts:
        numbers = dict.fromkeys(outcome.NAMES, 0)
        refused = duplicates = 0
        for segment in self.segments:
            for state in numbers:
                numbers[state] += segment.states.count(state)
            aliases = sum(one.task_id is not None for one in segment.skipped.values())
            duplicates += aliases
            refused += len(segment.skipped) - aliases
        named = {outcome.NAMES[state]: number for state, number in numbers.items()}
        return Counts(self.total, **named, refused=refused, duplicates=duplicates)
