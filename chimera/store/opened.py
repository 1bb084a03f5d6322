"""From what a journal holds to what a leader's machine is told of it, and settlements joined.

Shared by the leader's actor and the simulator, so that both tell the machine the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chimera.errors import ChimeraError
from chimera.frames import command, outcome
from chimera.store.protocol import Journal, OpenFrame, Receipt, Scheduled, Settlement
from chimera.swarm.leader.events import NewFrame


def new_frame(frame: bytes, head: command.Head, receipt: Receipt) -> NewFrame:
    """What the machine needs of an accepted frame."""
    header = command.header(frame)
    keys = deadlines = None
    if header.flags & (command.KEYS | command.DEADLINE):
        columns = command.columns(frame, header)
        keys, deadlines = columns.keys, columns.deadline
    out = {s.index for s in receipt.skipped}
    out.update(receipt.parked)
    return NewFrame(
        receipt.position, receipt.count, len(frame), head.type, head.tenant, head.priority,
        _ranges(receipt.position, receipt.count, out), keys, deadlines, head.options,
        trace_id=_trace_id(head),
    )  # fmt: skip


def _trace_id(head: command.Head) -> str | None:
    """The trace of a W3C `traceparent`, if it is one."""
    parts = (head.traceparent or "").split("-")
    return parts[1] if len(parts) == 4 and len(parts[1]) == 32 else None


def _ranges(position: int, count: int, out: set[int]) -> tuple[tuple[int, int], ...]:
    if not out:
        return ((position, position + count),)
    ranges: list[tuple[int, int]] = []
    start: int | None = None
    for index in range(count + 1):
        runs = index < count and index not in out
        if runs and start is None:
            start = index
        elif not runs and start is not None:
            ranges.append((position + start, position + index))
            start = None
    return tuple(ranges)


def earliest(frame: bytes, receipt: Receipt) -> int | None:
    """When the first parked task of a frame is due."""
    if not receipt.parked:
        return None
    times = command.columns(frame).not_before
    return min(times[index] for index in receipt.parked) if times else None


def reopened(journal: Journal, found: OpenFrame) -> NewFrame:
    """A frame with open tasks, as its new owner's machine is told. Raises CorruptFrame."""
    keys = deadlines = options = None
    if found.flags & (command.KEYS | command.DEADLINE | command.OPTIONS):
        frame = journal.read(found.position)[1]
        columns = command.columns(frame)
        keys, deadlines = columns.keys, columns.deadline
        options = command.head(frame).options
    return NewFrame(
        found.position, found.count, found.bytes, found.type, found.tenant, found.priority,
        tuple((found.position + a, found.position + b) for a, b in found.open),
        keys, deadlines, options,
    )  # fmt: skip


def parked(each: Scheduled, frame: bytes) -> NewFrame:
    """A parked task, with what its frame of one says."""
    columns = command.columns(frame)
    return NewFrame(
        each.position, 1, len(frame), each.type, each.tenant, each.priority,
        ((each.position, each.position + 1),), columns.keys, columns.deadline,
        command.head(frame).options, each.attempt, True, each.holds_key,
    )  # fmt: skip


def keys_of_ended(journal: Journal, positions: Iterable[int]) -> tuple[tuple[int, str, str], ...]:
    """Position, tenant and key of those tasks that have an outcome, and a key."""
    found: list[tuple[int, str, str]] = []
    for position in positions:
        try:
            first, frame = journal.read(position)
            ended = _has_ended(journal, position)
        except ChimeraError:
            continue
        keys = command.columns(frame).keys
        key = keys[position - first] if keys else None
        if ended and key is not None:
            found.append((position, command.head(frame).tenant, key))
    return tuple(found)


def _has_ended(journal: Journal, position: int) -> bool:
    known = journal.outcomes(((position, position + 1),), command.BYTES_MAX)
    if any(single.position == position for single in known.singles):
        return True
    headers = ((frame, outcome.header(frame)) for frame in known.frames)
    return any(
        outcome.states(frame, of)[position - of.position] != outcome.OPEN
        for frame, of in headers
        if 0 <= position - of.position < of.count
    )


def joined(settlements: Sequence[Settlement]) -> Settlement:
    """Several settlements of a shard as one, for one transaction."""
    if len(settlements) == 1:
        return settlements[0]
    return Settlement(
        tuple(f for one in settlements for f in one.frames),
        tuple(s for one in settlements for s in one.singles),
        tuple(p for one in settlements for p in one.parks),
    )


def tasks(settlement: Settlement) -> int:
    """Tasks that a settlement gives their outcome, if none has one."""
    found = len(settlement.singles)
    for frame in settlement.frames:
        header = outcome.header(frame)
        open_tasks = outcome.states(frame, header).count(outcome.OPEN) if header.bad else 0
        found += header.count - open_tasks
    return found
