"""The published Avro schemas, `EVENT.vN.avsc`: one file a version, never changed once published.

`published.json` has the hash of each, by which a test holds it to that, and its id: the same in
every registry of ours, so that no leader has to ask for it and no record outlives its meaning.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

#: the highest id that may be given to a schema of our own
ID_MAX = 999
MANIFEST = "published.json"
_NAME = re.compile(r"([a-z_]+)\.v([1-9][0-9]*)\.avsc\Z")


@dataclass(frozen=True, slots=True)
class Published:
    """One version of an event's schema."""

    event: str  #: e.g. `dead_letter`
    version: int  #: from 1, dense
    id: int  #: in registries of ours
    text: str  #: of the file

    @property
    def file(self) -> str:
        """Name of its file."""
        return f"{self.event}.v{self.version}.avsc"

    @property
    def subject(self) -> str:
        """Subject in a registry: the record's full name (Confluent's RecordNameStrategy)."""
        schema = self.schema()
        return f"{schema['namespace']}.{schema['name']}"

    def schema(self) -> dict[str, Any]:
        """The schema as a mapping."""
        found: dict[str, Any] = json.loads(self.text)
        return found


@functools.cache
def manifest() -> Mapping[str, Mapping[str, Any]]:
    """`id` and `sha256` of each published file, by its name."""
    found: dict[str, dict[str, Any]] = json.loads(files(__name__).joinpath(MANIFEST).read_text())
    return found


@functools.cache
def published() -> dict[str, tuple[Published, ...]]:
    """Every version of every event's schema, by event, oldest first."""
    found: dict[str, list[Published]] = {}
    for name, entry in manifest().items():
        match = _NAME.match(name)
        assert match, name
        text = files(__name__).joinpath(name).read_text(encoding="utf-8")
        one = Published(match[1], int(match[2]), entry["id"], text)
        found.setdefault(one.event, []).append(one)
    return {
        event: tuple(sorted(versions, key=lambda one: one.version))
        for event, versions in sorted(found.items())
    }


def newest(event: str) -> Published:
    """The newest version of an event's schema."""
    return published()[event][-1]
