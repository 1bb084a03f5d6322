"""Avro schemas made ready for fastavro, with times as the numbers that they are on the wire."""

from __future__ import annotations

import json
from typing import Any

import fastavro


def parse(text: str) -> Any:
    """A schema, parsed. Raises ValueError or what fastavro raises for what is none."""
    return fastavro.parse_schema(without_logical_types(json.loads(text)))


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
