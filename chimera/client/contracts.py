"""Contracts of payloads: what a task type's schema allows, with the pointer of each fault."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from chimera.errors import InvalidPayload
from chimera.swarm.policy import TaskPolicy

#: raises InvalidPayload for a payload that the contract does not allow
Check = Callable[[Any], None]
#: (pointer, what is wrong) of a payload
Faults = Callable[[Any], Iterator[tuple[str, str]]]
#: faults of one payload that are told
FAULTS_MAX = 10


class Contracts:
    """Compiled contracts by task type; compiled when first needed, anew when they change."""

    def __init__(self) -> None:
        self._compiled: dict[str, tuple[tuple[str, str], Check]] = {}

    def check(self, policy: TaskPolicy) -> Check | None:
        """What checks payloads of a type; None if it has no contract."""
        if policy.contract is None:
            return None
        contract = policy.contract, policy.contract_language
        known = self._compiled.get(policy.type)
        if known is None or known[0] != contract:
            known = self._compiled[policy.type] = contract, compile_check(policy.type, *contract)
        return known[1]


def compile_check(type: str, schema: str, language: str = "JSON") -> Check:
    """What checks payloads against a schema, given as text."""
    faults = _avro_faults(schema) if language == "AVRO" else _json_faults(schema)

    def check(payload: Any) -> None:
        errors = [
            {"in": "body", "pointer": where, "detail": told[:500]}
            for where, told in itertools.islice(faults(payload), FAULTS_MAX)
        ]
        if not errors:
            return
        first = errors[0]
        raise InvalidPayload(
            f"the payload is not what {type!r} takes: {first['pointer']}: {first['detail']}",
            errors=errors,
        )

    return check


def _json_faults(schema: str) -> Faults:
    import jsonschema_rs  # here: most types have no contract, and it takes a while to load

    validator = jsonschema_rs.validator_for(msgspec.json.decode(schema))

    def faults(payload: Any) -> Iterator[tuple[str, str]]:
        try:
            if not validator.is_valid(payload):
                for fault in validator.iter_errors(payload):
                    yield pointer(("payload", *fault.instance_path)), fault.message
        except ValueError:  # of its recursion limit
            yield "/payload", "is too deep"

    return faults


def _avro_faults(schema: str) -> Faults:
    from chimera.contracts.languages.avro_schema import Schema  # here: as above

    parsed = Schema(schema)

    def faults(payload: Any) -> Iterator[tuple[str, str]]:
        try:
            for where, told in parsed.faults(payload):
                yield f"/payload{where}", told
        except RecursionError:
            yield "/payload", "is too deep"

    return faults


def pointer(parts: Any) -> str:
    """A path of keys and indices as a JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)
