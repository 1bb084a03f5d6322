"""Avro schemas, parsed and checked; and what a JSON value is to one.

fastavro parses; what it lets pass and the specification does not is checked here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import fastavro

PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
_INT_BITS = {"int": 31, "long": 63}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*\Z")
#: how deep a schema may be written: a bound, so that none ends the interpreter's stack
_DEPTH_MAX = 60


class Schema:
    """A parsed schema with the named types in it."""

    def __init__(self, text: str, references: Sequence[str] = ()) -> None:
        """Parse a schema, after those whose types it uses. Raises ValueError for what is none."""
        self._named: dict[str, Any] = {}
        for one in references:
            _parse(one, self._named)
        self.root = _parse(text, self._named)
        for field, where in self._fields(self.root, ""):
            if "default" in field:
                for fault_at, told in self.faults(field["default"], field["type"], is_default=True):
                    raise ValueError(f"{where}: the default{fault_at and ' at ' + fault_at} {told}")

    def resolved(self, schema: Any) -> Any:
        """A schema with a name in its place replaced by what is named."""
        if isinstance(schema, str) and schema not in PRIMITIVES:
            return self._named[schema]
        if isinstance(schema, dict) and isinstance(schema["type"], (dict, list)):
            return self.resolved(schema["type"])
        return schema

    def faults(
        self, value: Any, schema: Any = None, *, at: str = "", is_default: bool = False
    ) -> Iterator[tuple[str, str]]:
        """(JSON pointer, what is wrong) of a JSON value that is to be of the schema.

        Unions are untagged; bytes and fixed are text of code points up to 255, as in defaults.
        Unlike a default, a value may leave out what has a default.
        """
        schema = self.resolved(self.root if schema is None else schema)
        if isinstance(schema, list):
            if not any(self._fits(value, branch, is_default) for branch in schema):
                yield at, f"is none of {' | '.join(map(title, schema))}"
            return
        kind = kind_of(schema)
        if kind in ("record", "error"):
            yield from self._record_faults(value, schema, at, is_default)
        elif kind == "array":
            if not isinstance(value, list):
                yield at, "is no array"
                return
            for index, item in enumerate(value):
                yield from self.faults(
                    item, schema["items"], at=f"{at}/{index}", is_default=is_default
                )
        elif kind == "map":
            if not isinstance(value, dict):
                yield at, "is no object"
                return
            for key, item in value.items():
                where = f"{at}/{escaped(key)}"
                yield from self.faults(item, schema["values"], at=where, is_default=is_default)
        elif not _is_plain(value, schema, kind):
            yield at, f"is no {title(schema)}"

    def _fits(self, value: Any, schema: Any, is_default: bool) -> bool:
        return next(self.faults(value, schema, is_default=is_default), None) is None

    def _record_faults(
        self, value: Any, schema: Any, at: str, is_default: bool
    ) -> Iterator[tuple[str, str]]:
        if not isinstance(value, dict):
            yield at, f"is no object ({title(schema)})"
            return
        fields = {field["name"]: field for field in schema["fields"]}
        for name, field in fields.items():
            if name in value:
                where = f"{at}/{escaped(name)}"
                yield from self.faults(value[name], field["type"], at=where, is_default=is_default)
            elif is_default or "default" not in field:
                yield at, f"lacks {name!r}"
        for name in value.keys() - fields.keys():
            yield f"{at}/{escaped(name)}", f"is no field of {title(schema)}"

    def _fields(self, schema: Any, at: str) -> Iterator[tuple[Any, str]]:
        """(field, where it is) of every record that is written out in the schema."""
        if isinstance(schema, list):
            for branch in schema:
                yield from self._fields(branch, at)
        elif isinstance(schema, dict):
            for key in ("type", "items", "values"):
                yield from self._fields(schema.get(key), at)
            for field in schema.get("fields", ()):
                where = f"{at}/{field['name']}"
                yield field, where
                yield from self._fields(field["type"], where)


def kind_of(schema: Any) -> str:
    """The type's name of a schema that is resolved, e.g. `record`."""
    if isinstance(schema, list):
        return "union"
    return str(schema["type"] if isinstance(schema, dict) else schema)


