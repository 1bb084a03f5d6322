"""Outcomes as the client hears them: pieces of frames or single tasks, decoded when looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from chimera.errors import ChimeraError, TaskCancelled, TaskExpired, TaskFailed
from chimera.frames import outcome
from chimera.store.protocol import TaskRecord

_STATES = {name: state for state, name in outcome.NAMES.items()}

decode_json = msgspec.json.Decoder().decode


class Outcome(NamedTuple):
    """What became of one task."""

    state: int  #: of chimera.frames.outcome
    body: bytes  #: result or Failure, JSON; or the claim check of it
    is_claim: bool = False
    attempts: int = 0  #: how many there were; 0 if not known
    #: why nothing can be told, e.g. NotFound after its retention
    fault: ChimeraError | None = None

    @classmethod
    def of(cls, record: TaskRecord) -> Outcome:
        """The outcome in a task's record; state OPEN if it has none yet."""
        state = _STATES.get(record.state, outcome.OPEN)
        return cls(state, record.body or b"", record.body_is_claim, record.attempts)

    def error(self, task_id: str) -> ChimeraError | None:
        """The error that says the same of this task; None if it succeeded."""
        if self.fault is not None:
            return self.fault
        if self.state == outcome.SUCCEEDED:
            return None
        said = outcome.Failure("")
        if self.body:
            try:
                said = outcome.decode_failure(self.body)
            except msgspec.MsgspecError:
                said = outcome.Failure("", self.body.decode("utf-8", "replace"))
        text = ": ".join(part for part in (said.error, said.message) if part)
        if self.state == outcome.CANCELLED:
            return TaskCancelled(text, id=task_id)
        if self.state == outcome.EXPIRED:
            return TaskExpired(text, id=task_id)
        return TaskFailed(
            text, id=task_id, type=said.error, attempts=self.attempts, traceback=said.traceback
        )


@dataclass(frozen=True, slots=True)
class Piece:
    """What one frame or row said of some tasks of a want."""

    indices: Sequence[int]  #: which of the want's tasks
    states: bytes  #: one a task
    #: one task's outcome; or the frame, and what to add to a want's index to get the frame's
    source: Outcome | tuple[bytes, int]

    def outcomes(self) -> Iterator[tuple[int, Outcome]]:
        """(index, outcome) of each task."""
        if isinstance(self.source, Outcome):
            yield self.indices[0], self.source
            return
        frame, shift = self.source
        header = outcome.header(frame)
        bodies = outcome.bodies(frame, header)
        claims = frozenset(outcome.columns(frame, header).claims or ())
        for index, state in zip(self.indices, self.states, strict=True):
            at = index + shift
            yield index, Outcome(state, bodies[at], at in claims, header.attempt)

    def plain(self) -> list[Any] | None:
        """The results, if all tasks succeeded and their results came along; None if some differ.

        What nearly every piece is, without an object a task.
        """
        if isinstance(self.source, Outcome):
            return None
        frame, shift = self.source
        header = outcome.header(frame)
        if header.bad or header.columns_bytes or not isinstance(self.indices, range):
            return None
        bodies = outcome.bodies(frame, header)
        if len(self.indices) != header.count:
            start = self.indices[0] + shift
            bodies = bodies[start : start + len(self.indices)]
        return list(map(decode_json, bodies))
