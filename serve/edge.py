"""The outermost layer: limits on headers, bodies and time."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from math import inf

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chimera.serve.gateway import Limits
from chimera.serve.problems import problem

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:
    from async_timeout import timeout

BATCH = "/v1/tasks:batch"
_JSON = re.compile(rb"application/(json|[\w.+-]+\+json)\s*(;|\Z)", re.IGNORECASE)
#: of routes that take a body other than JSON
_MEDIA = {BATCH: re.compile(rb"application/(x-)?ndjson\s*(;|\Z)", re.IGNORECASE)}


class Edge:
    """An ASGI layer around the application."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        refused = self._refused(scope, headers)
        if refused is not None:
            await problem(Request(scope), *refused)(scope, receive, send)
            return
        await self._app(scope, self._bounded(scope["path"], receive), send)

    def _limit(self, path: str) -> int:
        return self._limits.batch_bytes if path == BATCH else self._limits.body_bytes

    def _refused(self, scope: Scope, headers: dict[bytes, bytes]) -> tuple[int, str, str] | None:
        """Status, code and reason, if the head of the request says enough to refuse it."""
        size = sum(len(name) + len(value) for name, value in scope["headers"])
        if size > self._limits.header_bytes:
            most = self._limits.header_bytes
            return 431, "header_too_large", f"{size} bytes of headers: at most {most}"
        length = headers.get(b"content-length", b"")
        limit = self._limit(scope["path"])
        if length.isdigit() and int(length) > limit:
            return 413, "payload_too_large", f"{int(length)} bytes of body: at most {limit}"
        has_body = length not in (b"", b"0") or b"transfer-encoding" in headers
        if has_body and scope["method"] in ("POST", "PUT", "PATCH"):
            media = _MEDIA.get(scope["path"], _JSON)
            given = headers.get(b"content-type", b"")
            if not media.match(given):
                wanted = "application/x-ndjson" if scope["path"] == BATCH else "application/json"
                told = given.decode("latin-1") or "nothing"
                return 415, "unsupported_media_type", f"{told} is not read here: send {wanted}"
            if headers.get(b"content-encoding", b"identity").lower() != b"identity":
                return 415, "unsupported_media_type", "compressed bodies are not read here"
        return None

    def _bounded(self, path: str, receive: Receive) -> Receive:
        limit, got, ended = self._limit(path), 0, False
        until = inf if path == BATCH else time.monotonic() + self._limits.body_s

        async def bounded() -> Message:
            nonlocal got, ended
            if ended:
                return await receive()  # only the end of the connection can follow
            patience_s = min(self._limits.idle_s, max(until - time.monotonic(), 0.0))
            try:
                async with timeout(
                    patience_s
                ):  # `wait_for` makes a task, which costs as much again
                    message = await receive()
            except asyncio.TimeoutError:
                raise HTTPException(408, "the body, or its next piece, came too slowly") from None
            got += len(message.get("body", b""))
            if got > limit:
                raise HTTPException(413, f"the body is over {limit} bytes")
            ended = not message.get("more_body", False)
            return message

        return bounded