def title(schema: Any) -> str:
    """How messages call a schema."""
    if isinstance(schema, dict) and "name" in schema:
        return f"{schema['type']} {schema['name']}"
    return kind_of(schema)


def escaped(key: str) -> str:
    """A key as a part of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")


def _parse(text: str, named: dict[str, Any]) -> Any:
    """A schema as fastavro has it, its named types added to `named`. Raises ValueError."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise ValueError(f"no JSON: {fault}") from fault
    _check(raw, "", 0)
    try:
        return fastavro.parse_schema(raw, named_schemas=named)
    except fastavro.schema.UnknownType as fault:
        raise ValueError(f"nothing is named {fault.name!r}") from fault
    except Exception as fault:  # whatever the library says to somebody else's text
        raise ValueError((str(fault) or type(fault).__name__)[:500]) from fault


def _check(raw: Any, at: str, depth: int) -> None:
    """Raise ValueError for what the specification forbids."""
    where = at or "/"
    if depth > _DEPTH_MAX:
        raise ValueError(f"the schema is more than {_DEPTH_MAX} levels deep")
    if isinstance(raw, list):
        _check_union(raw, at, depth)
    elif isinstance(raw, dict):
        kind = raw.get("type")
        if kind in ("record", "error"):
            _check_record(raw, at, depth)
        elif kind == "fixed":
            size = raw.get("size")
            if not isinstance(size, int) or isinstance(size, bool) or size < 0:
                raise ValueError(f"{where}: a fixed has a size, not {size!r}")
        elif kind in ("array", "map"):
            part = "items" if kind == "array" else "values"
            if part not in raw:
                raise ValueError(f"{where}: an {kind} has {part}" if kind == "array"
                                 else f"{where}: a {kind} has {part}")  # fmt: skip
            _check(raw[part], f"{at}/{part}", depth + 1)
        elif isinstance(kind, (dict, list)):
            _check(kind, at, depth + 1)
        if kind in ("record", "error", "enum", "fixed") and not _is_name(raw.get("name")):
            raise ValueError(f"{where}: {raw.get('name')!r} is no name of a type")
        if kind == "enum" and not (isinstance(raw.get("symbols"), list)):
            raise ValueError(f"{where}: an enum has symbols")
    elif not isinstance(raw, str):
        raise ValueError(f"{where}: {json.dumps(raw)[:80]} is no schema")


def _check_union(raw: list[Any], at: str, depth: int) -> None:
    seen = set()
    for branch in raw:
        if isinstance(branch, list):
            raise ValueError(f"{at or '/'}: a union directly in a union")
        _check(branch, at, depth + 1)
        kind = branch if isinstance(branch, str) else branch["type"]
        name = branch.get("name", kind) if isinstance(branch, dict) else kind
        key = name if isinstance(name, str) else json.dumps(name)
        if key in seen:
            raise ValueError(f"{at or '/'}: a union with two branches of {key}")
        seen.add(key)


def _check_record(raw: dict[str, Any], at: str, depth: int) -> None:
    fields = raw.get("fields")
    if not isinstance(fields, list) or not all(isinstance(field, dict) for field in fields):
        raise ValueError(f"{at or '/'}: a record has a list of fields")
    seen = set()
    for field in fields:
        name = field.get("name")
        if not _is_name(name) or "." in name:
            raise ValueError(f"{at or '/'}: {name!r} is no name of a field")
        if name in seen:
            raise ValueError(f"{at or '/'}: two fields are named {name}")
        if "type" not in field:
            raise ValueError(f"{at}/{name}: a field has a type")
        seen.add(name)
        _check(field["type"], f"{at}/{name}", depth + 1)


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and bool(_NAME.match(name))


def _is_plain(value: Any, schema: Any, kind: str) -> bool:
    """Whether a JSON value is of a type without parts."""
    match kind:
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "int" | "long":
            whole = isinstance(value, int) and not isinstance(value, bool)
            return whole and -(1 << _INT_BITS[kind]) <= value < 1 << _INT_BITS[kind]
        case "float" | "double":
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        case "enum":
            return value in schema["symbols"]
        case "bytes" | "fixed":
            latin = isinstance(value, str) and all(ord(one) < 256 for one in value)
            return latin and (kind == "bytes" or len(value) == schema["size"])
        case _:
            return isinstance(value, str)
