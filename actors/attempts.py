"""One attempt of one task: what comes before the handler is called, and what became of it after.

Everything here ends in the batch: a state and a body. Nothing that user code does raises out of it.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Any

import msgspec

from chimera.actors.batch import Batch
from chimera.api import convert
from chimera.api.signals import Cancelled, PermanentError, RetryAfter
from chimera.api.task import qualified
from chimera.errors import ChimeraError, Unavailable
from chimera.frames import outcome
from chimera.frames.command import INLINE_MAX
from chimera.frames.outcome import Failure
from chimera.store.blobs import Blobs

#: characters of a failure's message and traceback, at most: a thousand of them share few frames
MESSAGE_MAX = 2000
TRACEBACK_MAX = 6000
#: innermost frames of a traceback that are shown
FRAMES_MAX = 30

#: in place of a payload: the task got its outcome and is not to be run
NOTHING = object()

_decode = msgspec.json.Decoder().decode

CANCELLED = outcome.encode_failure(
    Failure("chimera.TaskCancelled", "cancelled before it ran", retryable=False)
)
EXPIRED = outcome.encode_failure(
    Failure("chimera.TaskExpired", "the deadline passed before the task could run", retryable=False)
)


class Attempts:
    """Prepares attempts and judges them."""

    def __init__(self, blobs: Callable[[], Blobs]) -> None:
        """`blobs` opens the object store when it is first needed."""
        self._blobs = blobs

    def prepare(self, batch: Batch, index: int, payload: bytes) -> Any:
        """What the handler is to be called with; NOTHING if it is not to be called."""
        if batch.cancelled and index in batch.cancelled:
            batch.end(index, outcome.CANCELLED, CANCELLED)
            return NOTHING
        if batch.shared.blocked and batch.slot(index) in batch.shared.blocked:
            batch.end(index, outcome.OPEN, b"")
            return NOTHING
        deadline = batch.deadline(index)
        if deadline and deadline <= time.time() * 1000:
            batch.end(index, outcome.EXPIRED, EXPIRED)
            return NOTHING
        assert batch.handler is not None
        try:
            if index in batch.claimed:
                payload = self._blobs().get(payload)
        except BaseException as fault:
            self.refuse(batch, index, self._unreadable(fault))
            return NOTHING
        try:
            value = batch.handler.decode(payload)
        except BaseException as fault:
            self.refuse(batch, index, invalid_payload(fault))
            return NOTHING
        if batch.handler.keeper is not None:
            try:
                self._restore(batch, batch.key(index))
            except BaseException as fault:
                self.fail(batch, index, fault)
                return NOTHING
        return value

    def succeed(self, batch: Batch, index: int, result: Any) -> None:
        """The handler returned."""
        try:
            body = convert.encode(result)
        except BaseException as fault:
            self.refuse(batch, index, invalid_result(fault))
            return
        try:
            if batch.handler is not None and batch.handler.keeper is not None:
                self._keep(batch, index, batch.key(index))
            batch.bodies[index] = (
                body if len(body) <= INLINE_MAX else self.check_in(batch, index, body)
            )
        except BaseException as fault:
            batch.snapshots.pop(index, None)
            self.fail(batch, index, fault)

    def check_in(self, batch: Batch, index: int, body: bytes) -> bytes:
        """Put a large result into the object store. Raises Unavailable."""
        claim = self._blobs().put(body)
        batch.claims.add(index)
        return claim

    def fail(self, batch: Batch, index: int, fault: BaseException) -> None:
        """The handler raised."""
        no_retry = batch.handler.no_retry if batch.handler is not None else ()
        self._fail(batch, index, *judge(fault, no_retry))

    def refuse(self, batch: Batch, index: int, failure: Failure) -> None:
        """The attempt failed for a reason other than the handler's exception."""
        self._fail(batch, index, outcome.ATTEMPT_FAILED, failure)

    def _fail(self, batch: Batch, index: int, state: int, failure: Failure) -> None:
        key, slot = batch.key(index), batch.slot(index)
        if key is not None and slot is not None:
            if state == outcome.ATTEMPT_FAILED:
                # whether it is tried again is not known here: what follows on it must wait
                batch.shared.blocked.add(slot)
            self._roll_back(batch, key)
        batch.claims.discard(index)
        batch.end(index, state, outcome.encode_failure(failure))

    @staticmethod
    def _unreadable(fault: BaseException) -> Failure:
        retryable = isinstance(fault, Unavailable) or not isinstance(fault, ChimeraError)
        return Failure(_name(fault), _text(fault), retryable=retryable)

    # state of keys

    def _restore(self, batch: Batch, key: str | None) -> None:
        """Before the first task of a key in a dispatch: another worker may have changed it."""
        if key is None:
            return
        slot = (batch.type, batch.tenant, key)
        if slot in batch.shared.restored:
            return
        state = batch.shared.states.get(slot)
        _keeper(batch).restore(key, None if state is None else _decode(state))
        batch.shared.restored.add(slot)

    def _keep(self, batch: Batch, index: int, key: str | None) -> None:
        """After each success: the state goes with the outcome."""
        if key is None:
            return
        state = convert.encode(_keeper(batch).snapshot(key))
        if len(state) > INLINE_MAX:
            raise PermanentError(
                f"the state of key {key!r} has {len(state)} bytes of JSON, over {INLINE_MAX}"
            )
        batch.snapshots[index] = state
        batch.shared.states[batch.type, batch.tenant, key] = state

    def _roll_back(self, batch: Batch, key: str) -> None:
        """After a failure: what the handler half did to the key's state is undone."""
        slot = (batch.type, batch.tenant, key)
        if slot not in batch.shared.restored:
            return
        batch.shared.restored.discard(slot)
        try:
            self._restore(batch, key)
        except BaseException:  # it is restored again before the key's next task
            pass


