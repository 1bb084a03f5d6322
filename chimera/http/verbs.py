"""The steps of each verb over HTTP: requests to send and answers to read, no I/O of their own.

A generator yields a `Call` and gets its `Answer`, or yields seconds to wait; what could not be
reached is thrown in as `Unreached` or `CutOff`. Threads and coroutines both drive them.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Generator
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from chimera import names
from chimera.client import listing
from chimera.client.encode import encode_payload
from chimera.client.listing import Page
from chimera.client.options import When, options
from chimera.client.outcomes import decode_json
from chimera.errors import (
    ChimeraError,
    IdempotencyConflict,
    InvalidPayload,
    InvalidRequest,
    NotFound,
    NotReady,
    OutcomeUnknown,
    Overloaded,
    PayloadTooLarge,
    StoreFull,
    Unavailable,
    Unreachable,
    WaitTimeout,
)
from chimera.frames.ids import parse_id
from chimera.frames.limits import check_key
from chimera.http.wire import (
    TENANT_HEADER,
    Answer,
    Call,
    Pages,
    TaskTypes,
    View,
    decode,
    problem,
    retry_after,
)
from chimera.store.protocol import Filter, TaskRecord
from chimera.swarm.policy import TaskPolicy

T = TypeVar("T")
Steps = Generator[Call | float, Any, T]

#: seconds until a submit that nobody answers is given up
SUBMIT_TIMEOUT_S = 30.0
#: seconds until anything else is
ASK_TIMEOUT_S = 10.0
#: seconds that one request waits for a task's end; the next one goes on waiting
WAIT_S = 20.0
#: seconds that an answer may take on top of the wait that was asked for
GRACE_S = 5.0
#: seconds that stand for "as long as it takes", where a caller gave no time-out
FOREVER = 1e8
#: what is waited for only by who wants to
FULL = (Overloaded, StoreFull)
#: what says that no try of this task was accepted, or will be
OF_THE_TASK = (IdempotencyConflict, InvalidPayload, NotFound, PayloadTooLarge)
#: seconds between two tries, at least at first and at most later
_BACKOFF_S, _BACKOFF_MAX_S = 0.05, 2.0
JSON = {"Content-Type": "application/json"}


class Unreached(Exception):
    """The request did not reach the gateway."""


class CutOff(Exception):
    """The request may have reached the gateway; its answer did not come."""


class Api:
    """What all verbs share: for whom, and whether the gateway was ever there."""

    def __init__(self, url: str, tenant: str) -> None:
        self.url = url.rstrip("/")
        try:
            self.tenant = names.check(tenant)
        except ValueError as fault:
            raise InvalidRequest(f"tenant: {fault}") from fault
        if not _is_gateway(self.url):
            raise InvalidRequest(f"{url!r} is no URL of a gateway: write http://HOST:PORT")
        self.was_there = False  #: it was reached once

    def once(self, call: Call, timeout_s: float) -> Steps[Answer]:
        """One try. Raises what the answer means, Unreachable if it was not reached, CutOff."""
        call = replace(call, headers={TENANT_HEADER: self.tenant, **call.headers})
        try:
            answer: Answer = yield replace(call, timeout_s=min(timeout_s, call.timeout_s))
        except Unreached as error:
            raise Unreachable(f"no gateway answers at {self.url}: {error}") from error
        except CutOff as error:
            self.was_there = True
            raise CutOff(f"the gateway at {self.url} gave no answer: {error}") from error
        self.was_there = True
        if answer.status >= 400:
            raise problem(answer)
        return answer

    def ask(
        self, call: Call, timeout_s: float, patient: bool = False, gone: bool = False
    ) -> Steps[Answer]:
        """The answer to what may be asked twice; tried again until the time is over.

        A full queue is waited for only if `patient`. Of what takes a thing away, `gone`, a second
        try that finds none says that the first one did it. Raises what the answer means; NotReady
        if the gateway is not there: at once if it never was; OutcomeUnknown if it may have acted.
        """
        until = time.monotonic() + timeout_s
        fault: ChimeraError
        tries = 0
        ids: list[str] = []  # that it may have been accepted by
        unsure = False  # a former try may have been accepted
        while True:
            try:
                return (yield from self.once(call, max(until - time.monotonic(), 0.001)))
            except CutOff as error:
                fault, unsure = NotReady(str(error)), True
            except ChimeraError as error:
                fault = error
                if gone and unsure and isinstance(fault, NotFound):
                    return Answer(204, {}, b"")
                if isinstance(fault, OutcomeUnknown):
                    unsure = True
                    ids += fault.details.get("ids", ())
            wait_s = pause_s(tries, fault)
            again = self.was_there and may_pass(fault, patient or unsure)
            if not again or time.monotonic() + wait_s >= until:
                raise _in_the_end(fault, call, unsure, ids)
            tries += 1
            yield wait_s

    def submit(
        self, task: Any, payload: Any, key: str | None, idempotency_key: str | None,
        block: bool, timeout_s: float, given: dict[str, Any],
    ) -> Steps[tuple[str, bool]]:  # fmt: skip
        """Submit a task; its id, and whether it was submitted before with the caller's key."""
        own = idempotency_key or uuid.uuid4().hex
        body = line(task, encode_payload(payload), key, own, columns(given))
        headers = {**JSON, **traced(given)}
        call = Call("POST", "/v1/tasks", {}, body, headers, timeout_s)
        try:
            answer = yield from self.ask(call, timeout_s, block)
        except OutcomeUnknown as fault:
            fault.details["idempotency_key"] = own
            raise
        view: View = decode(answer, View)
        return view.id, view.duplicate and idempotency_key is not None

    def view(self, task_id: str, timeout_s: float = ASK_TIMEOUT_S) -> Steps[View]:
        """A task as it is now."""
        call = Call("GET", _path(task_id), timeout_s=timeout_s)
        found: View = decode((yield from self.ask(call, timeout_s)), View)
        return found

    def record(self, task_id: str, payload: bool) -> Steps[TaskRecord]:
        """What the swarm knows of it."""
        record = (yield from self.view(task_id)).record()
        return record if payload else replace(record, payload=None, body=None)

    def look(self, task_id: str, wait_s: float, until: float) -> Steps[View]:
        """A task once it has ended, or as it is after so many seconds.

        A gateway that is gone is waited for until then, a time of `time.monotonic()`.
        """
        left_s = max(until - time.monotonic(), 0.0)
        wait_s = min(wait_s, left_s)
        call = Call("GET", _path(task_id), {"wait": round(wait_s, 3)}, timeout_s=wait_s + GRACE_S)
        answer = yield from self.ask(call, left_s + GRACE_S)
        found: View = decode(answer, View)
        if not found.ended and (pause_s := retry_after(answer.headers)):
            yield min(pause_s, max(until - time.monotonic(), 0.0))  # too many wait already
        return found

    def ended(self, task_id: str, timeout_s: float | None) -> Steps[View]:
        """Wait for a task's end. Raises WaitTimeout."""
        until = time.monotonic() + (FOREVER if timeout_s is None else timeout_s)
        while True:
            found = yield from self.look(task_id, WAIT_S, until)
            if found.ended:
                return found
            if time.monotonic() >= until:
                raise WaitTimeout(f"task {task_id} is not done yet", id=task_id)

    def result(self, task_id: str, timeout_s: float | None) -> Steps[Any]:
        """A task's result. Raises TaskFailed, TaskCancelled, TaskExpired, WaitTimeout."""
        return (yield from self.value((yield from self.ended(task_id, timeout_s))))

    def value(self, view: View) -> Steps[Any]:
        """The result of a task that has ended. Raises TaskFailed, TaskCancelled, TaskExpired."""
        told = view.outcome()
        error = told.error(view.id)
        if error is not None:
            raise error
        if view.result_url is None:
            return decode_json(told.body)
        call = Call("GET", view.result_url, timeout_s=SUBMIT_TIMEOUT_S)
        return decode_json((yield from self.ask(call, SUBMIT_TIMEOUT_S)).body)

    def cancel(self, task_id: str, reason: str, only_waiting: bool) -> Steps[str]:
        """Cancel it; its state then."""
        query = {"reason": reason} if reason else {}
        query |= {"only_waiting": "true"} if only_waiting else {}
        call = Call("DELETE", _path(task_id), query)
        found: View = decode((yield from self.ask(call, ASK_TIMEOUT_S)), View)
        return found.state

    def replay(self, task_id: str) -> Steps[str]:
        """Run a dead letter again; the new task's id."""
        call = Call("POST", _path(task_id, "/v1/dead-letters/") + "/replay")
        found: View = decode((yield from self.ask(call, ASK_TIMEOUT_S)), View)
        return found.id

    def discard(self, task_id: str) -> Steps[None]:
        """Give a dead letter up."""
        call = Call("DELETE", _path(task_id, "/v1/dead-letters/"))
        yield from self.ask(call, ASK_TIMEOUT_S, gone=True)

    def chosen(
        self, type: str | None, state: str | None, tag: str | None, since: When | None,
        until: When | None, dead_letters: bool,
    ) -> Filter:  # fmt: skip
        """What a caller wants to have listed. Raises InvalidRequest."""
        return listing.chosen(self.tenant, type, state, tag, since, until, dead_letters)

    def page(self, where: Filter, cursor: str | None, limit: int) -> Steps[Page]:
        """One page of tasks, newest first."""
        query = {
            "type": where.type, "tag": where.tag, "cursor": cursor, "limit": limit,
            "since": None if where.since is None else where.since / 1000,
            "until": None if where.until is None else where.until / 1000,
            "state": None if where.dead_letters else where.state,
        }  # fmt: skip
        query = {name: value for name, value in query.items() if value is not None}
        call = Call("GET", "/v1/dead-letters" if where.dead_letters else "/v1/tasks", query)
        found: Pages = decode((yield from self.ask(call, ASK_TIMEOUT_S)), Pages)
        records = [replace(one.record(), payload=None, body=None) for one in found.tasks]
        return Page(records, found.cursor)

    def types(self) -> Steps[tuple[TaskPolicy, ...]]:
        """The task types that have handlers."""
        answer = yield from self.ask(Call("GET", "/v1/task-types"), ASK_TIMEOUT_S)
        found: TaskTypes = decode(answer, TaskTypes)
        return tuple(one.policy() for one in found.types)

    def tree(self) -> Steps[dict[str, Any]]:
        """The whole swarm, as `/admin/v1/swarm` shows it."""
        answer = yield from self.ask(Call("GET", "/admin/v1/swarm"), ASK_TIMEOUT_S)
        found: dict[str, Any] = decode(answer, dict)
        return found


