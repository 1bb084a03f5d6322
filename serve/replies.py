"""Answers that routes have in common: documented problems, and entity tags."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import Header, Response

from chimera.serve.problems import MEDIA_TYPE

_REF = {"schema": {"$ref": "#/components/schemas/Problem"}}


#: of answers that a proxy gives itself, in plain text
PLAIN = {"text/plain": {"schema": {"type": "string"}}}


def _one(description: str, retry: bool = False, proxied: bool = False) -> dict[str, Any]:
    content = {MEDIA_TYPE: _REF, **(PLAIN if proxied else {})}
    found: dict[str, Any] = {"description": description, "content": content}
    if retry:
        found["headers"] = {
            "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}
        }
    return found


def _limited() -> dict[str, Any]:
    found = _one("The queue is full: `RateLimit-Policy` has its bound.", retry=True)
    for name in ("RateLimit", "RateLimit-Policy"):
        found["headers"][name] = {
            "description": "As draft-ietf-httpapi-ratelimit-headers has it.",
            "schema": {"type": "string"},
        }
    return found


#: a proxy answers so itself to what is no HTTP for it: Serve's to a URL over 64 KiB in plain text,
#: HAProxy to a head over 16 KiB with a page
_TEXT = {**PLAIN, "text/html": {"schema": {"type": "string"}}}

#: what every route may answer
PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {
        "description": "The request is malformed.",
        "content": {MEDIA_TYPE: _REF, **_TEXT},
    },
    404: _one(
        "There is no such task, type or thing; as plain text, of the proxy: the gateway is not up.",
        proxied=True,
    ),
    408: _one("The body came too slowly."),
    409: _one("It conflicts with what there is."),
    413: _one("The body is too large."),
    415: _one("The body's media type is not one that is read here."),
    422: _one("The request is well-formed and wrong; `errors` has pointers to what."),
    429: _limited(),
    431: _one("The headers are too large."),
    500: _one(
        "An error of the gateway; as plain text, of the proxy: the replica was killed, and the"
        " request may have been carried out.",
        proxied=True,
    ),
    503: _one(
        "Not just now; as plain text, without `Retry-After`, of the proxy: its queue is full, and"
        " the request was not carried out.",
        retry=True,
        proxied=True,
    ),
    504: _one("Nobody answered in time: the request may have been carried out."),
    507: _one("The disk is full."),
}
#: what a write with `If-Match` may answer besides
CONDITIONAL: dict[int | str, dict[str, Any]] = {
    412: _one("It is none of the generations that `If-Match` names: it was changed meanwhile.")
}
#: what a read with `If-None-Match` may answer besides
NOT_MODIFIED: dict[int | str, dict[str, Any]] = {
    304: {"description": "It is what one of the tags of `If-None-Match` stands for."}
}
IfNoneMatch = Annotated[
    str | None,
    Header(description="Only if it is none of what these tags stand for, as `ETag` told them."),
]


def etagged(
    known: str | None, body: bytes, headers: dict[str, str] | None = None, tag: str | None = None
) -> Response:
    """A body with its entity tag, by its content if none is given; 304 if the caller has it.

    `known` is the header `If-None-Match` (RFC 9110, 13.1.2).
    """
    tag = tag or '"' + hashlib.blake2b(body, digest_size=12).hexdigest() + '"'
    all_headers = {"ETag": tag, "Cache-Control": "no-cache", **(headers or {})}
    tags = [one.strip().removeprefix("W/") for one in (known or "").split(",")]
    if tag in tags or tags == ["*"]:
        return Response(status_code=304, headers=all_headers)
    return Response(body, 200, all_headers, "application/json")
