"""What a registry knows: schemas by id, the versions of subjects, levels and modes. Pure data.

It is made of entries that are applied in the order in which they were recorded, each a mapping with
`op`: `register`, `delete`, `config` or `mode`. An entry is a fact: applying it decides nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid5

from chimera.contracts.schemas import ID_MAX
from chimera.errors import RegistryFault

#: what schemas' GUIDs are derived in
_GUIDS = UUID("6f0f3a0e-9a54-5d1c-8d0e-6c6f7a1f5c11")
DEFAULT_LEVEL = "BACKWARD"
DEFAULT_MODE = "READWRITE"
#: the subject of the global level and mode
GLOBAL = ""


@dataclass(frozen=True, slots=True)
class Schema:
    """What an id stands for: language, text, references, and what is told about it."""

    language: str
    text: str  #: canonical
    references: tuple[Mapping[str, Any], ...] = ()  #: each with `name`, `subject`, `version`
    metadata: Mapping[str, Any] | None = None
    rules: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As the REST API writes it: what is not there, and the language if Avro, is left out."""
        found: dict[str, Any] = {"schema": self.text}
        if self.language != "AVRO":
            found["schemaType"] = self.language
        if self.references:
            found["references"] = [dict(one) for one in self.references]
        if self.metadata is not None:
            found["metadata"] = dict(self.metadata)
        if self.rules is not None:
            found["ruleSet"] = dict(self.rules)
        return found

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Schema:
        """The schema that `to_dict` told of."""
        return cls(
            found.get("schemaType") or "AVRO",
            found["schema"],
            tuple(found.get("references") or ()),
            found.get("metadata"),
            found.get("ruleSet"),
        )

    @property
    def identity(self) -> str:
        """Equal for equal schemas."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @property
    def guid(self) -> str:
        """The same in every registry of this kind."""
        return str(uuid5(_GUIDS, self.identity))


@dataclass(slots=True)
class Version:
    """One version of a subject."""

    subject: str
    number: int
    id: int  #: of its schema
    deleted: bool = False


@dataclass(slots=True)
class State:
    """Everything that a registry knows."""

    schemas: dict[int, Schema] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)  #: by identity
    subjects: dict[str, dict[int, Version]] = field(default_factory=dict)
    levels: dict[str, str] = field(default_factory=dict)  #: by subject
    modes: dict[str, str] = field(default_factory=dict)  #: by subject
    id_max: int = ID_MAX  #: the highest ever given; those up to here are for our own
    numbers: dict[str, int] = field(default_factory=dict)  #: the highest version ever, by subject

    def apply(self, entry: Mapping[str, Any]) -> None:
        """Take in what was recorded."""
        subject = entry.get("subject", GLOBAL)
        match entry["op"]:
            case "register":
                self._register(subject, entry)
            case "delete":
                self._delete(subject, entry["versions"], entry["permanent"])
            case "config":
                _set(self.levels, subject, entry["level"])
            case "mode":
                _set(self.modes, subject, entry["mode"])

    def _register(self, subject: str, entry: Mapping[str, Any]) -> None:
        schema, id, number = Schema.from_dict(entry["schema"]), entry["id"], entry["version"]
        self.schemas[id] = schema
        self.ids.setdefault(schema.identity, id)
        self.id_max = max(self.id_max, id)
        self.numbers[subject] = max(self.numbers.get(subject, 0), number)
        self.subjects.setdefault(subject, {})[number] = Version(subject, number, id)

    def _delete(self, subject: str, numbers: list[int], permanent: bool) -> None:
        versions = self.subjects[subject]
        for number in numbers:
            if not permanent:
                versions[number].deleted = True
                continue
            id = versions.pop(number).id
            if not any(one.id == id for one in self.versions()):
                gone = self.schemas.pop(id)
                if self.ids.get(gone.identity) == id:
                    del self.ids[gone.identity]
        if not versions:
            del self.subjects[subject]
            self.numbers.pop(subject, None)
        if all(one.deleted for one in versions.values()):
            self.levels.pop(subject, None)
            self.modes.pop(subject, None)

    def versions(self, *, deleted: bool = True) -> Iterator[Version]:
        """Every version of every subject; the deleted ones too unless not."""
        for versions in self.subjects.values():
            yield from (one for one in versions.values() if deleted or not one.deleted)

    def live(self, subject: str, *, deleted: bool = False) -> list[Version]:
        """The versions of a subject that are not deleted, or all, oldest first."""
        versions = self.subjects.get(subject, {})
        return [versions[n] for n in sorted(versions) if deleted or not versions[n].deleted]

    def version(self, subject: str, number: int | None, *, deleted: bool = False) -> Version:
        """A version of a subject; None: the newest. Raises RegistryFault."""
        found = self.live(subject, deleted=deleted)
        if not found:
            raise no_subject(subject)
        for one in found:
            if number == one.number or (number is None and one is found[-1]):
                return one
        raise RegistryFault(f"Version {number} not found.", error_code=40402)

    def users(self, subject: str, number: int) -> list[int]:
        """Ids of the schemas that refer to a version of a subject."""
        live = {one.id for one in self.versions(deleted=False)}
        return sorted(
            id
            for id in live
            for reference in self.schemas[id].references
            if reference["subject"] == subject and reference["version"] == number
        )

    def level(self, subject: str) -> str:
        """What a subject's versions are held to."""
        return self.levels.get(subject) or self.levels.get(GLOBAL, DEFAULT_LEVEL)

    def mode(self, subject: str) -> str:
        """What may be done with a subject."""
        return self.modes.get(subject) or self.modes.get(GLOBAL, DEFAULT_MODE)


def no_subject(subject: str) -> RegistryFault:
    """The fault of a subject that is not there."""
    return RegistryFault(f"Subject '{subject}' not found.", error_code=40401)


def _set(values: dict[str, str], subject: str, value: str | None) -> None:
    if value is None:
        values.pop(subject, None)
    else:
        values[subject] = value
