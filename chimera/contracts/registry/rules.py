"""What a registry asks of names, versions and schemas before it takes them in. Pure."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from chimera.contracts import languages
from chimera.contracts.registry.state import Schema, State, Version
from chimera.errors import RegistryFault

LEVELS = (
    "NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL",
    "FULL_TRANSITIVE",
)  # fmt: skip
MODES = ("READWRITE", "READONLY", "READONLY_OVERRIDE", "IMPORT", "FORWARD")
#: the context of names that tell none
DEFAULT_CONTEXT = "."

_SUBJECT = re.compile(r"[^\x00-\x1f\x7f]{1,400}\Z")
_CONTEXT = re.compile(r":(\.[^:]*):(.*)\Z", re.DOTALL)
_VERSION_MAX = (1 << 31) - 1


def plain(subject: str) -> str:
    """A subject's name; the default context (`:.:`) goes without saying."""
    return subject.removeprefix(":.:")


def checked(subject: str) -> str:
    """A subject's name, if it may be one. Raises RegistryFault 42208."""
    if not _SUBJECT.match(subject):
        raise RegistryFault(f"The subject {subject!r} is invalid", error_code=42208)
    return plain(subject)


def context(subject: str) -> str:
    """The context of a subject."""
    match = _CONTEXT.match(subject)
    return match[1] if match else DEFAULT_CONTEXT


def number(version: str) -> int | None:
    """The version that a path names; None: the newest. Raises RegistryFault 42202."""
    if version in ("latest", "-1"):
        return None
    if version.isascii() and version.isdecimal() and 0 < int(version) <= _VERSION_MAX:
        return int(version)
    raise RegistryFault(
        f"The specified version '{version}' is not a valid version id. Allowed values are between "
        f'[1, 2^31-1] and the string "latest"',
        error_code=42202,
    )


def schema_of(state: State, body: Mapping[str, Any], normalize: bool) -> Schema:
    """The schema in a request's body, canonical and parsed once. Raises RegistryFault 42201."""
    text, language = body.get("schema"), body.get("schemaType") or languages.AVRO
    if not isinstance(text, str) or not text:
        raise RegistryFault("Empty schema", error_code=42201)
    if language not in languages.LANGUAGES:
        raise _invalid(f"the type {language!r} is none of {', '.join(languages.LANGUAGES)}")
    for name in ("metadata", "ruleSet"):
        if not isinstance(body.get(name) or {}, dict):
            raise _invalid(f"{name} is no object")
    if not isinstance((body.get("metadata") or {}).get("properties") or {}, dict):
        raise _invalid("the properties of its metadata are no object")
    if not isinstance(body.get("references") or [], list):
        raise _invalid("references is no list")
    try:
        found = Schema(
            language,
            languages.canonical(language, text, normalize=normalize),
            tuple(_reference(state, one) for one in body.get("references") or ()),
            body.get("metadata") or None,
            body.get("ruleSet") or None,
        )
        json.dumps(found.to_dict(), ensure_ascii=False).encode()  # half a character is none
        parsed(state, found)
    except ValueError as fault:
        raise _invalid(str(fault)) from fault
    return found


def parsed(state: State, schema: Schema) -> Any:
    """A schema made ready to be compared. Raises ValueError for what is none."""
    references: dict[str, str] = {}
    _collect(state, schema, references)
    return _parse(schema.language, schema.text, tuple(references.items()))


def equal(known: Schema, schema: Schema, normalize: bool) -> bool:
    """Whether two schemas are one; `normalize` says how exact."""
    if known == schema:
        return True
    if not normalize or known.language != schema.language:
        return False
    evened = languages.canonical(known.language, known.text, normalize=True)
    return (evened, known.references) == (schema.text, schema.references)


def predecessors(state: State, subject: str, level: str) -> list[Version]:
    """The versions that the next one is compared with."""
    if level == "NONE":
        return []
    live = state.live(subject)
    return live if level.endswith("_TRANSITIVE") else live[-1:]


def faults(state: State, level: str, schema: Schema, versions: Iterable[Version]) -> list[str]:
    """Why a schema may not follow some versions, newest first."""
    if level == "NONE":
        return []
    mine, found = parsed(state, schema), []
    for one in reversed(list(versions)):
        known = state.schemas[one.id]
        if known.language != schema.language:
            found.append(f"version {one.number} is {known.language}")
            continue
        other = parsed(state, known)
        pairs = []
        if level.startswith(("BACKWARD", "FULL")):
            pairs.append(("the new schema does not read", mine, other))
        if level.startswith(("FORWARD", "FULL")):
            pairs.append(("the new schema is not read by", other, mine))
        for what, reader, writer in pairs:
            told = _compared(reader, writer)
            found += [f"{what} version {one.number}: {fault}" for fault in told]
    return found


def _compared(reader: Any, writer: Any) -> list[str]:
    try:
        return languages.incompatibilities(reader, writer)
    except ValueError as fault:  # a way of reference that the validator knows and we do not
        return [f"it cannot be compared: {fault}"]


def _collect(state: State, schema: Schema, found: dict[str, str]) -> None:
    """The texts of all that a schema refers to, by name, the innermost first."""
    for reference in schema.references:
        if reference["name"] not in found:
            version = state.version(plain(reference["subject"]), reference["version"], deleted=True)
            other = state.schemas[version.id]
            _collect(state, other, found)
            found[reference["name"]] = other.text


def _reference(state: State, given: Any) -> dict[str, Any]:
    """A reference, with the number of its version. Raises ValueError."""
    if not isinstance(given, dict) or not {"name", "subject", "version"} <= given.keys():
        raise ValueError("a reference has a name, a subject and a version")
    subject = plain(str(given["subject"]))
    try:
        found = state.version(subject, number(str(given["version"])))
    except RegistryFault as fault:
        raise ValueError(f"reference {given['name']!r}: {fault.message}") from fault
    return {"name": str(given["name"]), "subject": subject, "version": found.number}


def _invalid(told: str) -> RegistryFault:
    return RegistryFault(f"Invalid schema, details: {told}", error_code=42201)


@functools.lru_cache(maxsize=512)
def _parse(language: str, text: str, references: tuple[tuple[str, str], ...]) -> Any:
    return languages.parse(language, text, dict(references))
