"""What schemathesis is told of our routes: lines as a media type, and what must not be tried.

Loaded by it as a module of hooks (SCHEMATHESIS_HOOKS).
"""

from __future__ import annotations

import json
from typing import Any

import schemathesis

NDJSON = "application/x-ndjson"
#: a part that lives by this word in its name; orders to it would take the swarm apart
ALIVE = "local"
ORDERS = ("/drain", "/scale")
#: a stream that is followed ends after so many seconds
STREAM_S = 0.2


@schemathesis.serializer(NDJSON)
def lines(context: Any, value: Any) -> bytes:
    """A task with what was made up as its payload, then that as it is."""
    text = value if isinstance(value, str) else json.dumps(value)
    task = json.dumps({"type": "client.echo", "payload": value})
    return f"{task}\n{text}".encode("utf-8", "surrogatepass")


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Streams end soon, and orders go to nobody."""
    path = case.operation.path
    if path == "/v1/events":
        case.query = query = dict(case.query or {})
        asked = query.get("for_s", 0)
        if isinstance(asked, list):
            query["for_s"] = [STREAM_S if _is_valid(one) else one for one in asked]
        elif _is_valid(asked):
            query["for_s"] = STREAM_S
    if path.endswith(ORDERS):
        name = str(case.path_parameters["name"])
        case.path_parameters["name"] = name.replace(ALIVE, "none")


def _is_valid(asked: Any) -> bool:
    """Whether it is so many seconds as may be asked for: what is not is tried as it is."""
    try:
        return not isinstance(asked, bool) and 0 <= float(asked) <= 86_400
    except (TypeError, ValueError):
        return False
