"""What clients and handlers saw of a run, and what of G1, G2, G3 and G5 it violates.

A history is a list of records, written by whoever saw something: the simulator, or a chaos test on
real Ray (one JSON object a line: `dumps`, `loads`). `stored` reads what a journal holds in the end.
`violations` compares the two; it knows nothing of how the tasks were run. All times are seconds of
one clock; what is closer than `tolerance_s` counts as simultaneous.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from chimera.frames import outcome
from chimera.store.protocol import Filter, Journal


class Submitted(msgspec.Struct, frozen=True, tag=True):
    """A client sent a task; records stand in the order in which it submitted them."""

    task: str
    at: float
    client: str = ""
    key: str | None = None
    #: it is held to its key's order: False for a delayed task, which joins when it is due
    in_order: bool = True


class Acknowledged(msgspec.Struct, frozen=True, tag=True):
    """A client was told that a task is durable."""

    task: str
    at: float


class Started(msgspec.Struct, frozen=True, tag=True):
    """A handler began to run a task."""

    task: str
    worker: str
    at: float
    #: its worker could not be reached by any owner: G3's and G5's named exceptions
    excused: bool = False


class Ended(msgspec.Struct, frozen=True, tag=True):
    """A handler returned or raised."""

    task: str
    worker: str
    at: float
    ok: bool = True  #: it returned


class Seen(msgspec.Struct, frozen=True, tag=True):
    """A client read a task's outcome."""

    task: str
    state: str
    at: float


class Stored(msgspec.Struct, frozen=True, tag=True):
    """What a journal says of a task when all is over."""

    task: str
    shard: int
    position: int
    state: str  #: as `TaskRecord.state`
    settled_at: float | None = None
    outcomes: int = 0  #: how many are recorded


Record = Submitted | Acknowledged | Started | Ended | Seen
_ENDS = frozenset(outcome.NAMES.values())


class Violation(msgspec.Struct, frozen=True):
    """A guarantee that did not hold."""

    guarantee: str
    task: str
    text: str

    def __str__(self) -> str:
        return f"{self.guarantee} {self.task}: {self.text}"


def dumps(records: Iterable[Record | Stored]) -> bytes:
    """One JSON object a line."""
    return b"".join(msgspec.json.encode(record) + b"\n" for record in records)


def loads(text: bytes) -> tuple[list[Record], list[Stored]]:
    """What `dumps` wrote, of one or several writers: history and store apart."""
    decode = msgspec.json.Decoder(Record | Stored).decode
    found = [decode(line) for line in text.splitlines() if line.strip()]
    records = [one for one in found if not isinstance(one, Stored)]
    return records, [one for one in found if isinstance(one, Stored)]


def stored(journal: Journal) -> list[Stored]:
    """Everything that a journal knows of its tasks."""
    times: dict[int, int] = defaultdict(int)
    recorded = journal.outcomes([(0, journal.next_position)], 1 << 40)
    single = {one.position for one in recorded.singles}
    for one in recorded.singles:
        times[one.position] += 1
    for frame in recorded.frames:
        header = outcome.header(frame)
        for position, code in enumerate(outcome.states(frame, header), header.position):
            # a single wins over a frame's byte (P8): beside one, the byte says nothing
            times[position] += code != outcome.OPEN and position not in single
    found: list[Stored] = []
    cursor: int | None = None
    while page := journal.list(Filter(), cursor, 1000):
        cursor = page[-1].position
        for task in page:
            at = None if task.settled_at is None else task.settled_at / 1000
            found.append(
                Stored(
                    task.task_id, journal.shard, task.position, task.state, at,
                    times[task.position],
                )
            )  # fmt: skip
    return found


@dataclass(slots=True)
class _Task:
    """All that is known of one task."""

    submitted: Submitted | None = None
    acknowledged: bool = False
    started: list[Started] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    stored: Stored | None = None


def violations(
    records: Sequence[Record],
    store: Iterable[Stored],
    *,
    finished: bool = True,
    aliases: Iterable[str] = (),
    tolerance_s: float = 0.005,
) -> list[Violation]:
    """Every violation that the history and the store show.

    `finished`: time enough passed for each accepted task to end. `aliases` are acknowledged ids
    that stand for another task (P14): they have no row and do not run.
    """
    tasks = _gathered(records, store)
    skipped = set(aliases)
    found: list[Violation] = []
    for name, task in tasks.items():
        if name in skipped:
            continue
        found += _lost(name, task)
        found += _outcomes(name, task, finished)
        found += _after_the_end(name, task, tolerance_s)
    keys: dict[str, list[tuple[str, _Task]]] = defaultdict(list)
    for name, task in tasks.items():
        sent = task.submitted
        if sent is not None and sent.key is not None and name not in skipped and task.stored:
            keys[sent.key].append((name, task))
    for key, chain in keys.items():
        found += _order(key, chain, tolerance_s)
        found += _overlap(key, chain, tolerance_s)
    return found


