"""Between JSON and what a handler takes and gives: its payload's annotation and its result.

A dataclass, msgspec Struct, TypedDict, NamedTuple, Enum or pydantic model in the annotation (also
inside `list[…]`, `… | None` and the like) makes the payload one, checked. Any other annotation is
for the reader: the handler gets the JSON as plain Python values.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
import typing
from collections.abc import Callable
from typing import Any

import msgspec

Decode = Callable[[bytes], Any]

_plain: Decode = msgspec.json.Decoder().decode


def decoder(annotation: Any) -> Decode:
    """What makes a payload's JSON text the value that the handler gets.

    It raises msgspec.MsgspecError or pydantic.ValidationError, which name the path of what does
    not fit. Raises TypeError if nothing can be made an `annotation` from JSON.
    """
    leaves = list(_leaves(annotation))
    if any(_is_pydantic(leaf) for leaf in leaves):
        from pydantic import TypeAdapter

        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        return adapter.validate_json
    if any(_is_structured(leaf) for leaf in leaves):
        return msgspec.json.Decoder(annotation).decode
    return _plain


def schema(annotation: Any) -> str | None:
    """The JSON Schema of what `decoder` accepts, as text; None if that is any JSON.

    None too for an annotation whose values a schema cannot describe: the worker still checks it.
    """
    leaves = list(_leaves(annotation))
    try:
        if any(_is_pydantic(leaf) for leaf in leaves):
            from pydantic import TypeAdapter

            found = TypeAdapter(annotation).json_schema()
        elif any(_is_structured(leaf) for leaf in leaves):
            found = msgspec.json.schema(annotation)
        else:
            return None
    except (TypeError, ValueError, RuntimeError):
        return None
    return msgspec.json.encode(found).decode()


def _leaves(annotation: Any) -> typing.Iterator[Any]:
    arguments = typing.get_args(annotation)
    if not arguments or typing.get_origin(annotation) is typing.Literal:
        yield annotation
    for argument in arguments:
        yield from _leaves(argument)


def _is_pydantic(kind: Any) -> bool:
    pydantic = sys.modules.get("pydantic")  # a model cannot exist unless somebody imported it
    return pydantic is not None and isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)


def _is_structured(kind: Any) -> bool:
    if not isinstance(kind, type):
        return False
    return (
        dataclasses.is_dataclass(kind)
        or issubclass(kind, (msgspec.Struct, enum.Enum))
        or typing.is_typeddict(kind)
        or (issubclass(kind, tuple) and hasattr(kind, "_fields"))
    )


def _to_json(value: Any) -> Any:
    """What msgspec does not know by itself."""
    if _is_pydantic(type(value)):
        return value.model_dump(mode="json")
    raise TypeError(f"a value of type {type(value).__qualname__} is no JSON")


#: a result's JSON text; raises TypeError, ValueError, OverflowError or RecursionError
encode: Callable[[Any], bytes] = msgspec.json.Encoder(enc_hook=_to_json).encode