def columns(given: dict[str, Any]) -> dict[str, Any]:
    """A caller's options as members of a request. Raises InvalidRequest, DeadlinePassed."""
    options(**given)  # what the client in the cluster refuses is refused here, in the same words
    told = {name: value for name, value in given.items() if value is not None}
    told.pop("traceparent", None)
    for name in ("not_before", "deadline"):
        if isinstance(moment := told.get(name), datetime):
            aware = moment if moment.tzinfo else moment.astimezone()
            told[name] = aware.isoformat()
    if isinstance(told.get("tags"), tuple):
        told["tags"] = list(told["tags"])
    return told


def traced(given: dict[str, Any]) -> dict[str, str]:
    """The header of a trace context, if there is one."""
    parent = given.get("traceparent")
    return {"traceparent": parent} if parent else {}


def line(
    type: str, payload: bytes, key: str | None, idempotency_key: str, given: dict[str, Any]
) -> bytes:
    """A task as JSON on one line. Raises InvalidRequest."""
    told: dict[str, Any] = {"type": type, "payload": msgspec.Raw(payload), **given}
    if key is not None:
        told["key"] = check_key("key", key)
    told["idempotency_key"] = check_key("idempotency_key", idempotency_key)
    return msgspec.json.encode(told)


def _is_gateway(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # no port, or a bracket too few
        return False


def _path(task_id: str, under: str = "/v1/tasks/") -> str:
    try:
        parse_id(task_id)
    except (ValueError, AttributeError) as fault:
        raise InvalidRequest(f"{task_id!r} is no task id") from fault
    return under + quote(task_id, safe="")


def may_pass(fault: ChimeraError, patient: bool) -> bool:
    """Whether another try may succeed, and the caller would wait for it."""
    if isinstance(fault, FULL):
        return patient
    return isinstance(fault, (Unavailable, OutcomeUnknown))


def pause_s(tries: int, fault: ChimeraError) -> float:
    """Seconds until the next try, after so many that gained nothing."""
    backoff_s = min(_BACKOFF_S * 2.0 ** min(tries, 10), _BACKOFF_MAX_S) * random.uniform(0.5, 1.0)
    asked_s: float = getattr(fault, "retry_after", 0.0)
    return max(backoff_s, asked_s)


def _in_the_end(fault: ChimeraError, call: Call, unsure: bool, ids: list[str]) -> ChimeraError:
    """What is said when there will be no other try.

    A refusal is about its own try: what a former one did is told by what it says of the task alone.
    """
    if not unsure or call.method != "POST" or isinstance(fault, OF_THE_TASK):
        return fault
    if not isinstance(fault, OutcomeUnknown):
        fault = OutcomeUnknown(f"{fault.message}; it may or may not have been accepted")
    if ids:
        fault.details["ids"] = ids
    return fault
