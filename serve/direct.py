"""The plain submit, answered ahead of the framework: most requests are one, and pay for no more.

What is out of the ordinary about a request, its faults above all, is left to the framework, which
gets the body that was read: there is one set of rules, and one way to be refused.
"""

from __future__ import annotations

import codecs
import re
from collections import deque
from typing import NamedTuple

import msgspec
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chimera.errors import ChimeraError
from chimera.serve import problems, tasks
from chimera.serve.gateway import DEFAULT_TENANT, TENANT_HEADER, TENANT_PATTERN, Gateway
from chimera.serve.models import TaskRequest

PATH = "/v1/tasks"
_MEDIA = re.compile(r'application/json(?:;\s*charset="?utf-8"?)?', re.IGNORECASE)
_WAIT = re.compile(rb"wait=(\d{1,2}(?:\.\d{1,3})?)")
_KEY = re.compile(tasks.KEY_PATTERN)
_TENANT = re.compile(TENANT_PATTERN)
_TENANT_HEADER = TENANT_HEADER.lower().encode()
_READ = frozenset({b"content-type", b"idempotency-key", b"prefer", b"traceparent", _TENANT_HEADER})


class _Head(NamedTuple):
    """What a request says beside its body."""

    tenant: str
    wait: float
    prefer: str | None
    idempotency_key: str | None
    traceparent: str | None


class Direct:
    """An ASGI layer in front of the application."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self._app = app
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_submit = scope["type"] == "http" and scope["path"] == PATH and scope["method"] == "POST"
        if not is_submit:
            await self._app(scope, receive, send)
            return
        reader = _Reader(receive)
        body = await reader.body()
        if reason := _not_json(body):
            await problems.malformed(Request(scope), reason)(scope, receive, send)
            return
        head = _plain(scope)
        task = None if head is None else _task(body)
        if head is None or task is None:
            await self._app(scope, reader.again, send)
            return
        reader.forget()
        try:
            answer = await tasks.submit(
                task, self._gateway.swarm(head.tenant), self._gateway, *head[1:]
            )
        except ChimeraError as fault:
            answer = problems.told(Request(scope), fault)
        except Exception as fault:
            answer = problems.bug(Request(scope), fault)
        await answer(scope, receive, send)


def _plain(scope: Scope) -> _Head | None:
    """What the head says; None if there is anything about it that has to be looked at twice."""
    found: dict[bytes, str] = {}
    for name, value in scope["headers"]:
        if name in _READ:
            if name in found:
                return None
            found[name] = value.decode("latin-1")
    wait = 0.0
    if query := scope["query_string"]:
        asked = _WAIT.fullmatch(query)
        if asked is None or (wait := float(asked[1])) > tasks.WAIT_MAX_S:
            return None
    tenant = found.get(_TENANT_HEADER, DEFAULT_TENANT)
    key = found.get(b"idempotency-key")
    if not _TENANT.fullmatch(tenant) or not _MEDIA.fullmatch(found.get(b"content-type", "")):
        return None
    if key is not None and not (len(key) <= tasks.KEY_MAX and _KEY.fullmatch(key)):
        return None
    return _Head(tenant, wait, found.get(b"prefer"), key, found.get(b"traceparent"))


def _not_json(body: bytes | None) -> str:
    """Why a body is no JSON; empty: it is, or did not come to its end.

    Python takes for NaN and infinity what is no number, or larger than any double: a payload with
    that would be carried as null.
    """
    try:
        if body:
            msgspec.json.decode(body.removeprefix(codecs.BOM_UTF8))
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        return str(fault)
    except RecursionError:
        return "it is nested too deeply"
    return ""


def _task(body: bytes | None) -> TaskRequest | None:
    """The task that a body asks for; None if it is not right."""
    if body is None:
        return None
    try:
        return TaskRequest.model_validate_json(body)
    except ValidationError:
        return None


class _Reader:
    """Reads a body, and has it ready for who must read it again, up to the fault that ended it."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._kept: deque[Message] = deque()
        self._fault: HTTPException | None = None

    async def body(self) -> bytes | None:
        """The whole body; None if it does not come to its end."""
        pieces: list[bytes] = []
        more = True
        while more:
            try:
                message = await self._receive()
            except HTTPException as fault:
                self._fault = fault
                return None
            self._kept.append(message)
            if message["type"] != "http.request":
                return None
            pieces.append(message.get("body", b""))
            more = message.get("more_body", False)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def forget(self) -> None:
        """Nobody will read it again."""
        self._kept.clear()

    async def again(self) -> Message:
        """The same messages, then what follows them."""
        if self._kept:
            return self._kept.popleft()
        if self._fault is not None:
            raise self._fault
        return await self._receive()