def _keeper(batch: Batch) -> Any:
    assert batch.handler is not None
    return batch.handler.keeper


def judge(fault: BaseException, no_retry: tuple[type[BaseException], ...]) -> tuple[int, Failure]:
    """State and failure of an attempt whose handler raised."""
    if isinstance(fault, Cancelled):
        return outcome.CANCELLED, Failure("chimera.TaskCancelled", _text(fault), retryable=False)
    after = fault.seconds if isinstance(fault, RetryAfter) else None
    retryable = not isinstance(fault, (PermanentError, *no_retry))
    return outcome.ATTEMPT_FAILED, Failure(
        _name(fault), _text(fault), _traceback(fault), retryable, after
    )


def invalid_payload(fault: BaseException) -> Failure:
    """The payload is not JSON, or not what the handler's annotation says; the text has the path."""
    return Failure("chimera.InvalidPayload", _text(fault), retryable=False)


def invalid_result(fault: BaseException) -> Failure:
    return Failure(
        "chimera.InvalidResult", f"the handler's result is no JSON: {_text(fault)}", retryable=False
    )


def timed_out(seconds: float) -> Failure:
    return Failure("chimera.AttemptTimeout", f"the attempt took over {seconds:g} s")


def _name(fault: BaseException) -> str:
    name = qualified(type(fault))
    for module in ("chimera.api.signals.", "chimera.errors."):
        if name.startswith(module):  # as users import them
            return f"chimera.{name[len(module) :]}"
    return name


def _text(fault: BaseException) -> str:
    try:
        text = str(fault)
    except Exception as error:
        text = f"(its text cannot be had: {type(error).__name__})"
    return text if len(text) <= MESSAGE_MAX else text[:MESSAGE_MAX] + " …"


def _traceback(fault: BaseException) -> str:
    """The handler's part of the traceback, its end if it is long."""
    try:
        inner = fault.__traceback__.tb_next if fault.__traceback__ else None
        lines = traceback.format_exception(type(fault), fault, inner, limit=-FRAMES_MAX)
        text = "".join(lines)
    except Exception as error:
        return f"(no traceback: {type(error).__name__})"
    finally:
        # an exception that is raised again and again gathers the frames of all times before
        fault.__traceback__ = None
    return text if len(text) <= TRACEBACK_MAX else "… " + text[-TRACEBACK_MAX:]