def _gathered(records: Sequence[Record], store: Iterable[Stored]) -> dict[str, _Task]:
    tasks: dict[str, _Task] = defaultdict(_Task)
    for record in records:
        task = tasks[record.task]
        match record:
            case Submitted():
                task.submitted = task.submitted or record
            case Acknowledged():
                task.acknowledged = True
            case Started():
                task.started.append(record)
            case Ended():
                task.ended.append(record)
            case Seen():
                task.seen.append(record)
    for row in store:
        tasks[row.task].stored = row
    return tasks


def _lost(name: str, task: _Task) -> list[Violation]:
    if task.stored is None and task.acknowledged:
        return [Violation("G1", name, "was acknowledged, and the store does not have it")]
    if task.stored is None and task.seen:
        return [Violation("G1", name, f"was seen {task.seen[0].state}, and is not stored")]
    return []


def _outcomes(name: str, task: _Task, finished: bool) -> list[Violation]:
    if task.stored is None:
        return []
    found: list[Violation] = []
    ended = task.stored.state in _ENDS
    if finished and not ended:
        found.append(Violation("G2", name, f"was accepted and never ended: {task.stored.state}"))
    if task.stored.outcomes > 1:
        found.append(Violation("G2", name, f"has {task.stored.outcomes} recorded outcomes"))
    states = {seen.state for seen in task.seen}
    if ended:
        states.add(task.stored.state)
    if len(states) > 1:
        found.append(Violation("G2", name, f"was first one thing, then another: {sorted(states)}"))
    if task.seen and not ended:
        found.append(Violation("G2", name, f"was seen {task.seen[0].state}, and is open again"))
    return found


def _after_the_end(name: str, task: _Task, tolerance_s: float) -> list[Violation]:
    ends = [seen.at for seen in task.seen]
    if task.stored is not None and task.stored.settled_at is not None:
        ends.append(task.stored.settled_at)
    if not ends:
        return []
    end = min(ends)
    late = [run for run in task.started if run.at > end + tolerance_s and not run.excused]
    return [
        Violation("G3", name, f"began on {run.worker} {run.at - end:.3f} s after its outcome")
        for run in late
    ]


def _order(key: str, chain: list[tuple[str, _Task]], tolerance_s: float) -> list[Violation]:
    """When a task of a key begins, those that its client submitted before it have ended."""
    found: list[Violation] = []
    latest: dict[str, tuple[float, str]] = {}  #: client → when the last of its tasks was over
    for name, task in chain:
        assert task.submitted is not None
        if not task.submitted.in_order:
            continue
        client = task.submitted.client
        since, before = latest.get(client, (float("-inf"), ""))
        for run in task.started:
            if run.at < since - tolerance_s and not run.excused:
                text = f"of key {key} began {since - run.at:.3f} s before {before} was over"
                found.append(Violation("G5", name, text))
        over = [end.at for end in task.ended if end.ok]
        if task.stored is not None and task.stored.settled_at is not None:
            over.append(task.stored.settled_at)
        latest[client] = max((since, before), (min(over, default=since), name))
    return found


def _overlap(key: str, chain: list[tuple[str, _Task]], tolerance_s: float) -> list[Violation]:
    """Two tasks of a key never run at the same time."""
    spans: list[tuple[float, float, str]] = []
    for name, task in chain:
        ends: dict[str, list[float]] = defaultdict(list)
        for end in task.ended:
            ends[end.worker].append(end.at)
        for run in task.started:
            after = [at for at in ends[run.worker] if at >= run.at]
            if after and not run.excused:  # one without an end died: nobody knows when
                spans.append((run.at, min(after), name))
    found: list[Violation] = []
    until, holder = float("-inf"), ""
    for start, stop, name in sorted(spans):
        if start < until - tolerance_s and name != holder:
            text = f"of key {key} ran {until - start:.3f} s beside {holder}"
            found.append(Violation("G5", name, text))
        if stop > until:
            until, holder = stop, name
    return found


def plain(found: Iterable[Violation]) -> list[dict[str, Any]]:
    """Violations as JSON-like data."""
    return [msgspec.to_builtins(one) for one in found]
