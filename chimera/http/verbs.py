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
from urllib.parse import quote

import msgspec

from chimera import names
from chimera.client import listing
from chimera.client.encode import encode_payload
from chimera.client.listing import Page
from chimera.client.options import When, options
from chimera.client.outcomes import decode_json
from chimera.errors import (
    ChimeraError,
    InvalidRequest,
    NotReady,
    OutcomeUnknown,
    Overloaded,
    StoreFull,
    Unavailable,
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
        if not self.url.startswith(("http://", "https://")):
            raise InvalidRequest(f"{url!r} is no URL of a gateway: write http://HOST:PORT")
        self._was_there = False

    def ask(self, call: Call, timeout_s: float, patient: bool = False) -> Steps[Answer]:
        """The answer to what may be asked twice; tried again until the time is over.

        A full queue is waited for only if `patient`. Raises what the answer means; NotReady if the
        gateway is not there: at once if it never was; OutcomeUnknown if it may have acted.
        """
        call = replace(call, headers={TENANT_HEADER: self.tenant, **call.headers})
        until = time.monotonic() + timeout_s
        fault: ChimeraError
        tries, sent = 0, False
        while True:
            pause_s = min(_BACKOFF_S * 2**tries, _BACKOFF_MAX_S) * random.uniform(0.5, 1.0)
            try:
                left = max(until - time.monotonic(), 0.001)
                answer: Answer = yield replace(call, timeout_s=min(left, call.timeout_s))
            except Unreached as error:
                fault = NotReady(f"no gateway answers at {self.url}: {error}")
                if not self._was_there:
                    raise fault from error
            except CutOff as error:
                sent = True
                fault = NotReady(f"the gateway at {self.url} gave no answer: {error}")
            else:
                self._was_there = True
                if answer.status < 400:
                    return answer
                fault = problem(answer)
                if not _may_pass(fault, patient):
                    raise fault
                sent = sent or isinstance(fault, OutcomeUnknown)
                pause_s = max(pause_s, getattr(fault, "retry_after", 0.0))
            tries += 1
            if time.monotonic() + pause_s >= until:
                raise _given_up(fault, call, sent)
            yield pause_s

    def submit(
        self, task: Any, payload: Any, key: str | None, idempotency_key: str | None,
        block: bool, timeout_s: float, given: dict[str, Any],
    ) -> Steps[tuple[str, bool]]:  # fmt: skip
        """Submit a task; its id, and whether it was submitted before with the caller's key."""
        own = idempotency_key or uuid.uuid4().hex
        body = line(task, encode_payload(payload), key, own, columns(given))
        headers = {**JSON, **traced(given)}
        call = Call("POST", "/v1/tasks", {}, body, headers, timeout_s)
        answer = yield from self.ask(call, timeout_s, block)
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

    def ended(self, task_id: str, timeout_s: float | None) -> Steps[View]:
        """Wait for a task's end. Raises WaitTimeout."""
        until = time.monotonic() + (FOREVER if timeout_s is None else timeout_s)
        while True:
            left = until - time.monotonic()
            wait_s = max(min(left, WAIT_S), 0.0)
            call = Call("GET", _path(task_id), {"wait": round(wait_s, 3)}, None, {},
                        wait_s + GRACE_S)  # fmt: skip
            answer = yield from self.ask(call, max(left, 0.0) + GRACE_S)
            found: View = decode(answer, View)
            if found.ended:
                return found
            if time.monotonic() >= until:
                raise WaitTimeout(f"task {task_id} is not done yet", id=task_id)

    def result(self, task_id: str, timeout_s: float | None) -> Steps[Any]:
        """A task's result. Raises TaskFailed, TaskCancelled, TaskExpired, WaitTimeout."""
        view = yield from self.ended(task_id, timeout_s)
        told = view.outcome()
        error = told.error()
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
        yield from self.ask(Call("DELETE", _path(task_id, "/v1/dead-letters/")), ASK_TIMEOUT_S)

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


def _path(task_id: str, under: str = "/v1/tasks/") -> str:
    try:
        parse_id(task_id)
    except (ValueError, AttributeError) as fault:
        raise InvalidRequest(f"{task_id!r} is no task id") from fault
    return under + quote(task_id, safe="")


def _may_pass(fault: ChimeraError, patient: bool) -> bool:
    """Whether another try may succeed, and the caller would wait for it."""
    if isinstance(fault, (Overloaded, StoreFull)):
        return patient
    return isinstance(fault, (Unavailable, OutcomeUnknown))


def _given_up(fault: ChimeraError, call: Call, sent: bool) -> ChimeraError:
    """What is said when there is no time for another try."""
    if sent and call.method == "POST" and not isinstance(fault, OutcomeUnknown):
        return OutcomeUnknown(f"{fault.message}; it may or may not have been accepted")
    return fault
