"""What a query may say: parameters that are known, each once, unless it is a list."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError

#: where a parameter that is not known may be a filter that was mistyped, and the answer too much
STRICT = ("/v1/", "/admin/")


async def checked(request: Request) -> None:
    """Refuse what the framework would pass over without a word. Raises RequestValidationError.

    That is a parameter that is there twice and is no list, as it says two things, and one that is
    not known.
    """
    counts = Counter(name for name, _ in request.query_params.multi_items())
    if not counts:
        return
    paths: dict[str, Any] = request.app.openapi()["paths"]
    path = request.scope["route"].path
    operation = paths.get(path, {}).get(request.method.lower(), {})
    known = {
        one["name"]: one["schema"]
        for one in operation.get("parameters", ())
        if one["in"] == "query"
    }
    faults = [
        {"type": "said_twice", "loc": ("query", name), "msg": "it is there more than once"}
        for name, schema in known.items()
        if counts[name] > 1 and not _is_list(schema)
    ]
    if path.startswith(STRICT):
        those = ", ".join(sorted(known)) or "none"
        faults += [
            {"type": "unknown", "loc": ("query", name), "msg": f"it is not known: there is {those}"}
            for name in counts
            if name not in known
        ]
    if faults:
        raise RequestValidationError(faults)


def _is_list(schema: dict[str, Any]) -> bool:
    return any(one.get("type") == "array" for one in (schema, *schema.get("anyOf", ())))
