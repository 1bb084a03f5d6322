"""What a query may say: each parameter once, unless it is a list."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError


async def said_once(request: Request) -> None:
    """Refuse a parameter that is there twice and is no list: it says two things, and the framework
    would take the last one without a word. Raises RequestValidationError."""
    counts = Counter(name for name, _ in request.query_params.multi_items())
    if len(counts) == counts.total():
        return
    paths: dict[str, Any] = request.app.openapi()["paths"]
    operation = paths.get(request.scope["route"].path, {}).get(request.method.lower(), {})
    twice = [
        {"type": "said_twice", "loc": ("query", one["name"]), "msg": "it is there more than once"}
        for one in operation.get("parameters", ())
        if one["in"] == "query" and counts[one["name"]] > 1 and not _is_list(one["schema"])
    ]
    if twice:
        raise RequestValidationError(twice)


def _is_list(schema: dict[str, Any]) -> bool:
    return any(one.get("type") == "array" for one in (schema, *schema.get("anyOf", ())))
