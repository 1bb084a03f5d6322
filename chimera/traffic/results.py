"""Recorded outcomes as events for others: one result a task, and a dead letter if it failed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import msgspec

from chimera.contracts.cloudevents import Envelope
from chimera.contracts.events import DeadLetter, Failure, Result
from chimera.errors import ChimeraError
from chimera.frames import command, ids, outcome
from chimera.store.protocol import Entry

#: from a position to the command frame that holds it, and where that starts
Read = Callable[[int], tuple[int, bytes]]


@dataclass(frozen=True)
class _Frame:
    """A command frame, decoded when something of it is needed first."""

    start: int
    data: bytes

    @cached_property
    def of(self) -> command.Header:
        return command.header(self.data)

    @cached_property
    def head(self) -> command.Head:
        return command.head(self.data, self.of)

    @cached_property
    def columns(self) -> command.Columns:
        return command.columns(self.data, self.of)

    @cached_property
    def payloads(self) -> list[bytes]:
        return command.payloads(self.data, self.of)


@dataclass(frozen=True, slots=True)
class _Ended:
    """A task that got its outcome."""

    position: int
    state: int
    body: bytes
    is_claim: bool
    attempts: int


@dataclass(frozen=True, slots=True)
class Told:
    """A result with what goes with it."""

    result: Result
    dead_letter: DeadLetter | None
    envelope: Envelope


def results(entry: Entry, shard: int, epoch: int, source: str, read: Read) -> Iterator[Told]:
    """What a recorded row says. Of tasks whose command is gone or corrupt there is nothing to say.

    The CloudEvents id is the task's: one that is published twice is recognised by it.
    """
    frame: _Frame | None = None
    for ended in _ended(entry):
        if frame is None or not frame.start <= ended.position < frame.start + frame.of.count:
            try:
                frame = _Frame(*read(ended.position))
            except ChimeraError:
                continue
        yield _told(entry, ended, frame, epoch, source)


def _ended(entry: Entry) -> Iterator[_Ended]:
    if entry.single is not None:
        one = entry.single
        yield _Ended(one.position, one.state, one.body, False, one.attempts)
    if entry.frame is None:
        return
    of = outcome.header(entry.frame)
    claims = frozenset(outcome.columns(entry.frame, of).claims or ())
    states, bodies = outcome.states(entry.frame, of), outcome.bodies(entry.frame, of)
    for index, (state, body) in enumerate(zip(states, bodies, strict=True)):
        if state != outcome.OPEN:
            yield _Ended(of.position + index, state, body, index in claims, of.attempt)


def _told(entry: Entry, ended: _Ended, frame: _Frame, epoch: int, source: str) -> Told:
    index = ended.position - frame.start
    head, columns = frame.head, frame.columns
    task_id = ids.format_id(frame.of.session, frame.of.shard, frame.of.first + index)
    good = ended.state == outcome.SUCCEEDED
    key = columns.keys[index] if columns.keys else None
    tags = tuple(columns.tags[index]) if columns.tags else ()
    caused = columns.events[index] if columns.events else None
    error = None if good else _failure(ended)
    result = Result(
        task_id=task_id, type=head.type, tenant=head.tenant,
        state=outcome.NAMES.get(ended.state, "failed"), attempts=ended.attempts,
        result=ended.body if good else None, result_is_claim=good and ended.is_claim, error=error,
        key=key, tags=tags, recorded_at=entry.at, shard=frame.of.shard, position=ended.position,
        epoch=epoch, command_id=caused, command_source=head.source,
    )  # fmt: skip
    extensions = {"correlationid": task_id}
    if caused is not None:
        extensions["causationid"] = caused
    if head.traceparent is not None:
        extensions["traceparent"] = head.traceparent
    if key is not None:
        extensions["partitionkey"] = key
    named = Envelope(task_id, source, "", task_id, entry.at, extensions=extensions)
    letter = None
    if ended.state == outcome.FAILED and error is not None:
        letter = DeadLetter(
            reason="failed", error=error, task_id=task_id, type=head.type, tenant=head.tenant,
            attempts=ended.attempts, payload=frame.payloads[index],
            payload_is_claim=index in (columns.claims or ()), key=key, tags=tags,
            recorded_at=entry.at, shard=frame.of.shard, position=ended.position,
        )  # fmt: skip
    return Told(result, letter, named)


def _failure(ended: _Ended) -> Failure:
    try:
        found = outcome.decode_failure(ended.body)
    except msgspec.MsgspecError:
        text = "" if ended.is_claim else ended.body.decode("utf-8", "replace")
        return Failure(outcome.NAMES.get(ended.state, "failed"), _said(text))
    return Failure(found.error, found.message, found.traceback, found.retryable)


def _said(text: str) -> str:
    """The text in a JSON text, or what there is."""
    try:
        return str(json.loads(text))
    except ValueError:
        return text
