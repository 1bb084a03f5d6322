"""Runs user code: the tasks of a dispatch, in order, one by one or side by side.

The loop for handlers that run one by one is the hot path of a worker: what it does for each task is
decode, call, encode, and one store to the board. Everything else is a frame's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from chimera.actors.attempts import (
    CANCELLED,
    NOTHING,
    Attempts,
    invalid_payload,
    invalid_result,
    judge,
)
from chimera.actors.batch import Batch, Shared
from chimera.actors.board import ORDINAL, UNKNOWN
from chimera.actors.lanes import Lanes
from chimera.api import convert
from chimera.api.context import Context
from chimera.api.registry import Registry
from chimera.api.task import Handler, TaskDefinition
from chimera.errors import (
    ChimeraError,
    CorruptFrame,
    HandlerLoadError,
    Unavailable,
    UnknownTaskType,
)
from chimera.frames import bundle, command, outcome
from chimera.frames.command import INLINE_MAX
from chimera.frames.outcome import Failure
from chimera.store.blobs import Blobs
from chimera.swarm.policy import TaskPolicy
from chimera.swarm.worker import Fate

#: policies with a frame's own options that are remembered, at most
_POLICIES_MAX = 1000


class Runner:
    """The handlers of one worker, and how their tasks are run."""

    def __init__(
        self,
        registry: Registry,
        overrides: Mapping[str, Mapping[str, Any]],
        blobs: Callable[[], Blobs],
    ) -> None:
        """Construct the handlers. Raises HandlerLoadError if one cannot be."""
        self._registry = registry
        self._overrides = overrides
        self._attempts = Attempts(blobs)
        self._lanes = Lanes(self._attempts)
        self._policies: dict[tuple[str, bytes], TaskPolicy] = {}
        self._handlers: dict[tuple[str, str], Handler] = {}
        #: made to see whether it can be; the first tenant gets it
        self._spare: dict[str, Handler | None] = {}
        for definition in registry:
            try:
                self._spare[definition.type] = self._make(definition)
            except BaseException as error:
                module = definition.target.__module__
                fault = f"{definition.target.__qualname__}: {type(error).__name__}: {error}"
                raise HandlerLoadError(
                    f"handlers module {module!r}: {fault}", module=module, fault=fault
                ) from error

    def run(
        self,
        batches: Sequence[Batch],
        start: Callable[[Batch], bool],
        finish: Callable[[Batch], None],
    ) -> int:
        """Run what `start` allows; `finish` is told of each batch whose tasks have all ended.

        Returns how many tasks ended.
        """
        ended = 0
        for group in self._groups(batches):
            ready = [batch for batch in group if start(batch)]
            if ready and _is_wide(ready[0]):
                self._lanes.run(ready)
            else:
                for batch in ready:
                    self._one_by_one(batch)
            for batch in ready:
                batch.shared.board.at(UNKNOWN)
                finish(batch)
                ended += batch.part.count - batch.bodies.count(None)
        return ended

    def _groups(self, batches: Sequence[Batch]) -> Iterator[list[Batch]]:
        """Batches in order; those that run side by side together, while no key is in two types."""
        group: list[Batch] = []
        types: dict[tuple[int, str, str], str] = {}
        for batch in batches:
            if batch.part.fate is Fate.QUEUED and not batch.is_over:
                self._open(batch)
            if not _is_wide(batch):
                if group:
                    yield group
                    group, types = [], {}
                yield [batch]
                continue
            keys = {slot for slot in map(batch.slot, range(batch.part.count)) if slot}
            if group and any(types.get(key, batch.type) != batch.type for key in keys):
                yield group
                group, types = [], {}
            group.append(batch)
            types.update(dict.fromkeys(keys, batch.type))
        if group:
            yield group

    # making a batch ready

    def _open(self, batch: Batch) -> None:
        """Find out how a batch is run; one that cannot be has its outcome then."""
        try:
            head = batch.open()
        except CorruptFrame as fault:
            batch.end_all(outcome.FAILED, corrupt(fault))
            return
        try:
            batch.policy = self._policy(head)
            batch.handler = self._handler(batch.type, batch.tenant)
            if batch.handler.keeper is not None:
                fetch_states(batch)
        except UnknownTaskType as fault:
            # another worker may know it, for one while a new version is rolled out
            batch.end_all(outcome.ATTEMPT_FAILED, Failure("chimera.UnknownTaskType", fault.message))
        except Unavailable:
            batch.end_all(outcome.OPEN, None)  # no attempt was made
        except BaseException as fault:  # a tenant's instance cannot be made, options do not fit
            batch.end_all(*judge(fault, (msgspec.ValidationError,)))

    def _policy(self, head: command.Head) -> TaskPolicy:
        key = (head.type, msgspec.json.encode(head.options) if head.options else b"")
        found = self._policies.get(key)
        if found is None:
            declared = self._registry.get(head.type).policy
            changes = {**self._overrides.get(head.type, {}), **(head.options or {})}
            for fixed in ("type", "keyed_state", "is_async"):
                changes.pop(fixed, None)
            found = msgspec.convert({**msgspec.structs.asdict(declared), **changes}, TaskPolicy)
            if len(self._policies) >= _POLICIES_MAX:
                self._policies.clear()
            self._policies[key] = found
        return found

    def _handler(self, type: str, tenant: str) -> Handler:
        """A handler that keeps state has an instance for each tenant: keys are the tenant's own."""
        definition = self._registry.get(type)
        slot = (type, tenant if definition.policy.keyed_state else "")
        found = self._handlers.get(slot)
        if found is None:
            spare = self._spare.pop(type, None)
            found = self._handlers[slot] = spare or self._make(definition)
        return found

    def _make(self, definition: TaskDefinition) -> Handler:
        """In the thread that runs it: what a constructor opens may belong to its thread."""
        if definition.policy.is_async:
            return self._lanes.in_loop(definition.handler)
        return definition.handler()

    # one by one

    def _one_by_one(self, batch: Batch) -> None:
        handler = batch.handler
        if handler is None or batch.is_over:
            return
        columns = batch.columns
        if columns.keys or columns.deadline or columns.claims:
            self._careful(batch, handler)
        else:
            self._plain(batch, handler)

    def _plain(self, batch: Batch, handler: Handler) -> None:
        """Tasks without key, deadline and claim check: the hot path."""
        words, base, bodies = batch.shared.board.words, batch.base, batch.bodies
        call, decode, encode = handler.call, handler.decode, convert.encode
        takes_ctx, cancelled = handler.takes_ctx, batch.cancelled
        for index, payload in enumerate(iter(batch.pending.popleft, None)):
            words[ORDINAL] = base + index
            if cancelled and index in cancelled:
                batch.end(index, outcome.CANCELLED, CANCELLED)
                continue
            result: Any = NOTHING
            try:
                if takes_ctx:
                    result = call(Context(batch, index), decode(payload))
                else:
                    result = call(decode(payload))
                body = encode(result)
                if len(body) > INLINE_MAX:
                    body = self._attempts.check_in(batch, index, body)
            except BaseException as fault:
                self._troubled(batch, index, payload, result, fault)
            else:
                bodies[index] = body

    def _troubled(
        self, batch: Batch, index: int, payload: bytes, result: Any, fault: BaseException
    ) -> None:
        """Whose fault was it: the payload's, the handler's, the result's or the object store's?"""
        assert batch.handler is not None
        if result is NOTHING:
            try:
                batch.handler.decode(payload)
            except BaseException as error:
                self._attempts.refuse(batch, index, invalid_payload(error))
            else:
                self._attempts.fail(batch, index, fault)
        elif isinstance(fault, ChimeraError):
            self._attempts.fail(batch, index, fault)
        else:
            self._attempts.refuse(batch, index, invalid_result(fault))

    def _careful(self, batch: Batch, handler: Handler) -> None:
        """Tasks that must be looked at before they run."""
        attempts, board = self._attempts, batch.shared.board
        for index, payload in enumerate(iter(batch.pending.popleft, None)):
            board.at(batch.base + index)
            value = attempts.prepare(batch, index, payload)
            if value is NOTHING:
                continue
            try:
                if handler.takes_ctx:
                    result = handler.call(Context(batch, index), value)
                else:
                    result = handler.call(value)
            except BaseException as fault:
                attempts.fail(batch, index, fault)
            else:
                attempts.succeed(batch, index, result)


