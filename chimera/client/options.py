"""What a caller may say about a task besides its payload, checked once and turned into columns."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from zlib import crc32

import msgspec

from chimera.errors import DeadlinePassed, InvalidRequest
from chimera.frames import command
from chimera.frames.limits import check_tags
from chimera.swarm.limits import home_shard
from chimera.swarm.policy import CLASSES, TASK_OPTIONS, TaskPolicy

#: seconds since 1970, or a moment
When = float | datetime


class Kind:
    """What tasks share apart from the moment: those of one kind may travel in one frame."""

    __slots__ = ("_head", "token")

    def __init__(self, head: command.Head) -> None:
        self._head = head
        #: equal for equal kinds
        self.token = command.encode_head(head)

    @property
    def size(self) -> int:
        """Bytes of its head in a frame, at most."""
        return len(self.token) + 16

    def head(self) -> bytes:
        """The head of a frame that is made now."""
        at = int(time.time() * 1000)
        return command.encode_head(msgspec.structs.replace(self._head, at=at))


@dataclass(frozen=True, slots=True)
class Options:
    """What applies to each task of one submit call; keys come apart, since they may differ."""

    not_before: int = 0  #: Unix milliseconds; 0: at once
    deadline: int = 0  #: Unix milliseconds; 0: none
    priority: int | None = None  #: None: what the type's policy says
    tags: tuple[str, ...] = ()
    traceparent: str | None = None
    overrides: dict[str, Any] = field(default_factory=dict)

    def kind(self, type: str, tenant: str, policy: TaskPolicy) -> Kind:
        """What frames of such tasks have in common."""
        priority = policy.priority if self.priority is None else self.priority
        return Kind(
            command.Head(
                type=type,
                tenant=tenant,
                priority=priority,
                traceparent=self.traceparent,
                options=self.overrides or None,
            )
        )

    def columns(
        self,
        count: int,
        keys: Sequence[str] | None = None,
        idempotency: Sequence[str] | None = None,
        claims: list[int] | None = None,
    ) -> command.Columns | None:
        """The columns of `count` tasks; None if none deviates."""
        if not (keys or idempotency or claims or self.not_before or self.deadline or self.tags):
            return None
        return command.Columns(
            keys=list(keys) if keys else None,
            idempotency=list(idempotency) if idempotency else None,
            not_before=[self.not_before] * count if self.not_before else None,
            deadline=[self.deadline] * count if self.deadline else None,
            tags=[list(self.tags)] * count if self.tags else None,
            claims=claims or None,
        )


def options(
    *,
    delay_s: float | None = None,
    not_before: When | None = None,
    deadline: When | None = None,
    priority: str | int | None = None,
    tags: Sequence[str] = (),
    traceparent: str | None = None,
    **overrides: Any,
) -> Options:
    """Check a caller's options. Raises InvalidRequest, DeadlinePassed."""
    now_ms = int(time.time() * 1000)
    if delay_s is not None and not_before is not None:
        raise InvalidRequest("give delay_s or not_before, not both")
    start = 0
    if delay_s is not None:
        if delay_s < 0:
            raise InvalidRequest(f"delay_s is {delay_s:g}: a delay is not negative")
        start = now_ms + int(delay_s * 1000) if delay_s else 0
    elif not_before is not None:
        start = milliseconds(not_before)
    end = 0 if deadline is None else milliseconds(deadline)
    if deadline is not None and end <= now_ms:
        when = datetime.fromtimestamp(end / 1000, timezone.utc).isoformat(timespec="milliseconds")
        raise DeadlinePassed(f"the deadline, {when}, has passed")
    if end and start > end:
        raise DeadlinePassed("the task may start only after its deadline")
    return Options(
        start, end, _priority(priority), check_tags(tags), traceparent, _checked(overrides)
    )


def milliseconds(when: When) -> int:
    """A moment as Unix milliseconds. Raises InvalidRequest."""
    seconds = when.timestamp() if isinstance(when, datetime) else float(when)
    if not 0 <= seconds < 1e11:
        raise InvalidRequest(f"{when!r} is no moment: give a datetime or seconds since 1970")
    return round(seconds * 1000)


def _priority(given: str | int | None) -> int | None:
    if given is None:
        return None
    if isinstance(given, str) and given in CLASSES:
        return CLASSES.index(given)
    if isinstance(given, int) and 0 <= given < len(CLASSES):
        return given
    raise InvalidRequest(f"{given!r} is no priority: one of {', '.join(CLASSES)}")


def _checked(overrides: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in overrides.items() if value is not None}
    if not given:
        return {}
    unknown = sorted(set(given) - TASK_OPTIONS)
    if unknown:
        known = ", ".join(sorted(TASK_OPTIONS))
        raise InvalidRequest(f"unknown option {unknown[0]!r}; a task may have its own {known}")
    try:
        msgspec.convert({"type": "t", **given}, TaskPolicy, strict=True)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"option: {error}") from error
    return given


class ShardByKey:
    """Where keys send the tasks of a tenant: the same for every client of the swarm."""

    __slots__ = ("_prefix", "_ring")

    def __init__(self, tenant: str, ring: int) -> None:
        self._prefix = crc32(tenant.encode() + b"\0")
        self._ring = ring

    def __call__(self, key: str) -> int:
        return crc32(key.encode(), self._prefix) % self._ring

    def all(self, keys: Sequence[str]) -> list[int]:
        """The shard of each key."""
        prefix, ring = self._prefix, self._ring
        return [crc32(key.encode(), prefix) % ring for key in keys]


class Route:
    """Which shard each task of one type goes to; None: to any."""

    __slots__ = ("_ring", "_tenant", "home")

    def __init__(self, tenant: str, ring: int, policy: TaskPolicy) -> None:
        #: where all tasks of the type live, if its limits are too narrow to be divided
        self.home = home_shard(policy, ring)
        self._tenant = tenant
        self._ring = ring

    def __call__(self, bound: str | None) -> int | None:
        """The shard of a task with this key, or idempotency key."""
        if self.home is not None or bound is None:
            return self.home
        return ShardByKey(self._tenant, self._ring)(bound)

    def all(self, bounds: Sequence[str], count: int) -> dict[int | None, Sequence[int]]:
        """Which of `count` tasks go to each shard, ascending; `bounds` has one a task, or none."""
        if self.home is not None or not bounds:
            return {self.home: range(count)}
        found: dict[int | None, list[int]] = {}
        for index, shard in enumerate(ShardByKey(self._tenant, self._ring).all(bounds)):
            mine = found.get(shard)
            if mine is None:
                mine = found[shard] = []
            mine.append(index)
        return dict(found)
