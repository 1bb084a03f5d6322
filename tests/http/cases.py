"""What schemathesis is told of our routes: lines as a media type, and what must not be tried.

Loaded by it as a module of hooks (SCHEMATHESIS_HOOKS).
"""

from __future__ import annotations

import json
from typing import Any

import schemathesis
from hypothesis import strategies as st

NDJSON = "application/x-ndjson"
#: a part that lives by this word in its name; orders to it would take the swarm apart
ALIVE = "local"
ORDERS = ("/drain", "/scale")
#: a stream that is followed ends after so many seconds
STREAM_S = 0.2

_SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=20)
_OPTIONS: dict[str, Any] = {
    "payload": st.recursive(_SCALARS, st.lists, max_leaves=5),
    "key": st.text(max_size=20) | st.integers(),
    "idempotency_key": st.text(max_size=200),
    "priority": st.sampled_from(["batch", "normal", "urgent"]),
    "delay_s": st.floats() | st.just("soon"),
    "not_before": st.text(max_size=30) | st.floats(),
    "deadline": st.just("2099-01-01T00:00:00Z") | st.text(max_size=30),
    "tags": st.lists(st.text(max_size=200), max_size=20),
    "max_attempts": st.integers(),
    "colour": st.text(),
}
_TASKS = st.fixed_dictionaries(
    {"type": st.sampled_from(["client.echo", "client.order", "none"]) | _SCALARS},
    optional=_OPTIONS,
)
_LINES = (
    _TASKS.map(json.dumps).map(str.encode)
    | st.binary(max_size=50)
    | st.text(max_size=50).map(lambda text: text.encode("utf-16"))
)
schemathesis.openapi.media_type(NDJSON, st.lists(_LINES, max_size=20).map(b"\n".join))


@schemathesis.serializer(NDJSON)
def lines(context: Any, value: Any) -> bytes:
    """As it is, or as one line."""
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()


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
