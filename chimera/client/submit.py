"""The steps of submitting one task: durable, or durable and done, in one call."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from chimera.client.core import Core
from chimera.client.encode import encode_payload
from chimera.client.options import Kind, Options, Route
from chimera.client.outcomes import Outcome, decode_json
from chimera.client.parcels import Accepted, Frame, Parcel
from chimera.client.ports import Silent
from chimera.client.steps import Steps
from chimera.client.task import Task, accepted
from chimera.errors import (
    Fenced,
    Overloaded,
    StoreFull,
    Unavailable,
    WaitTimeout,
    from_wire,
)
from chimera.frames import command
from chimera.frames.ids import TaskKey
from chimera.frames.limits import check_key
from chimera.store.protocol import Receipt
from chimera.swarm.policy import TaskPolicy

#: seconds until a submit that nobody answers is given up
SUBMIT_TIMEOUT_S = 30.0
#: seconds that a leader holds a `call` before the outcome is waited for apart
CALL_HOLD_S = 2.0
CALL_GRACE_S = 1.5
#: seconds on top of the submit's own until the engine itself counts as stuck
ENGINE_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class Submission:
    """What is to be run, apart from the payload."""

    type: str
    tenant: str
    options: Options
    #: wait while the shard is full, rather than raise Overloaded
    blocking: bool
    timeout_s: float
    #: the payloads were held to their contract already
    checked: bool = False


def submit(
    core: Core, what: Submission, payload: Any, key: str | None, idempotency_key: str | None
) -> Steps[Task]:
    """Submit one task; it is durable when this returns."""
    policy = yield from core.policy(what.type, what.timeout_s)
    kind = what.options.kind(what.type, what.tenant, policy)
    parcel = yield from _parcel(core, what, kind, policy, payload, key, idempotency_key)
    shard = Route(what.tenant, core.link.settings.ring, policy)(key or idempotency_key)
    core.publisher.hand_in(parcel, shard)
    done = yield from durable(parcel, what.timeout_s)
    return accepted(core, what.tenant, done, 0)


def call(
    core: Core,
    what: Submission,
    payload: Any,
    key: str | None,
    idempotency_key: str | None,
    wait_s: float | None,
) -> Steps[Any]:
    """Submit one task and wait for its result: one call to a leader, unless it has a key.

    A task with a key takes its turn among those submitted before it, so it is submitted first and
    waited for then.
    """
    if key is not None or idempotency_key is not None:
        task = yield from submit(core, what, payload, key, idempotency_key)
        return (yield from task.result(wait_s))
    policy = yield from core.policy(what.type, what.timeout_s)
    kind = what.options.kind(what.type, what.tenant, policy)
    parcel = yield from _parcel(core, what, kind, policy, payload, None, None)
    shard = Route(what.tenant, core.link.settings.ring, policy).home
    if shard is None:
        shard = core.publisher.next_shard()
    block = core.session.take(shard, 1)
    parcel.placed = TaskKey(block.session, shard, block.first)
    data = command.pack(
        block.session, shard, block.first, kind.head(), parcel.payloads, parcel.columns
    )
    frame = Frame(data, 1, [parcel])
    until = None if wait_s is None else time.monotonic() + wait_s
    hold_s = CALL_HOLD_S if wait_s is None else min(wait_s, CALL_HOLD_S)
    told: Outcome | None = None
    try:
        answer = yield core.link.ask(shard, "call", shard, hold_s, data), hold_s + CALL_GRACE_S
        done, told = _taken(frame, answer)
    except (Unavailable, Fenced, WaitTimeout) as fault:
        full = isinstance(fault, (Overloaded, StoreFull))
        if full and not what.blocking:
            raise
        frame.refuse(fault)
        core.engine.do(lambda: core.publisher.resend(shard, frame))
        done = yield from durable(parcel, what.timeout_s)
    task = accepted(core, what.tenant, done, 0, told)
    left = None if until is None else max(until - time.monotonic(), 0.0)
    return (yield from task.result(left))


def _taken(frame: Frame, answer: Any) -> tuple[Accepted, Outcome | None]:
    """What a leader answered to `call`. Raises the refusal."""
    receipt, state, body, is_claim = answer
    if not isinstance(receipt, Receipt):
        raise from_wire(receipt)
    frame.accept(receipt)
    done = frame.parcels[0].promise.get(0.0)
    return done, None if state is None else Outcome(state, body or b"", is_claim)


def _parcel(
    core: Core, what: Submission, kind: Kind, policy: TaskPolicy, payload: Any,
    key: str | None, idem: str | None,
) -> Steps[Parcel]:  # fmt: skip
    if key is not None:
        check_key("key", key)
    if idem is not None:
        check_key("idempotency_key", idem)
    body = encode_payload(payload)
    check = core.contracts.check(policy)
    if check is not None:
        check(decode_json(body))
    is_claim = False
    if len(body) > command.INLINE_MAX:
        body, is_claim = yield core.aside(lambda: core.inline.one(body)), what.timeout_s
    columns = what.options.columns(
        1, [key] if key else None, [idem] if idem else None, [0] if is_claim else None
    )
    return Parcel(kind, [body], columns, what.blocking, time.monotonic() + what.timeout_s)


def durable(parcel: Parcel, timeout_s: float) -> Steps[Accepted]:
    """Wait until the parcel is accepted. Raises what refused it, or OutcomeUnknown."""
    try:
        done: Accepted = yield parcel.promise, timeout_s + ENGINE_GRACE_S
    except Silent:
        raise parcel.unknown() from None
    return done
