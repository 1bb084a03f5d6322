"""Contracts of payloads: what a task type's JSON Schema allows, with the pointer of each fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from chimera.errors import InvalidPayload

#: raises InvalidPayload for a payload that the contract does not allow
Check = Callable[[Any], None]
#: faults of one payload that are told
FAULTS_MAX = 10


class Contracts:
    """Compiled contracts by task type; compiled when first needed, anew when they change."""

    def __init__(self) -> None:
        self._compiled: dict[str, tuple[str, Check]] = {}

    def check(self, type: str, schema: str | None) -> Check | None:
        """What checks payloads of a type; None if it has no contract."""
        if schema is None:
            return None
        known = self._compiled.get(type)
        if known is None or known[0] != schema:
            known = self._compiled[type] = schema, compile_check(type, schema)
        return known[1]


def compile_check(type: str, schema: str) -> Check:
    """What checks payloads against a JSON Schema, given as text."""
    import jsonschema_rs  # here: most types have no contract, and it takes a while to load

    validator = jsonschema_rs.validator_for(msgspec.json.decode(schema))

    def check(payload: Any) -> None:
        if validator.is_valid(payload):
            return
        errors = []
        for fault in validator.iter_errors(payload):
            where = pointer(("payload", *fault.instance_path))
            errors.append({"in": "body", "pointer": where, "detail": fault.message[:500]})
            if len(errors) == FAULTS_MAX:
                break
        first = errors[0]
        raise InvalidPayload(
            f"the payload is not what {type!r} takes: {first['pointer']}: {first['detail']}",
            errors=errors,
        )

    return check


def pointer(parts: Any) -> str:
    """A path of keys and indices as a JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)
