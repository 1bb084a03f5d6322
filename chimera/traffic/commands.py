"""Records of commands → frames. Pure: what is read, checked and put together, nothing written.

A record of our own clients is a frame already. Those of anybody else are single commands: here
they share frames, which from then on are like any others. Such a command is named by its
CloudEvents source and id (P22): their UUIDv5 is its idempotency key, so that a record that is sent
or handed out twice is one task. A command that brings an id of ours is that task instead.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID, uuid5

import msgspec

from chimera.bus.protocol import Received
from chimera.contracts.cloudevents import Envelope
from chimera.contracts.events import Command, CommandFrame, Event
from chimera.errors import (
    BadRecord,
    ChimeraError,
    InvalidPayload,
    InvalidRequest,
    NotReady,
    Unavailable,
    UnknownTaskType,
)
from chimera.frames import command as frames
from chimera.frames import ids
from chimera.frames.limits import check_key, check_tags
from chimera.swarm.policy import CLASSES, TASK_OPTIONS, TaskPolicy
from chimera.traffic.records import envelope

#: of the UUIDv5 of (tenant, source, id)
NAMESPACE = UUID("5a1f6b0e-93c0-5f5e-8d55-2f4d3c1b7a60")
#: bytes that a task costs in a frame besides its texts and its payload, at most
_TASK_BYTES = 64
#: bytes of a frame that are left to its header and head
_HEAD_BYTES = 4096


class Decoder(Protocol):
    """What a codec is to a reader."""

    def decode(self, value: bytes | None) -> Event:
        """Raises BadRecord; Unavailable if the registry does not answer: try again."""
        ...


@dataclass(slots=True, eq=False)
class Part:
    """Records that are accepted, or refused, together."""

    records: list[Received]
    frame: bytes = b""
    #: (tenant, session, first) of a frame that a client of ours sent, who will ask for it
    sender: tuple[str, int, int] | None = None
    fault: ChimeraError | None = None  #: it will never be accepted


@dataclass(slots=True)
class _Task:
    """A foreign command that may come in."""

    record: Received
    command: Command
    envelope: Envelope
    payload: bytes
    is_claim: bool
    idempotency: str
    size: int


@dataclass(slots=True)
class _Group:
    """Foreign commands that share a frame."""

    token: bytes
    head: frames.Head
    tasks: list[_Task] = field(default_factory=list)
    size: int = _HEAD_BYTES


#: stores a payload over the inline limit; what to send, and whether it is a claim check
Inline = Callable[[bytes], tuple[bytes, bool]]
#: raises InvalidPayload for a payload that its type's contract does not allow
Check = Callable[[TaskPolicy, Any], None]


class Reader:
    """Reads the commands of one shard."""

    def __init__(
        self,
        shard: int,
        decoder: Decoder,
        policies: Mapping[str, TaskPolicy],
        inline: Inline,
        check: Check,
    ) -> None:
        self._shard = shard
        self._decoder = decoder
        self._policies = policies
        self._inline = inline
        self._check = check
        self._session = secrets.randbits(ids.SESSION_BITS)
        self._counter = 0

    def parts(self, records: Sequence[Received], now: int) -> list[Part]:
        """What the records hold, in their order; those with keys are never overtaken.

        Raises Unavailable if the registry or the object store does not answer: try again.
        """
        found: list[Part | _Group] = []
        for record in records:
            try:
                self._add(found, record, now)
            except Unavailable:
                raise
            except ChimeraError as fault:
                found.append(Part([record], fault=fault))
            except Exception as error:  # whatever bytes from outside make a library raise
                said = f"{type(error).__name__}: {error}"
                found.append(Part([record], fault=BadRecord(said[:300])))
        return [self._pack(one) if isinstance(one, _Group) else one for one in found]

    def _add(self, found: list[Part | _Group], record: Received, now: int) -> None:
        event = self._decoder.decode(record.value)
        if isinstance(event, CommandFrame):
            of = frames.verify(event.frame)
            sender = (frames.head(event.frame, of).tenant, of.session, of.first)
            found.append(Part([record], event.frame, sender))
        elif isinstance(event, Command):
            task, head = self._task(record, event, now)
            if event.id is not None:
                found.append(self._named(task, head, event.id))
            else:
                self._join(found, task, head)
        else:
            raise BadRecord(f"a record of {event.ce_type} among commands")

    def _task(self, record: Received, event: Command, now: int) -> tuple[_Task, frames.Head]:
        """A foreign command with what it shares with others. Raises InvalidRequest, BadRecord."""
        named = envelope(record)
        if named is None:
            raise BadRecord("a command needs a CloudEvents id and source: they are its name")
        policy = self._policy(event.type)
        for name in ("key", "idempotency_key"):
            if getattr(event, name) is not None:
                check_key(name, getattr(event, name))
        check_tags(event.tags)
        payload, is_claim = event.payload, event.payload_is_claim
        if not is_claim:
            self._check(policy, _json(payload))
            payload, is_claim = self._inline(payload)
        own = str(uuid5(NAMESPACE, f"{event.tenant}\n{named.source}\n{named.id}"))
        head = frames.Head(
            type=event.type,
            tenant=event.tenant,
            priority=_priority(event.priority, policy),
            at=now,
            traceparent=named.extensions.get("traceparent"),
            options=_options(event),
            source=named.source,
        )
        texts = (event.key or "", event.idempotency_key or own, named.id, *event.tags)
        size = len(payload) + _TASK_BYTES + sum(len(text.encode()) + 5 for text in texts)
        task = _Task(record, event, named, payload, is_claim, event.idempotency_key or own, size)
        return task, head

    def _policy(self, type: str) -> TaskPolicy:
        if not self._policies:
            raise NotReady("no worker has loaded its handlers yet", retry_after=0.2)
        policy = self._policies.get(type)
        if policy is None:
            known = ", ".join(sorted(self._policies))
            raise UnknownTaskType(f"no handler for task type {type!r}; there are: {known}")
        return policy

    @staticmethod
    def _join(found: list[Part | _Group], task: _Task, head: frames.Head) -> None:
        """Put it to others of its kind; one with a key only to its neighbours."""
        token = frames.encode_head(head)
        latest = found[-1:] if task.command.key is not None else found
        for group in reversed(latest):
            if isinstance(group, _Group) and group.token == token:
                full = len(group.tasks) >= frames.COUNT_MAX
                if not full and group.size + task.size <= frames.BYTES_MAX:
                    group.tasks.append(task)
                    group.size += task.size
                    return
                break
        found.append(_Group(token, head, [task], _HEAD_BYTES + task.size))

    def _pack(self, group: _Group) -> Part:
        first = self._counter
        self._counter += len(group.tasks)
        return _part(group.tasks, group.head, self._session, self._shard, first)

    def _named(self, task: _Task, head: frames.Head, id: str) -> Part:
        """A task whose sender made its id. Raises InvalidRequest."""
        try:
            key = ids.parse_id(id)
        except ValueError as fault:
            raise InvalidRequest(
                f"the command's id: {fault}; leave it out to be given one"
            ) from fault
        if key.shard != self._shard:
            raise InvalidRequest(f"the id {id} is of shard {key.shard}, not {self._shard}")
        return _part([task], head, key.session, key.shard, key.counter)


def _part(tasks: list[_Task], head: frames.Head, session: int, shard: int, first: int) -> Part:
    commands = [task.command for task in tasks]

    def column(values: list[Any], empty: Any) -> list[Any] | None:
        return [value or empty for value in values] if any(values) else None

    columns = frames.Columns(
        keys=column([one.key for one in commands], None),
        idempotency=[task.idempotency for task in tasks],
        not_before=column([one.not_before for one in commands], 0),
        deadline=column([one.deadline for one in commands], 0),
        tags=column([list(one.tags) for one in commands], []),
        claims=[index for index, task in enumerate(tasks) if task.is_claim] or None,
        events=[task.envelope.id for task in tasks],
    )
    payloads = [task.payload for task in tasks]
    frame = frames.pack(session, shard, first, head, payloads, columns)
    return Part([task.record for task in tasks], frame)


def _json(payload: bytes) -> Any:
    try:
        return msgspec.json.decode(payload)
    except msgspec.MsgspecError as fault:
        raise InvalidPayload(f"the payload is no JSON: {fault}") from fault


def _priority(given: str | None, policy: TaskPolicy) -> int:
    if given is None:
        return policy.priority
    if given not in CLASSES:
        raise InvalidRequest(f"{given!r} is no priority: one of {', '.join(CLASSES)}")
    return CLASSES.index(given)


def _options(event: Command) -> dict[str, Any] | None:
    given = {name: getattr(event, name) for name in sorted(TASK_OPTIONS)}
    return {name: value for name, value in given.items() if value is not None} or None
