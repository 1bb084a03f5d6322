"""The table of schema changes (compatibility.yaml), as cases to be parametrized with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

LEVELS = ("BACKWARD", "FORWARD", "FULL")


@dataclass(frozen=True)
class Case:
    """One change, and what may be said of it."""

    language: str
    name: str
    old: str
    new: str
    backward: bool
    forward: bool
    #: verdicts of Apicurio's that are known to differ, by level, and why
    apicurio: tuple[tuple[str, bool], ...] = ()
    why: str = ""

    def verdict(self, level: str) -> bool:
        """Whether the change is compatible."""
        return {
            "BACKWARD": self.backward,
            "FORWARD": self.forward,
            "FULL": self.backward and self.forward,
        }[level]

    def __str__(self) -> str:
        return f"{self.language.lower()}: {self.name}"


def load() -> list[Case]:
    """Every case."""
    table = yaml.safe_load((Path(__file__).parent / "compatibility.yaml").read_text())
    return [
        Case(
            **{
                **row,
                "language": language.upper(),
                "old": _text(language, row["old"]),
                "new": _text(language, row["new"]),
                "apicurio": tuple((row.get("apicurio") or {}).items()),
            }
        )
        for language, rows in table.items()
        for row in rows
    ]


def _text(language: str, schema: Any) -> str:
    """A schema as text; JSON Schemas say their dialect, by which Apicurio knows what they are."""
    if language == "json":
        schema = {"$schema": "http://json-schema.org/draft-07/schema#", **schema}
    return json.dumps(schema)


CASES = load()
