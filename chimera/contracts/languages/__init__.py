"""The languages of schemas that a registry knows: Avro and JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from chimera.contracts.languages import avro_rules, avro_schema, json_rules, json_schema

AVRO = "AVRO"
JSON = "JSON"
LANGUAGES = (JSON, AVRO)

#: how deep a schema may be: whoever works on it does so by recursion
_DEPTH_MAX = 150
#: order in which Avro's attributes are written; others follow
_AVRO_ORDER = (
    "type", "name", "namespace", "doc", "aliases", "fields", "symbols", "items", "values", "size",
    "logicalType", "default", "order",
)  # fmt: skip
_RANK = {key: rank for rank, key in enumerate(_AVRO_ORDER)}


def canonical(language: str, text: str, *, normalize: bool = False) -> str:
    """One text for schemas that differ in nothing but layout. Raises ValueError if it is no JSON.

    `normalize` evens out more: the order of a JSON Schema's keywords, and how Avro names are given.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise ValueError(f"no JSON: {fault}") from fault
    if _is_deep(found):
        raise ValueError(f"it is more than {_DEPTH_MAX} levels deep")
    if language == AVRO:
        found = _avro(found, "" if normalize else None)
    return json.dumps(
        found, ensure_ascii=False, allow_nan=False, separators=(",", ":"),
        sort_keys=normalize and language == JSON,
    )  # fmt: skip


def parse(language: str, text: str, references: Mapping[str, str]) -> Any:
    """A schema with those that it refers to, by name. Raises ValueError for what is none."""
    if language == AVRO:
        return avro_schema.Schema(text, list(references.values()))
    return json_schema.Schema(text, references)


def incompatibilities(reader: Any, writer: Any) -> list[str]:
    """Why a reader's schema does not take all that a writer's does; both of one language."""
    if isinstance(reader, avro_schema.Schema):
        return avro_rules.incompatibilities(reader, writer)
    return json_rules.incompatibilities(reader, writer)


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_DEPTH_MAX):
        parts = (
            part
            for one in level
            if isinstance(one, (dict, list))
            for part in (one.values() if isinstance(one, dict) else one)
        )
        level = list(parts)
        if not level:
            return False
    return True


def _avro(schema: Any, namespace: str | None) -> Any:
    """A schema with its attributes in order; names in full if a namespace is given."""
    if isinstance(schema, list):
        return [_avro(one, namespace) for one in schema]
    if isinstance(schema, str):
        return schema if namespace is None else _full(schema, namespace)
    if not isinstance(schema, dict):
        return schema
    if schema.keys() == {"type"}:
        return _avro(schema["type"], namespace)
    schema = dict(schema)
    named = schema.get("type") in ("record", "error", "enum", "fixed")
    if namespace is not None and named and isinstance(schema.get("name"), str):
        schema["name"] = _full(schema["name"], schema.pop("namespace", namespace))
        namespace = schema["name"].rpartition(".")[0]
    for key in ("type", "items", "values"):
        if key in schema and not (key == "type" and named):
            schema[key] = _avro(schema[key], namespace)
    if isinstance(schema.get("fields"), list):
        schema["fields"] = [_field(field, namespace) for field in schema["fields"]]
    return _ordered(schema, others_sorted=namespace is not None)


def _field(field: Any, namespace: str | None) -> Any:
    if not isinstance(field, dict) or "type" not in field:
        return field
    return _ordered(
        {**field, "type": _avro(field["type"], namespace)}, others_sorted=namespace is not None
    )


def _ordered(attributes: dict[str, Any], *, others_sorted: bool) -> dict[str, Any]:
    def rank(key: str) -> tuple[int, str]:
        return _RANK.get(key, len(_RANK)), key if others_sorted and key not in _RANK else ""

    return {key: attributes[key] for key in sorted(attributes, key=rank)}


def _full(name: str, namespace: str) -> str:
    if "." in name or not namespace or name in avro_schema.PRIMITIVES:
        return name
    return f"{namespace}.{name}"
