"""What a handler may ask and tell while it runs a task."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timezone
from typing import Any, Protocol, TypeVar

import msgspec

from chimera.api import convert

T = TypeVar("T")

#: bytes of a value of `once` or `progress`, at most
VALUE_BYTES_MAX = 64 * 1024

_decode = msgspec.json.Decoder().decode


class Source(Protocol):
    """What a context needs of the worker that makes it; `index` names the task."""

    type: str
    tenant: str
    attempt: int
    epoch: int

    def task_id(self, index: int) -> str: ...

    def key(self, index: int) -> str | None: ...

    def tags(self, index: int) -> Sequence[str]: ...

    def deadline(self, index: int) -> int:
        """Unix milliseconds; 0 for none."""
        ...

    def is_cancelled(self, index: int) -> bool: ...

    def heartbeat(self) -> None: ...

    def progress(self, index: int, value: Any) -> None: ...

    def memo(self, index: int, step: str) -> bytes | None: ...

    def memoise(self, index: int, step: str, value: bytes) -> bytes: ...

    async def in_thread(self, work: Callable[..., T], *args: Any) -> T:
        """Do what waits for somebody else without holding up the event loop."""
        ...


class Context:
    """One attempt of one task, as its handler sees it. Good until the handler returns."""

    __slots__ = ("_index", "_log", "_source")

    def __init__(self, source: Source, index: int) -> None:
        self._source = source
        self._index = index
        self._log: Any = None

    @property
    def task_id(self) -> str:
        """The task's id, the same in every attempt: the idempotency token to hand on."""
        return self._source.task_id(self._index)

    @property
    def type(self) -> str:
        """The task's type."""
        return self._source.type

    @property
    def tenant(self) -> str:
        """Whose task it is."""
        return self._source.tenant

    @property
    def key(self) -> str | None:
        """The ordering key: tasks that share it run one at a time, in order."""
        return self._source.key(self._index)

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return self._source.attempt

    @property
    def epoch(self) -> int:
        """Epoch of the shard's owner that dispatched this attempt; it only grows.

        A former owner's attempt may still run somewhere: let what you write to refuse a lower
        epoch than it has seen for the same key (a fencing token).
        """
        return self._source.epoch

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(self._source.tags(self._index))

    @property
    def deadline(self) -> datetime | None:
        """The latest start of the task, if it has one."""
        unix_ms = self._source.deadline(self._index)
        return datetime.fromtimestamp(unix_ms / 1000, timezone.utc) if unix_ms else None

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody wants the task to end: clean up and raise `chimera.Cancelled`.

        Coroutines need not ask: they are cancelled.
        """
        return self._source.is_cancelled(self._index)

    @property
    def log(self) -> Any:
        """A structlog logger that adds the task's id, type and attempt to each line."""
        if self._log is None:
            import structlog

            self._log = structlog.get_logger().bind(
                task_id=self.task_id, task_type=self.type, attempt=self.attempt
            )
        return self._log

    def heartbeat(self) -> None:
        """Say that the attempt is alive: needed within each `heartbeat_timeout_s` of its type."""
        self._source.heartbeat()

    def progress(self, value: Any) -> None:
        """Tell how far the task is, as JSON: shown to who asks, lost with the leader.

        Values that follow each other within a few hundredths of a second may be dropped. Counts
        as a heartbeat. Raises TypeError for what is no JSON, ValueError over 64 KiB.
        """
        self._source.heartbeat()
        self._source.progress(self._index, _decode(_encode("progress", value)))

    def once(self, step: str, fn: Callable[[], T]) -> T:
        """The value of `fn()`, made once for this task and step, however many attempts there are.

        The value (JSON, up to 64 KiB) is stored durably; what is returned is what was stored, in
        plain JSON types. If the process dies between the effect of `fn` and its recording, the
        effect repeats: hand `task_id` on as idempotency token where that matters. If `fn` is a
        coroutine function the answer is to be awaited. Raises chimera.errors.Unavailable if no
        owner of the shard can be reached within the attempt's timeout.
        """
        if inspect.iscoroutinefunction(fn):
            return self._once_async(step, fn)  # type: ignore[return-value] # T is its coroutine
        stored = self._source.memo(self._index, step)
        if stored is None:
            value = _encode(f"once({step!r})", fn())
            stored = self._source.memoise(self._index, step, value)
        return _decode(stored)  # type: ignore[no-any-return]

    async def _once_async(self, step: str, fn: Callable[[], Awaitable[Any]]) -> Any:
        source = self._source
        stored = await source.in_thread(source.memo, self._index, step)
        if stored is None:
            value = _encode(f"once({step!r})", await fn())
            stored = await source.in_thread(source.memoise, self._index, step, value)
        return _decode(stored)

    def __repr__(self) -> str:
        return f"<Context of {self.type} {self.task_id}, attempt {self.attempt}>"


def _encode(what: str, value: Any) -> bytes:
    encoded = convert.encode(value)
    if len(encoded) > VALUE_BYTES_MAX:
        raise ValueError(f"{what}: {len(encoded)} bytes of JSON are over {VALUE_BYTES_MAX}")
    return encoded
