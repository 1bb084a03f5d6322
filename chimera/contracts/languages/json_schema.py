"""JSON Schemas, parsed and checked, with those that they refer to. Nothing is ever fetched."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote, urldefrag

#: what a validator calls a schema that has no address of its own
_BASE = "json-schema:///"


class Schema:
    """A parsed schema; `references` are the texts of others, by the name that `$ref` gives them."""

    def __init__(self, text: str, references: Mapping[str, str] | None = None) -> None:
        """Parse and check a schema. Raises ValueError for what is none, or refers to nothing."""
        import jsonschema_rs  # here: it takes a while to load

        self.root = _parsed(text)
        self._others = {name: _parsed(other) for name, other in (references or {}).items()}
        try:
            jsonschema_rs.meta.validate(self.root)
            self._validator = jsonschema_rs.validator_for(self.root, retriever=self._retrieve)
        except Exception as fault:  # whatever the library says to somebody else's text
            raise ValueError(_first_line(fault)) from fault
        #: whether a value is valid
        self.allows: Callable[[Any], bool] = self._validator.is_valid

    def _retrieve(self, uri: str) -> Any:
        name = uri.removeprefix(_BASE)
        if name in self._others:
            return self._others[name]
        raise ValueError(f"{name!r} is not among the references")

    def target(self, reference: str, root: Any) -> tuple[Any, Any]:
        """(schema, the document it stands in) that a `$ref` in `root` names. Raises ValueError."""
        address, fragment = urldefrag(reference)
        found = document = root if not address or address == _id(root) else self._document(address)
        for part in unquote(fragment).split("/")[1:] if fragment.startswith("/") else ():
            key = part.replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(key)] if isinstance(found, list) else found[key]
            except (KeyError, IndexError, ValueError, TypeError) as fault:
                raise ValueError(f"{reference!r} refers to nothing") from fault
        if fragment and not fragment.startswith("/"):
            found = _anchored(document, fragment)
            if found is None:
                raise ValueError(f"{reference!r} refers to nothing")
        return found, document

    def _document(self, address: str) -> Any:
        for name, other in self._others.items():
            if address in (name, _id(other)):
                return other
        raise ValueError(f"{address!r} is not among the references")


def _parsed(text: str) -> Any:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise ValueError(f"no JSON: {fault}") from fault
    if not isinstance(found, (dict, bool)):
        raise ValueError("a JSON Schema is an object, true or false")
    return found


def _id(schema: Any) -> str | None:
    return schema.get("$id", schema.get("id")) if isinstance(schema, dict) else None


def _anchored(schema: Any, anchor: str) -> Any:
    """The part of a document with this `$anchor`, or with `#anchor` as its id."""
    if isinstance(schema, dict):
        if schema.get("$anchor") == anchor or _id(schema) == f"#{anchor}":
            return schema
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            found = _anchored(part, anchor)
            if found is not None:
                return found
    return None


def _first_line(fault: Exception) -> str:
    return (str(fault).strip() or type(fault).__name__).splitlines()[0][:500]
