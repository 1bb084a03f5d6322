"""One task as the client knows it: its id, where it stands, and the steps to its outcome."""

from __future__ import annotations

import time
from typing import Any

from chimera.client.core import Core
from chimera.client.outcomes import Outcome, decode_json
from chimera.client.parcels import Accepted
from chimera.client.ports import Promise, Silent
from chimera.client.steps import FOREVER, Steps
from chimera.client.wait import Want
from chimera.errors import ChimeraError, InvalidRequest, NotFound, WaitTimeout
from chimera.frames import outcome
from chimera.frames.ids import TaskKey, format_id, parse_id
from chimera.store.protocol import TaskRecord

#: seconds that reading a large payload or result may take
BLOB_TIMEOUT_S = 60.0


class Task:
    """What a handle is made of; shared by the blocking and the awaited kind."""

    __slots__ = ("_told", "core", "duplicate", "key", "position", "tenant")

    def __init__(
        self,
        core: Core,
        tenant: str,
        key: TaskKey,
        position: int | None = None,
        told: Outcome | None = None,
        duplicate: bool = False,
    ) -> None:
        self.core = core
        self.tenant = tenant
        self.key = key
        self.position = position  #: in its shard; None if not known yet
        #: an earlier task had the same idempotency key and payload: this is that one
        self.duplicate = duplicate
        self._told = told

    @property
    def id(self) -> str:
        return format_id(*self.key)

    @property
    def told(self) -> Outcome | None:
        """The outcome, if it was heard."""
        return self._told

    def outcome(self, timeout_s: float | None) -> Steps[Outcome]:
        """Wait for the outcome. Raises WaitTimeout."""
        if self._told is not None:
            return self._told
        self.core.check()
        until = time.monotonic() + (FOREVER if timeout_s is None else timeout_s)
        if self.position is None:
            record = yield from self.record(bodies=True, timeout_s=timeout_s)
            told = Outcome.of(record)
            if told.state != outcome.OPEN:
                self._told = told
                return told
            self.key = parse_id(record.task_id)
            self.position = record.position
        self._told = yield from self._wait(self.position, until)
        return self._told

    def _wait(self, position: int, until: float) -> Steps[Outcome]:
        promise: Promise[Outcome] = Promise()
        want = Want(
            self.tenant, self.key, position, 1, False,
            heard=lambda piece: promise.keep(next(piece.outcomes())[1]), failed=promise.fail,
        )  # fmt: skip
        engine, waiter = self.core.engine, self.core.waiter
        engine.do(lambda: waiter.want([want]))
        heard = False
        try:
            told: Outcome = yield promise, max(until - time.monotonic(), 0.0)
            heard = True
        except Silent:
            raise WaitTimeout(f"task {self.id} is not done yet", id=self.id) from None
        finally:
            if not heard and self.core.is_open:
                engine.do(lambda: waiter.drop([want]))
        return told

    def result(self, timeout_s: float | None) -> Steps[Any]:
        """The result. Raises TaskError, WaitTimeout, or why it cannot be told."""
        told = yield from self.outcome(timeout_s)
        error = told.error(self.id)
        if error is not None:
            raise error
        if not told.is_claim:
            return decode_json(told.body)
        core = self.core
        body = yield core.aside(lambda: core.blobs.get(told.body)), BLOB_TIMEOUT_S
        return decode_json(body)

    def state(self, timeout_s: float | None) -> Steps[str]:
        """Wait for the outcome; its name, whatever it is."""
        told = yield from self.outcome(timeout_s)
        if told.fault is not None:
            raise told.fault
        return outcome.NAMES[told.state]

    def record(self, bodies: bool, timeout_s: float | None = None) -> Steps[TaskRecord]:
        """Everything the swarm knows of it."""
        limit = 10.0 if timeout_s is None else timeout_s
        return (yield from self.core.record(self.tenant, self.key, bodies, limit))

    def cancel(self, reason: str, only_waiting: bool) -> Steps[str]:
        """Ask for its end; returns its state: `cancelling` if an attempt goes on until it notices,
        `running` if it does and `only_waiting` lets it be."""
        verb = "cancel_waiting" if only_waiting else "cancel"
        state: str = yield from self._ask(verb, "task", reason)
        return state

    def progress(self) -> Steps[Any]:
        """What it said last of how far it is."""
        record = yield from self.record(bodies=False)
        shard = parse_id(record.task_id).shard
        return (yield from self.core.ask(shard, "progress_of", shard, record.position))

    def discard(self) -> Steps[None]:
        """Give a dead letter up; done twice, the second time there is none."""
        yield from self._ask("discard", "dead letter")

    def replay(self) -> Steps[Task]:
        """Run a dead letter again, as a new task; asked twice, the same one."""
        new_id = yield from self._ask("replay", "dead letter")
        return Task(self.core, self.tenant, parse_id(new_id))

    def _ask(self, verb: str, what: str, *more: Any) -> Steps[Any]:
        """Ask the owner to do something with it. Raises NotFound in the caller's terms."""
        if self.key.shard >= self.core.link.settings.ring:
            raise NotFound(f"there is no {what} {format_id(*self.key)}")
        try:
            return (yield from self.core.ask(self.key.shard, verb, self.tenant, *self.key, *more))
        except NotFound as fault:
            raise NotFound(f"there is no {what} {format_id(*self.key)}") from fault


def by_id(core: Core, tenant: str, task_id: str) -> Task:
    """The task with this id. Raises InvalidRequest if it is none."""
    try:
        key = parse_id(task_id)
    except (ValueError, AttributeError) as error:
        raise InvalidRequest(f"{task_id!r} is no task id") from error
    return Task(core, tenant, key)


def accepted(
    core: Core, tenant: str, by: Accepted, index: int, told: Outcome | None = None
) -> Task:
    """One of the tasks of an accepted parcel; `told` is its outcome, if that was heard.

    Raises the error for which it was refused.
    """
    for skipped in by.skipped:
        if skipped.index == index:
            if skipped.task_id is not None:
                return Task(core, tenant, parse_id(skipped.task_id), duplicate=True)
            raise skipped.error or ChimeraError("the task was refused")
    key = TaskKey(by.session, by.shard, by.first + index)
    return Task(core, tenant, key, by.position + index, told)
