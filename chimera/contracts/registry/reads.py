"""What may be asked of a registry: questions to a `State`, answered as the REST API's bodies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chimera.contracts import languages
from chimera.contracts.registry import rules
from chimera.contracts.registry.rules import number, plain
from chimera.contracts.registry.state import GLOBAL, State, Version, no_subject
from chimera.errors import RegistryFault

#: the prefix of every context, the default one too
EVERY_CONTEXT = ":*:"


def types(_: State) -> list[str]:
    """The languages of schemas."""
    return list(languages.LANGUAGES)


def subjects(
    state: State, prefix: str = "", deleted: bool = False, only: bool = False
) -> list[str]:
    """Names that begin with `prefix`: of what lives, of the `deleted` too, of those `only`."""
    prefix = "" if prefix == EVERY_CONTEXT else plain(prefix)
    names = [name for name in sorted(state.subjects) if name.startswith(prefix)]
    if only:
        return [name for name in names if not state.live(name)]
    return [name for name in names if deleted or state.live(name)]


def contexts(state: State) -> list[str]:
    """Contexts that have subjects, and the default one."""
    return sorted({rules.DEFAULT_CONTEXT, *map(rules.context, state.subjects)})


def versions(state: State, subject: str, deleted: bool = False, only: bool = False) -> list[int]:
    """Numbers of a subject's versions. Raises RegistryFault 40401."""
    found = state.live(plain(subject), deleted=deleted or only)
    if not found:
        raise no_subject(subject)
    return [one.number for one in found if one.deleted or not only]


def version(state: State, subject: str, version: str, deleted: bool = False) -> dict[str, Any]:
    """A version with its schema; `version` is a number or `latest`."""
    return told(state, state.version(plain(subject), number(version), deleted=deleted))


def referenced_by(state: State, subject: str, version: str) -> list[int]:
    """Ids of the schemas that refer to a version."""
    found = state.version(plain(subject), number(version))
    return state.users(found.subject, found.number)


def with_metadata(
    state: State, subject: str, wanted: Mapping[str, str], deleted: bool = False
) -> dict[str, Any]:
    """The newest version whose metadata have these properties. Raises RegistryFault 40403."""
    found = state.live(plain(subject), deleted=deleted)
    if not found:
        raise no_subject(subject)
    for one in reversed(found):
        metadata = state.schemas[one.id].metadata or {}
        if wanted.items() <= (metadata.get("properties") or {}).items():
            return told(state, one)
    raise RegistryFault("Schema with these metadata not found", error_code=40403)


def every(
    state: State, prefix: str = "", deleted: bool = False, latest: bool = False
) -> list[dict[str, Any]]:
    """Every version of the subjects that begin with `prefix`, or the `latest` of each."""
    found: list[Version] = []
    for subject in subjects(state, prefix, deleted):
        mine = state.live(subject, deleted=deleted)
        found += mine[-1:] if latest else mine
    return [told(state, one) for one in found]


def by_id(state: State, id: int) -> dict[str, Any]:
    """The schema of an id. Raises RegistryFault 40403."""
    if id not in state.schemas:
        raise RegistryFault(f"Schema {id} not found", error_code=40403)
    return {**state.schemas[id].to_dict(), "guid": state.schemas[id].guid}


def by_guid(state: State, guid: str) -> dict[str, Any]:
    """The schema of a GUID, with its id. Raises RegistryFault 40403."""
    for id, schema in state.schemas.items():
        if schema.guid == guid.lower():
            return {**schema.to_dict(), "guid": schema.guid, "id": id}
    raise RegistryFault(f"Schema {guid} not found", error_code=40403)


def versions_of(
    state: State, id: int, subject: str = "", deleted: bool = False
) -> list[dict[str, Any]]:
    """Where a schema is used: subjects and versions. Raises RegistryFault 40403."""
    by_id(state, id)
    return [
        {"subject": one.subject, "version": one.number}
        for one in state.versions(deleted=deleted)
        if one.id == id and (not subject or one.subject == plain(subject))
    ]


def lookup(
    state: State,
    subject: str,
    body: Mapping[str, Any],
    normalize: bool = False,
    deleted: bool = False,
) -> dict[str, Any]:
    """The version of a subject that has this schema. Raises RegistryFault 40401, 40403."""
    found = state.live(plain(subject), deleted=deleted)
    if not found:
        raise no_subject(subject)
    schema = rules.schema_of(state, body, normalize)
    for one in reversed(found):
        if rules.equal(state.schemas[one.id], schema, normalize):
            return told(state, one)
    raise RegistryFault("Schema not found", error_code=40403)


def check(
    state: State,
    subject: str,
    version: str,
    body: Mapping[str, Any],
    normalize: bool = False,
    verbose: bool = False,
) -> dict[str, Any]:
    """Whether a schema may follow a version, or (empty) those that the subject's level names."""
    name = plain(subject)
    schema = rules.schema_of(state, body, normalize)
    level = state.level(name)
    others = (
        [state.version(name, number(version))]
        if version
        else rules.predecessors(state, name, level)
    )
    faults = rules.faults(state, level, schema, others)
    return {"is_compatible": not faults, **({"messages": faults} if verbose else {})}


def level(state: State, subject: str = GLOBAL, default: bool = False) -> str:
    """The global level, or a subject's own. Raises RegistryFault 40408 if it has none."""
    name = plain(subject)
    if name != GLOBAL and name not in state.levels and not default:
        raise RegistryFault(
            f"Subject '{subject}' does not have subject-level compatibility configured",
            error_code=40408,
        )
    return state.level(name)


def mode(state: State, subject: str = GLOBAL, default: bool = False) -> str:
    """The global mode, or a subject's own. Raises RegistryFault 40409 if it has none."""
    name = plain(subject)
    if name != GLOBAL and name not in state.modes and not default:
        raise RegistryFault(
            f"Subject '{subject}' does not have subject-level mode configured", error_code=40409
        )
    return state.mode(name)


def told(state: State, one: Version) -> dict[str, Any]:
    """A version as the REST API writes it."""
    schema = state.schemas[one.id]
    found = {"subject": one.subject, "id": one.id, "guid": schema.guid, "version": one.number}
    return {**found, **schema.to_dict(), **({"deleted": True} if one.deleted else {})}
