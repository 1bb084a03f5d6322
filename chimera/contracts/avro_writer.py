"""Writes events as Avro: a schema becomes a function, once, that writes an object's attributes.

Events are written a record a task, where they go to a broker; a writer for any schema looks at each
value of a union again to find its branch, and takes several times as long.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

#: appends a value to what is written
Write: TypeAlias = Callable[[Any, bytearray], None]

_DOUBLE = struct.Struct("<d")


def compile_writer(schema: Any, named: Mapping[str, Any]) -> Write:
    """The function of a parsed schema. Records are objects with an attribute a field.

    Raises ValueError for what our events have not: unions but for `["null", …]`, enums, fixed.
    """
    if isinstance(schema, list):
        return _nullable(schema, named)
    if isinstance(schema, str):
        if schema in named:
            return compile_writer(named[schema], named)
        if schema in _PRIMITIVES:
            return _PRIMITIVES[schema]
    elif isinstance(schema, dict):
        match schema["type"]:
            case "record":
                return _record(schema, named)
            case "array":
                return _array(compile_writer(schema["items"], named))
            case "map":
                return _map(compile_writer(schema["values"], named))
            case inner:
                return compile_writer(inner, named)
    raise ValueError(f"events have no {schema}")


def _nullable(schema: list[Any], named: Mapping[str, Any]) -> Write:
    if len(schema) != 2 or schema[0] != "null":
        raise ValueError(f"events have no union {schema}")
    write = compile_writer(schema[1], named)

    def nullable(value: Any, out: bytearray) -> None:
        if value is None:
            out.append(0)
        else:
            out.append(2)
            write(value, out)

    return nullable


def _record(schema: Any, named: Mapping[str, Any]) -> Write:
    writes = [compile_writer(field["type"], named) for field in schema["fields"]]
    values_of = operator.attrgetter(*(field["name"] for field in schema["fields"]))

    def record(value: Any, out: bytearray) -> None:
        for write, part in zip(writes, values_of(value), strict=True):
            write(part, out)

    return record


def _array(write: Write) -> Write:
    def array(value: Any, out: bytearray) -> None:
        if value:
            _long(len(value), out)
            for item in value:
                write(item, out)
        out.append(0)

    return array


def _map(write: Write) -> Write:
    def map_(value: Any, out: bytearray) -> None:
        if value:
            _long(len(value), out)
            for key, item in value.items():
                _string(key, out)
                write(item, out)
        out.append(0)

    return map_


def _long(value: int, out: bytearray) -> None:
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"{value} is no long")
    left = value << 1 ^ value >> 63
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)


def _int(value: int, out: bytearray) -> None:
    if not -(1 << 31) <= value < 1 << 31:
        raise ValueError(f"{value} is no int")
    _long(value, out)


def _string(value: str, out: bytearray) -> None:
    data = value.encode()
    _long(len(data), out)
    out += data


def _bytes(value: bytes, out: bytearray) -> None:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"{value!r:.40} is no bytes")
    _long(len(value), out)
    out += value


def _boolean(value: bool, out: bytearray) -> None:
    out.append(1 if value else 0)


def _double(value: float, out: bytearray) -> None:
    out += _DOUBLE.pack(value)


_PRIMITIVES: dict[str, Write] = {
    "long": _long,
    "int": _int,
    "string": _string,
    "bytes": _bytes,
    "boolean": _boolean,
    "double": _double,
}
