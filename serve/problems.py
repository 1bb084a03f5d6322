"""Errors as RFC 9457 problem documents: what is wrong, where, and when to try again."""

from __future__ import annotations

import logging
import math
import re
import secrets
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from chimera.client.contracts import pointer
from chimera.errors import ChimeraError, Unavailable

log = logging.getLogger(__name__)

#: W3C trace context; what is not like this is no trace
TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}\Z")
MEDIA_TYPE = "application/problem+json"
#: the type of a problem: this and its code
TYPE_PREFIX = "urn:chimera:problem:"
#: details of errors that are for machines inside
_INTERNAL = frozenset({"bulk", "traceback", "retry_after", "errors"})


class Fault(BaseModel):
    """One thing that is wrong with a request."""

    pointer: str = Field(description="JSON pointer (RFC 6901) into `in`.", examples=["/payload/n"])
    detail: str = Field(examples=["'x' is not of type 'integer'"])
    in_: str = Field(default="body", alias="in", description="`body`, `query`, `path` or `header`.")


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:chimera:problem:unknown_task_type",
                    "title": "No handler is registered for this task type.",
                    "status": 404,
                    "detail": "no handler is registered for 'mail.sned'; known types: mail.send",
                    "instance": "/v1/tasks",
                    "code": "unknown_task_type",
                    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
                }
            ]
        },
    )

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str = Field(description="Stable, machine-readable name of the fault.")
    trace_id: str
    errors: list[Fault] | None = None
    retry_after: float | None = Field(
        default=None, description="Seconds to wait before the next try."
    )


def trace_id(request: Request) -> str:
    """Of the trace that the request belongs to, or one of its own; the same each time."""
    found: str | None = getattr(request.state, "trace_id", None)
    if found is None:
        given = TRACEPARENT.match(request.headers.get("traceparent", ""))
        found = request.state.trace_id = given[1] if given else secrets.token_hex(16)
    return found


def problem(
    request: Request,
    status: int,
    code: str,
    detail: str,
    title: str | None = None,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> JSONResponse:
    """A problem document as an answer."""
    body = {
        "type": TYPE_PREFIX + code,
        "title": title or HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": request.url.path,
        "code": code,
        "trace_id": trace_id(request),
        **{name: value for name, value in more.items() if value is not None},
    }
    return JSONResponse(body, status, headers, media_type=MEDIA_TYPE)


def described(fault: ChimeraError) -> dict[str, Any]:
    """What an error says besides its status: for problem documents and for lines of a bulk."""
    told: dict[str, Any] = {"code": fault.code, "detail": fault.message}
    if errors := fault.details.get("errors"):
        told["errors"] = errors
    for name, value in fault.details.items():
        if name not in _INTERNAL and isinstance(value, (str, int, float, list)):
            told.setdefault(name, value)
    if isinstance(fault, Unavailable):
        told["retry_after"] = fault.retry_after
    return told


def answer(request: Request, fault: ChimeraError) -> JSONResponse:
    """An error of ours as a problem document."""
    told = described(fault)
    headers = {}
    if isinstance(fault, Unavailable):
        wait_s = max(1, math.ceil(fault.retry_after))
        headers["Retry-After"] = str(wait_s)
        if bound := fault.details.get("queue_bound"):  # draft-ietf-httpapi-ratelimit-headers
            headers["RateLimit-Policy"] = f'"queue";q={bound};qu="concurrent-requests"'
            headers["RateLimit"] = f'"queue";r=0;t={wait_s}'
    title = (type(fault).__doc__ or "").split("\n")[0]
    # the document's own members come first
    told = {("about_" + k if k in ("type", "title", "status") else k): v for k, v in told.items()}
    return problem(
        request, fault.status, told.pop("code"), told.pop("detail"), title, headers, **told
    )


def told(request: Request, fault: ChimeraError) -> JSONResponse:
    """The same, and what should not have happened is in the log."""
    if fault.status == 500:
        log.error("%s %s: %s", request.method, request.url.path, fault, exc_info=fault)
    return answer(request, fault)


def malformed(request: Request, reason: str) -> JSONResponse:
    """A body that is no JSON."""
    return problem(request, 400, "malformed_json", f"the body is no JSON: {reason}")


#: what is said of an error that nobody expected
INTERNAL = {"code": "internal", "detail": "an error of the gateway: its log says more"}


def bug(request: Request, fault: Exception) -> JSONResponse:
    """An error that nobody expected."""
    log.error("%s %s", request.method, request.url.path, exc_info=fault)
    return problem(request, 500, INTERNAL["code"], INTERNAL["detail"])


_CODES = {404: "not_found", 405: "method_not_allowed", 413: "payload_too_large",
          415: "unsupported_media_type", 408: "request_timeout", 400: "invalid_request",
          431: "header_too_large", 412: "precondition_failed"}  # fmt: skip


def install(app: FastAPI) -> None:
    """Answer every error by a problem document."""

    @app.exception_handler(ChimeraError)
    async def _ours(request: Request, fault: ChimeraError) -> JSONResponse:
        return told(request, fault)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, fault: RequestValidationError) -> JSONResponse:
        own = request.app.openapi()["paths"].get(request.url.path, {})
        if own and request.method.lower() not in own:  # it was taken for a pattern's
            allowed = {"Allow": ", ".join(_methods(request))}
            return problem(
                request, 405, "method_not_allowed", "Method Not Allowed", headers=allowed
            )
        return _of_validation(request, fault)

    @app.exception_handler(HTTPException)
    async def _plain(request: Request, fault: HTTPException) -> JSONResponse:
        code = _CODES.get(fault.status_code, "error")
        headers = dict(fault.headers or {})
        if fault.status_code == 405:
            headers["Allow"] = ", ".join(_methods(request))
        return problem(request, fault.status_code, code, str(fault.detail), headers=headers)

    @app.exception_handler(Exception)
    async def _bug(request: Request, fault: Exception) -> JSONResponse:
        return bug(request, fault)


def _methods(request: Request) -> list[str]:
    """What a path takes: a router says it of the first route only."""
    found: set[str] = set()
    paths: dict[str, dict[str, Any]] = request.app.openapi()["paths"]
    if own := paths.get(request.url.path):  # a fixed path comes before a pattern
        return sorted(name.upper() for name in own)
    for path, operations in paths.items():
        if compile_path(path)[0].match(request.url.path):
            found |= {name.upper() for name in operations}
    return sorted(found)


def _of_validation(request: Request, fault: RequestValidationError) -> JSONResponse:
    errors = []
    for one in fault.errors():
        where, *path = one["loc"] or ("body",)
        if one["type"] == "json_invalid":
            reason = one.get("ctx", {}).get("error", one["msg"])
            return malformed(request, f"at byte {path[0]}: {reason}")
        errors.append({"in": where, "pointer": pointer(path), "detail": one["msg"]})
    first = errors[0]
    detail = f"{first['in']} {first['pointer'] or '/'}: {first['detail']}"
    if len(errors) > 1:
        detail += f" (and {len(errors) - 1} more)"
    return problem(request, 422, "invalid_request", detail, "The request is wrong.", errors=errors)
