"""Avro schemas made ready for fastavro, with times as the numbers that they are on the wire."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import fastavro


def parse(text: str) -> Any:
    """A schema, parsed. Raises ValueError or what fastavro raises for what is none."""
    return fastavro.parse_schema(without_logical_types(json.loads(text)))


def is_weightless(parsed: Any) -> bool:
    """Whether items of some list in a schema may take no byte at all.

    A few bytes could then claim to hold any number of items, and keep their reader busy for ever.
    """
    named = parsed.get("__named_schemas", {}) if isinstance(parsed, dict) else {}
    sizes: dict[str, int] = {}

    def least(schema: Any) -> int:
        """Bytes that a value takes at least; 1 for a record within itself."""
        if isinstance(schema, str) and schema in named:
            schema = named[schema]
        if isinstance(schema, (str, list)):
            return int(schema != "null")
        if schema["type"] in ("record", "error"):
            if schema["name"] not in sizes:
                sizes[schema["name"]] = 1
                found = sum(least(field["type"]) for field in schema["fields"])
                sizes[schema["name"]] = found
            return sizes[schema["name"]]
        return int(schema["size"]) if schema["type"] == "fixed" else int(schema["type"] != "null")

    def parts(schema: Any) -> Iterator[Any]:
        if isinstance(schema, list):
            for one in schema:
                yield from parts(one)
        elif isinstance(schema, dict):
            yield schema
            for key in ("type", "items", "values"):
                yield from parts(schema.get(key))
            for field in schema.get("fields", ()):
                yield from parts(field["type"])

    return any(least(part["items"]) == 0 for part in parts(parsed) if part["type"] == "array")


def without_logical_types(schema: Any) -> Any:
    """The schema without its logical types: values stay what is written."""
    if isinstance(schema, list):
        return [without_logical_types(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if key != "logicalType"}
    for key in ("type", "items", "values"):
        if key in kept:
            kept[key] = without_logical_types(kept[key])
    if isinstance(kept.get("fields"), list):
        kept["fields"] = [without_logical_types(field) for field in kept["fields"]]
    return kept
