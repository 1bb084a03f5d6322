"""When a reader's Avro schema reads all that a writer's wrote.

The rules of resolution are those of the Avro specification ("Schema Resolution"), in the reading of
Avro's Java library, which Confluent's registry uses: the names of records, enums and fixed are
compared without their namespaces, a reader's aliases count, logical types do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from chimera.contracts.languages.avro_schema import Schema, kind_of, title

#: what each primitive type of a reader also reads
_PROMOTED = {
    "long": {"int"},
    "float": {"int", "long"},
    "double": {"int", "long", "float"},
    "string": {"bytes"},
    "bytes": {"string"},
}
_NAMED = ("record", "error", "enum", "fixed")


def incompatibilities(reader: Schema, writer: Schema) -> list[str]:
    """Why the reader does not read all that the writer writes; empty: it does."""
    return list(_Resolution(reader, writer).between(reader.root, writer.root, ""))


class _Resolution:
    """One comparison; a pair that is being compared further up counts as compatible."""

    def __init__(self, reader: Schema, writer: Schema) -> None:
        self._reader = reader
        self._writer = writer
        #: what was found between two records; nothing yet while they are being compared
        self._known: dict[tuple[str, str], list[str]] = {}

    def between(self, reader: Any, writer: Any, at: str) -> Iterator[str]:
        reader = self._reader.resolved(reader)
        writer = self._writer.resolved(writer)
        if isinstance(writer, list):
            for branch in writer:
                yield from self.between(reader, branch, at)
            return
        if isinstance(reader, list):
            if not any(self._reads(branch, writer, at) for branch in reader):
                yield f"{at or '/'}: no branch of the reader's union reads {title(writer)}"
            return
        kind, written = kind_of(reader), kind_of(writer)
        if kind != written:
            if written not in _PROMOTED.get(kind, ()):
                yield f"{at or '/'}: a reader of {title(reader)} does not read {title(writer)}"
        elif kind == "array":
            yield from self.between(reader["items"], writer["items"], f"{at}/items")
        elif kind == "map":
            yield from self.between(reader["values"], writer["values"], f"{at}/values")
        elif kind in _NAMED:
            yield from self._named(kind, reader, writer, at)

    def _reads(self, reader: Any, writer: Any, at: str) -> bool:
        return next(self.between(reader, writer, at), None) is None

    def _named(self, kind: str, reader: Any, writer: Any, at: str) -> Iterator[str]:
        if not _same_name(reader, writer):
            yield f"{at or '/'}: {reader['name']} is not {writer['name']}, and no alias says so"
        elif kind == "fixed":
            if reader["size"] != writer["size"]:
                yield f"{at or '/'}: {reader['size']} bytes are read, {writer['size']} written"
        elif kind == "enum":
            missing = [one for one in writer["symbols"] if one not in reader["symbols"]]
            if missing and "default" not in reader:
                yield f"{at or '/'}: the reader lacks the symbols {', '.join(missing)}"
        else:
            pair = reader["name"], writer["name"]
            if pair not in self._known:
                self._known[pair] = []
                self._known[pair] = list(self._fields(reader, writer, at))
            yield from self._known[pair]

    def _fields(self, reader: Any, writer: Any, at: str) -> Iterator[str]:
        written = {field["name"]: field for field in writer["fields"]}
        for field in reader["fields"]:
            where = f"{at}/{field['name']}"
            names = (field["name"], *field.get("aliases", ()))
            found = next((written[name] for name in names if name in written), None)
            if found is not None:
                yield from self.between(field["type"], found["type"], where)
            elif "default" not in field and not self._has_enum_default(field):
                yield f"{where}: the reader's field has no default and is not written"

    def _has_enum_default(self, field: Mapping[str, Any]) -> bool:
        schema = self._reader.resolved(field["type"])
        return kind_of(schema) == "enum" and "default" in schema


def _same_name(reader: Any, writer: Any) -> bool:
    full = writer["name"]
    if reader["name"].rpartition(".")[2] == full.rpartition(".")[2]:
        return True
    namespace = reader["name"].rpartition(".")[0]
    aliases = reader.get("aliases", ())
    return any((one if "." in one or not namespace else f"{namespace}.{one}") == full
               for one in aliases)  # fmt: skip
