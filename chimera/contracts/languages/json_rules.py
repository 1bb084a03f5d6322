"""When a reader's JSON Schema allows all that a writer's allows, as Confluent's registry sees it.

A property, or an item, that one of the two does not name is what its rest says of it: anything in
an open content model, nothing in a closed one (`additionalProperties: false`), what a schema says
in one that is partially open. All of Confluent's rules for properties follow from this, those that
surprise included: an optional property added to an open model is incompatible, since old data may
have that name with other content. A property that becomes required may have a default instead.
Titles, defaults, formats and unknown keywords say nothing of what is valid.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from chimera.contracts.languages.json_schema import Schema

_TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
_ANY_OF = ("anyOf", "oneOf")
#: bounds: keyword, whether it bounds from above, what it bounds
_BOUNDS = (
    ("maxLength", True, "string"),
    ("minLength", False, "string"),
    ("maxItems", True, "array"),
    ("minItems", False, "array"),
    ("maxProperties", True, "object"),
    ("minProperties", False, "object"),
)
#: that are not looked into: the reader may have them only if the writer has the same
_OPAQUE = (
    "if", "then", "else", "contains", "minContains", "maxContains", "unevaluatedProperties",
    "unevaluatedItems", "$dynamicRef", "$recursiveRef",
)  # fmt: skip
_ASSERTIONS = frozenset(
    {
        "type", "enum", "const", "not", "allOf", "$ref", "pattern", "multipleOf", "uniqueItems",
        "maximum", "minimum", "exclusiveMaximum", "exclusiveMinimum", "items", "prefixItems",
        "additionalItems", "properties", "patternProperties", "additionalProperties", "required",
        "dependencies", "dependentRequired", "dependentSchemas", "propertyNames",
        *(name for name, _, _ in _BOUNDS), *_ANY_OF, *_OPAQUE,
    }
)  # fmt: skip
#: how deep and how much is compared: more than any schema that a person would write
_DEPTH_MAX = 60
_STEPS_MAX = 5_000


def incompatibilities(reader: Schema, writer: Schema) -> list[str]:
    """Why the reader does not allow all that the writer allows; empty: it does."""
    comparison = _Comparison(reader, writer)
    return list(comparison.between(Part(writer), Part(reader), ""))


class Part:
    """A schema within a schema, resolved: no `$ref` is left at its top."""

    __slots__ = ("document", "of", "schema")

    def __init__(self, of: Schema, schema: Any = None, document: Any = None) -> None:
        self.of = of
        self.document = of.root if document is None else document
        self.schema: Any = self.document if schema is None else schema
        for _ in range(_DEPTH_MAX):
            if not isinstance(self.schema, dict) or "$ref" not in self.schema:
                break
            found, self.document = of.target(self.schema["$ref"], self.document)
            beside = {key: value for key, value in self.schema.items() if key != "$ref"}
            if not _is_open(beside) and isinstance(found, dict):
                found = {"allOf": [found, beside]}
            self.schema = found

    def at(self, schema: Any) -> Part:
        """Another schema of the same document."""
        return Part(self.of, schema, self.document)

    @property
    def is_open(self) -> bool:
        """Whether everything is valid."""
        return _is_open(self.schema)

    def get(self, keyword: str, otherwise: Any = None) -> Any:
        """The value of a keyword."""
        return self.schema.get(keyword, otherwise) if isinstance(self.schema, dict) else otherwise

    def without(self, *keywords: str) -> Part:
        """The schema without some keywords."""
        return self.at({key: one for key, one in self.schema.items() if key not in keywords})

    def property(self, name: str) -> Part:
        """What it says of a property, by name, by pattern, or by its rest."""
        found = [schema for key, schema in self.get("properties", {}).items() if key == name]
        patterns = self.get("patternProperties", {}).items()
        found += [schema for pattern, schema in patterns if _matches(pattern, name)]
        if not found:
            return self.at(self.get("additionalProperties", True))
        return self.at(found[0] if len(found) == 1 else {"allOf": found})

    def items(self) -> tuple[list[Any], Any]:
        """What it says of the first items, and of the rest."""
        first = self.get("prefixItems")
        if first is not None:
            return first, self.get("items", True)
        every = self.get("items", True)
        if isinstance(every, list):
            return every, self.get("additionalItems", True)
        return [], every

    def types(self) -> list[str]:
        """Types of the values that may be valid."""
        found = self.get("type")
        return list(_TYPES) if found is None else [found] if isinstance(found, str) else found

    def values(self) -> list[Any] | None:
        """All that may be valid, if it is listed."""
        if "const" in self.schema:
            return [self.schema["const"]]
        listed: list[Any] | None = self.schema.get("enum")
        return listed

    def limit(self, above: bool) -> tuple[float, bool] | None:
        """(number, whether it is itself excluded) that bounds numbers."""
        inner, outer = ("maximum", "exclusiveMaximum") if above else ("minimum", "exclusiveMinimum")
        found, exclusive = self.get(inner), self.get(outer)
        if isinstance(exclusive, bool) or exclusive is None:  # a flag in draft 4
            return None if found is None else (found, bool(exclusive))
        if found is None or (exclusive <= found if above else exclusive >= found):
            return exclusive, True
        return found, False


class _Comparison:
    """A writer's schema against a reader's; pairs met again further down count as compatible."""

    def __init__(self, reader: Schema, writer: Schema) -> None:
        self._reader = reader
        self._writer = writer
        self._open: set[tuple[int, int]] = set()
        self._depth = 0
        self._steps = 0

    def allows(self, writer: Part, reader: Part, at: str) -> bool:
        """Whether the reader allows all that the writer allows."""
        return next(self.between(writer, reader, at), None) is None

    def between(self, writer: Part, reader: Part, at: str) -> Iterator[str]:
        """What the writer allows and the reader does not."""
        pair = id(writer.schema), id(reader.schema)
        if pair in self._open or reader.is_open or writer.schema is False:
            return
        if reader.schema is False:
            yield f"{at or '/'}: nothing is allowed any more"
        elif writer.is_open:
            yield f"{at or '/'}: anything was allowed, now {_told(reader.schema)}"
        elif self._depth >= _DEPTH_MAX or self._steps >= _STEPS_MAX:
            yield f"{at or '/'}: too deep, or too much, to be compared"
        else:
            self._open.add(pair)
            self._steps += 1
            self._depth += 1
            try:
                yield from self._combined(writer, reader, at)
            finally:
                self._depth -= 1
                self._open.discard(pair)

    def _combined(self, writer: Part, reader: Part, at: str) -> Iterator[str]:
        values = writer.values()
        if values is not None:
            allows = _validator(reader)
            lost = [value for value in values if not allows(value)]
            if lost:
                yield f"{at or '/'}: {_told(lost[0])} is not allowed any more"
        elif "allOf" in reader.schema or "allOf" in writer.schema:
            yield from self._products(writer, reader, at)
        elif (writer.schema.keys() | reader.schema.keys()) & set(_ANY_OF):
            yield from self._sums(writer, reader, at)
        elif reader.values() is not None:
            yield f"{at or '/'}: now only {_told(reader.values())}"
        else:
            yield from self._plain(writer, reader, at)

    def _products(self, writer: Part, reader: Part, at: str) -> Iterator[str]:
        given, wanted = _factors(writer), _factors(reader)
        for one in wanted:
            if not any(self.allows(other, one, at) for other in given):
                yield f"{at or '/'}: {_told(one.schema)} was not asked for before"

    def _sums(self, writer: Part, reader: Part, at: str) -> Iterator[str]:
        given, wanted = _alternatives(writer), _alternatives(reader)
        if "oneOf" in reader.schema and "anyOf" in writer.schema:
            yield f"{at or '/'}: what is of several alternatives was allowed"
        for one in given:
            if not any(self.allows(one, other, at) for other in wanted):
                yield f"{at or '/'}: no alternative allows {_told(one.schema)}"

    def _plain(self, writer: Part, reader: Part, at: str) -> Iterator[str]:
        allowed = set(reader.types())
        if "number" in allowed:
            allowed.add("integer")
        types = writer.types()
        lost = [type for type in types if type not in allowed]
        if lost:
            yield f"{at or '/'}: {lost[0]} is not allowed any more"
        if reader.get("not") is not None:
            yield from self._negations(writer, reader, at)
        for keyword in _OPAQUE:
            if reader.get(keyword) is not None and reader.get(keyword) != writer.get(keyword):
                yield f"{at or '/'}: {keyword} is another"
        for keyword, is_above, type in _BOUNDS:
            if type in types:
                yield from _bound(writer.get(keyword), reader.get(keyword), keyword, is_above, at)
        if "string" in types and reader.get("pattern") not in (None, writer.get("pattern")):
            yield f"{at or '/'}: pattern is another"
        if "integer" in types or "number" in types:
            yield from _numbers(writer, reader, at)
        if "array" in types:
            yield from self._arrays(writer, reader, at)
        if "object" in types:
            yield from self._objects(writer, reader, at)

    def _negations(self, writer: Part, reader: Part, at: str) -> Iterator[str]:
        """What the reader forbids, the writer must have forbidden."""
        banned, was_banned = reader.at(reader.get("not")), writer.get("not")
        mirrored = _Comparison(self._writer, self._reader)
        if was_banned is None or not mirrored.allows(banned, writer.at(was_banned), at):
            yield f"{at or '/'}: {_told(banned.schema)} is not allowed any more"

    def _arrays(self, writer: Part, reader: Part, at: str) -> Iterator[str]:
        if reader.get("uniqueItems") and not writer.get("uniqueItems"):
            yield f"{at or '/'}: uniqueItems was not asked for before"
        (given, given_rest), (wanted, wanted_rest) = writer.items(), reader.items()
        for index in range(max(len(given), len(wanted))):
            one = given[index] if index < len(given) else given_rest
            other = wanted[index] if index < len(wanted) else wanted_rest
            yield from self.between(writer.at(one), reader.at(other), f"{at}/items/{index}")
        yield from self.between(writer.at(given_rest), reader.at(wanted_rest), f"{at}/items")

    def _objects(self, writer: Part, reader: Part, at: str) -> Iterator[str]:
        named = {**writer.get("properties", {}), **reader.get("properties", {})}
        for name in named:
            where = f"{at}/properties/{name}"
            yield from self.between(writer.property(name), reader.property(name), where)
        rest = reader.at(reader.get("additionalProperties", True))
        before = writer.at(writer.get("additionalProperties", True))
        patterns = writer.get("patternProperties", {}), reader.get("patternProperties", {})
        for pattern in {**patterns[0], **patterns[1]}:
            one = writer.at(patterns[0][pattern]) if pattern in patterns[0] else before
            other = reader.at(patterns[1][pattern]) if pattern in patterns[1] else rest
            yield from self.between(one, other, f"{at}/patternProperties/{pattern}")
        yield from self.between(before, rest, f"{at}/additionalProperties")
        if reader.get("propertyNames") is not None:
            names = writer.at(writer.get("propertyNames", True))
            yield from self.between(names, reader.at(reader.get("propertyNames")), f"{at}/names")
        yield from self._required(writer, reader, at)

    def _required(self, writer: Part, reader: Part, at: str) -> Iterator[str]:
        asked = writer.get("required")
        before = set(asked) if isinstance(asked, list) else set()
        asked = reader.get("required")
        for name in asked if isinstance(asked, list) else ():
            schema = reader.property(name).schema
            if name not in before and not (isinstance(schema, dict) and "default" in schema):
                yield f"{at}/required: {name!r} was not asked for before and has no default"
        given, wanted = _dependencies(writer), _dependencies(reader)
        for name, needs in wanted.items():
            where = f"{at}/dependencies/{name}"
            if isinstance(needs, list):
                known = given.get(name)
                if not isinstance(known, list) or set(needs) - set(known) - before:
                    yield f"{where}: was not asked for before"
            else:
                known = given.get(name, True)
                known = {"required": known} if isinstance(known, list) else known
                yield from self.between(writer.at(known), reader.at(needs), where)


def _is_open(schema: Any) -> bool:
    return schema is True or (isinstance(schema, dict) and not schema.keys() & _ASSERTIONS)


def _factors(part: Part) -> list[Part]:
    """What must hold at once: the schema without `allOf`, and its parts."""
    beside = part.without("allOf")
    parts = [part.at(one) for one in part.get("allOf", ())]
    flat = [each for one in parts for each in (_factors(one) if one.get("allOf") else [one])]
    return flat if beside.is_open and flat else [beside, *flat]


def _alternatives(part: Part) -> list[Part]:
    """What may hold instead of each other, with what must hold beside."""
    for keyword in _ANY_OF:
        if keyword in part.schema:
            beside = part.without(keyword)
            branches = [part.at(one) for one in part.get(keyword)]
            if beside.is_open:
                return branches
            return [part.at({"allOf": [beside.schema, one.schema]}) for one in branches]
    if isinstance(part.get("type"), list):
        return [part.at({**part.schema, "type": type}) for type in part.get("type")]
    return [part]


def _dependencies(part: Part) -> Mapping[str, Any]:
    names = ("dependencies", "dependentRequired", "dependentSchemas")
    return {key: needs for name in names for key, needs in part.get(name, {}).items()}


def _validator(part: Part) -> Callable[[Any], bool]:
    """What says whether a value is valid; of what cannot be compiled by itself, none is."""
    if part.schema is part.of.root:
        return part.of.allows
    import jsonschema_rs  # here: it takes a while to load

    # what it refers to stands in its document
    document = part.document if isinstance(part.document, dict) else {}
    held = {key: document[key] for key in ("$schema", "$defs", "definitions") if key in document}
    try:
        found = jsonschema_rs.validator_for({**held, **part.schema}, retriever=_refuse)
    except ValueError:
        return lambda _: False
    allows: Callable[[Any], bool] = found.is_valid
    return allows


def _refuse(uri: str) -> Any:
    raise ValueError(f"{uri} is not fetched")


@functools.lru_cache(maxsize=1_000)
def _matches(pattern: str, name: str) -> bool:
    # by the validator's own engine: it knows the dialect, and gives up on patterns without end
    import jsonschema_rs

    try:
        return bool(jsonschema_rs.is_valid({"pattern": pattern}, name))
    except ValueError:
        return False


def _bound(before: Any, now: Any, keyword: str, above: bool, at: str) -> Iterator[str]:
    if now is None or (not above and now == 0):
        return
    if before is None or (before > now if above else before < now):
        yield f"{at or '/'}: {keyword} is {now}, it was {'not set' if before is None else before}"


def _numbers(writer: Part, reader: Part, at: str) -> Iterator[str]:
    for is_above in (True, False):
        now, before = reader.limit(is_above), writer.limit(is_above)
        if now is None:
            continue
        sign = 1 if is_above else -1
        if before is None or (sign * before[0], not before[1]) > (sign * now[0], not now[1]):
            end = "above" if is_above else "below"
            yield f"{at or '/'}: {end} {now[0]} is not allowed any more"
    step, was = reader.get("multipleOf"), writer.get("multipleOf")
    if step is not None and (was is None or Decimal(str(was)) % Decimal(str(step))):
        yield f"{at or '/'}: multipleOf is {step}, it was {was}"


def _told(schema: Any) -> str:
    return json.dumps(schema)[:80]
