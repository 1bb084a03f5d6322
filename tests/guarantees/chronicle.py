"""What clients were told and handlers noted, laid before the history checker with the journals."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import chimera
from chimera.errors import TaskCancelled, TaskError, TaskExpired
from chimera.sim import history
from chimera.sim.history import Acknowledged, Ended, Seen, Started, Stored, Submitted, Violation
from tests.guarantees.kit import Note, notes

#: seconds between a handler's clock and the journal's, which counts milliseconds
TOLERANCE_S = 0.05
#: for outcomes to be read once more
READ_S = 60.0


def violations(
    store: Iterable[Stored],
    bulks: Iterable[chimera.Bulk] = (),
    logs: Iterable[Path] = (),
    keys: Sequence[str] | None = None,
) -> list[Violation]:
    """What of G1, G2, G3 and G5 does not hold; `keys` are those of each bulk's tasks."""
    records: list[history.Record] = []
    for bulk in bulks:
        records += _told(bulk, keys)
    for log in logs:
        records += _ran(notes(log))
    return history.violations(records, store, tolerance_s=TOLERANCE_S)


def _told(bulk: chimera.Bulk, keys: Sequence[str] | None) -> Iterator[history.Record]:
    """What a client saw of a bulk: it was acknowledged as one, and each outcome was read."""
    ids = [bulk[index].id for index in range(len(bulk))]
    for index, task in enumerate(ids):
        yield Submitted(task, 0.0, key=None if keys is None else keys[index])
        yield Acknowledged(task, 0.0)
    for index, value in bulk.as_completed(timeout_s=READ_S, return_exceptions=True):
        yield Seen(ids[index], _state(value), time.time())


def _state(value: Any) -> str:
    match value:
        case TaskCancelled():
            return "cancelled"
        case TaskExpired():
            return "expired"
        case TaskError():
            return "failed"
    return "succeeded"


def _ran(found: Iterable[Note]) -> Iterator[history.Record]:
    """Notes are of the monotonic clock, journals of the other one."""
    ahead_s = time.time() - time.monotonic()
    for one in found:
        at, worker = one.at / 1e9 + ahead_s, str(one.pid)
        if one.event == "ran":
            yield Started(one.task_id, worker, at)
        elif one.event == "ended":
            yield Ended(one.task_id, worker, at)