def receive(bundles: Iterable[bytes], shared: Shared) -> list[Batch]:
    """The batches of a dispatch. A corrupt frame has its outcome already, and hurts no other."""
    batches: list[Batch] = []
    base = 0
    for item in _items(bundles):
        try:
            batch = Batch(item, command.verify(item.frame), base, shared)
        except CorruptFrame as fault:
            count = believable_count(item.frame)
            header = command.Header(0, item.shard, count, 0, 0, 0, 0, 0)
            batch = Batch(item, header, base, shared)
            batch.end_all(outcome.FAILED, corrupt(fault))
        base += batch.part.count
        batches.append(batch)
    return batches


def _items(bundles: Iterable[bytes]) -> Iterator[bundle.Dispatch]:
    for blob in bundles:
        try:
            yield from bundle.dispatches(blob)
        except CorruptFrame as fault:
            # what was in the rest is not known: its sender finds no outcome of it in the reply
            import structlog  # brings much, and is rarely needed

            structlog.get_logger().error("dispatch_cut_short", fault=fault.message)


def believable_count(frame: bytes) -> int:
    """How many tasks a corrupt frame has: what its header says, if all of the frame agrees.

    Else 1: a wrong count would end tasks of other frames.
    """
    try:
        of = command.header(frame)
        if 0 < of.count <= command.COUNT_MAX:
            fixed = command.HEADER_BYTES + of.head_bytes + of.columns_bytes + 4 * of.count
            if fixed + sum(map(len, command.payloads(frame, of))) == len(frame):
                return of.count
    except (CorruptFrame, ValueError):
        pass
    return 1


def corrupt(fault: CorruptFrame) -> Failure:
    return Failure("corrupt", fault.message, retryable=False)


def fetch_states(batch: Batch) -> None:
    """Ask for the states of the keys that this dispatch has not met yet. Raises Unavailable."""
    states, type, tenant = batch.shared.states, batch.type, batch.tenant
    keys = {key for key in batch.columns.keys or () if key is not None}
    missing = sorted(key for key in keys if (type, tenant, key) not in states)
    if missing:
        found = batch.shared.owner.snapshots(
            batch.part.shard, tenant, type, missing, batch.policy.attempt_timeout_s
        )
        states.update(((type, tenant, key), one) for key, one in zip(missing, found, strict=True))


def _is_wide(batch: Batch) -> bool:
    """Whether its tasks run side by side, or in the event loop."""
    policy = batch.policy
    return not batch.is_over and (policy.is_async or policy.concurrency > 1)
