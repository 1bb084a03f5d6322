"""The published Avro schemas, `EVENT.vN.avsc`: one file a version, never changed once published."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

_NAME = re.compile(r"([a-z_]+)\.v([1-9][0-9]*)\.avsc\Z")


@dataclass(frozen=True, slots=True)
class Published:
    """One version of an event's schema."""

    event: str  #: e.g. `dead_letter`
    version: int  #: from 1, dense
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
def published() -> dict[str, tuple[Published, ...]]:
    """Every version of every event's schema, by event, oldest first."""
    found: dict[str, list[Published]] = {}
    for file in files(__name__).iterdir():
        match = _NAME.match(file.name)
        if match:
            one = Published(match[1], int(match[2]), file.read_text(encoding="utf-8"))
            found.setdefault(one.event, []).append(one)
    return {
        event: tuple(sorted(versions, key=lambda one: one.version))
        for event, versions in sorted(found.items())
    }


def newest(event: str) -> Published:
    """The newest version of an event's schema."""
    return published()[event][-1]
