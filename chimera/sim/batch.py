"""One command frame in a simulated worker's hands: what actors/batch.py keeps of one."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from chimera.frames import command, ids, outcome
from chimera.frames.bundle import Dispatch
from chimera.swarm import worker as machine


class Chore(msgspec.Struct, frozen=True, omit_defaults=True):
    """A task's payload: what its handler is to do."""

    n: int  #: unique, for the reader of a trace
    d: float = 0.001  #: seconds it takes
    f: int = 0  #: attempts that raise before one returns
    k: int = 0  #: times that it kills its worker
    o: bool = False  #: it has a step that must not repeat (`ctx.once`)


@dataclass(eq=False, slots=True)
class Batch:
    """One command frame in hand."""

    part: machine.Part
    attempt: int
    header: command.Header
    payloads: list[bytes]
    columns: command.Columns
    tenant: str
    base: int
    sent_at: float
    next: int = 0  #: index of the first task that has not begun
    current: int | None = None
    stopped: bool = False
    states: list[int] = field(default_factory=list)
    bodies: list[bytes | None] = field(default_factory=list)
    handed: list[bool] = field(default_factory=list)
    cancelled: set[int] = field(default_factory=set)
    spent_s: float = 0.0

    @property
    def keys(self) -> list[str | None] | None:
        return self.columns.keys

    def task(self, index: int) -> str:
        of = self.header
        return ids.format_id(of.session, of.shard, of.first + index)

    def stop(self) -> list[machine.Range]:
        """Take back what has not begun, the first time."""
        if self.stopped:
            return []
        self.stopped = True
        left = self.part.count - self.next
        first = self.part.position + self.next
        return [(self.part.shard, first, left)] if left else []

    def in_hand(self) -> list[int]:
        return [] if self.current is None else [self.part.position + self.current]

    def end(self, index: int, state: int, body: bytes) -> None:
        self.states[index], self.bodies[index] = state, body

    def hand_in(self) -> list[bytes]:
        """Outcome frames of what has ended and was not handed in before."""
        frames: list[bytes] = []
        start: int | None = None
        for index in range(self.part.count + 1):
            fresh = (
                index < self.part.count
                and self.bodies[index] is not None
                and not self.handed[index]
            )
            if fresh and start is None:
                start = index
            elif not fresh and start is not None:
                frames.append(self._pack(start, index))
                start = None
        self.spent_s = 0.0
        return frames

    def _pack(self, start: int, stop: int) -> bytes:
        self.handed[start:stop] = [True] * (stop - start)
        return outcome.pack(
            self.part.shard, self.part.epoch, self.part.position + start,
            bytes(self.states[start:stop]), [body or b"" for body in self.bodies[start:stop]],
            attempt=self.attempt, duration_us=int(self.spent_s * 1e6) + 1,
        )  # fmt: skip


def opened(item: Dispatch, base: int, sent_at: float) -> Batch:
    """A frame of a dispatch; `base` is the ordinal of its first task within that."""
    header = command.header(item.frame)
    count = header.count
    batch = Batch(
        machine.Part(item.shard, item.epoch, item.position, count), item.attempt, header,
        command.payloads(item.frame, header), command.columns(item.frame, header),
        command.head(item.frame, header).tenant, base, sent_at,
    )  # fmt: skip
    batch.states = [outcome.SUCCEEDED] * count
    batch.bodies = [None] * count
    batch.handed = [False] * count
    return batch


def slot_of(batch: Batch, index: int) -> tuple[int, str, str] | None:
    """What a task shares with those that it must not run beside: shard, tenant and key."""
    key = batch.keys[index] if batch.keys else None
    return None if key is None else (batch.part.shard, batch.tenant, key)
