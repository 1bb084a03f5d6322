"""What may be changed in a registry: each decides on a `State`, and returns (entry, answer).

The entry is None where there is nothing to change. Refusals are RegistryFault.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from chimera.contracts.registry import reads, rules
from chimera.contracts.registry.rules import LEVELS, MODES, checked, number, plain
from chimera.contracts.registry.state import GLOBAL, Schema, State, no_subject
from chimera.errors import RegistryFault

Decision: TypeAlias = tuple[dict[str, Any] | None, Any]


def register(
    state: State, subject: str, body: Mapping[str, Any], normalize: bool = False
) -> Decision:
    """Add a version, unless the subject has one with this schema: `id`, `version`, `guid`.

    Refused with 42201 for what is no schema, 409 if it is incompatible, 42205 in this mode.
    """
    name = checked(subject)
    _writable(state, name)
    schema = rules.schema_of(state, body, normalize)
    for one in reversed(state.live(name)):
        if rules.equal(state.schemas[one.id], schema, normalize):
            return None, _registered(one.id, one.number, state.schemas[one.id])
    imports = state.mode(name) == "IMPORT"
    id, version = _positive(body, "id"), _positive(body, "version")
    if id and not imports:
        raise RegistryFault(f"Subject {subject} is not in import mode", error_code=42205)
    if imports and version in state.subjects.get(name, {}):
        raise RegistryFault(f"Version {version} is there already", error_code=42205)
    if not imports:
        _hold(state, name, schema)
    return _addition(state, name, (imports and version) or 0, id, schema)


def publish(state: State, subject: str, body: Mapping[str, Any], id: int) -> Decision:
    """Add a version of our own with the id that it has everywhere, unless it is there."""
    schema = rules.schema_of(state, body, False)
    for one in state.live(subject):
        if one.id == id and state.schemas[id] == schema:
            return None, _registered(id, one.number, schema)
    return _addition(state, subject, 0, id, schema)


def delete_subject(state: State, subject: str, permanent: bool = False) -> Decision:
    """Delete a subject's versions; `permanent` only what was deleted before."""
    name = plain(subject)
    everything, live = state.live(name, deleted=True), state.live(name)
    if not everything:
        raise no_subject(subject)
    if permanent and live:
        raise RegistryFault(
            f"Subject '{subject}' was not deleted first before being permanently deleted",
            error_code=40405,
        )
    if not permanent and not live:
        raise RegistryFault(
            f"Subject '{subject}' was soft deleted. Set permanent=true to delete permanently",
            error_code=40404,
        )
    numbers = [one.number for one in (everything if permanent else live)]
    return _deletion(state, name, numbers, permanent), numbers


def delete_version(state: State, subject: str, version: str, permanent: bool = False) -> Decision:
    """Delete a version; `permanent` only one that was deleted before."""
    name, wanted = plain(subject), number(version)
    one = state.version(name, wanted, deleted=permanent or wanted is not None)
    what = f"Subject '{subject}' Version {one.number} was"
    if permanent and not one.deleted:
        raise RegistryFault(
            f"{what} not deleted first before being permanently deleted", error_code=40407
        )
    if not permanent and one.deleted:
        raise RegistryFault(
            f"{what} soft deleted. Set permanent=true to delete permanently", error_code=40406
        )
    return _deletion(state, name, [one.number], permanent), one.number


def set_level(state: State, level: Any, subject: str = GLOBAL) -> Decision:
    """Hold what is registered from now on to a level. Refused with 42203 for what is none."""
    if level not in LEVELS:
        told = f"Invalid compatibility level. Valid values are {', '.join(LEVELS)}"
        raise RegistryFault(told, error_code=42203)
    return _setting("config", "level", subject, level), level


def unset_level(state: State, subject: str = GLOBAL) -> Decision:
    """Back to the global level, or the default; the answer is the one that was."""
    was = reads.level(state, subject)
    return _setting("config", "level", subject, None), was


def set_mode(state: State, mode: Any, subject: str = GLOBAL, force: bool = False) -> Decision:
    """Say what may be done. Refused with 42204 for no mode, 42205: IMPORT where schemas are."""
    if mode not in MODES:
        told = f"Invalid mode. Valid values are {', '.join(MODES)}"
        raise RegistryFault(told, error_code=42204)
    name = plain(subject)
    held = state.live(name) if name else reads.subjects(state)
    if mode == "IMPORT" and held and not force:
        raise RegistryFault("Cannot import since found existing subjects", error_code=42205)
    return _setting("mode", "mode", subject, mode), mode


def unset_mode(state: State, subject: str = GLOBAL) -> Decision:
    """Back to the global mode, or the default; the answer is the one that was."""
    was = reads.mode(state, subject)
    return _setting("mode", "mode", subject, None), was


def _hold(state: State, subject: str, schema: Schema) -> None:
    """Raise RegistryFault 409 for a schema that the subject's level forbids."""
    level = state.level(subject)
    faults = rules.faults(state, level, schema, rules.predecessors(state, subject, level))
    if faults:
        raise RegistryFault(
            "Schema being registered is incompatible with an earlier schema for subject "
            f'"{subject}", details: {faults} (compatibility: {level})',
            error_code=409,
        )


def _addition(state: State, subject: str, version: int, id: int, schema: Schema) -> Decision:
    """A version with this number and id; 0 for the next ones."""
    id = id or state.ids.get(schema.identity) or state.id_max + 1
    if id in state.schemas and state.schemas[id] != schema:
        raise RegistryFault(f"Schema {id} is there already, and another", error_code=42205)
    version = version or state.numbers.get(subject, 0) + 1
    entry = {"op": "register", "subject": subject, "version": version, "id": id}
    return {**entry, "schema": schema.to_dict()}, _registered(id, version, schema)


def _deletion(
    state: State, subject: str, numbers: Iterable[int], permanent: bool
) -> dict[str, Any]:
    _writable(state, subject)
    for one in numbers:
        users = state.users(subject, one)
        if users:
            raise RegistryFault(
                f"One or more references exist to the schema {subject} version {one}: ids {users}",
                error_code=42206,
            )
    return {"op": "delete", "subject": subject, "versions": [*numbers], "permanent": permanent}


def _writable(state: State, subject: str) -> None:
    if state.mode(subject) in ("READONLY", "READONLY_OVERRIDE"):
        raise RegistryFault(f"Subject {subject} is in read-only mode", error_code=42205)


def _positive(body: Mapping[str, Any], name: str) -> int:
    """A number in a request's body; 0 if there is none."""
    found = body.get(name)
    return found if isinstance(found, int) and found > 0 else 0


def _registered(id: int, version: int, schema: Schema) -> dict[str, Any]:
    return {"id": id, "version": version, "guid": schema.guid, **schema.to_dict()}


def _setting(op: str, what: str, subject: str, value: str | None) -> dict[str, Any]:
    return {"op": op, "subject": checked(subject) if subject else GLOBAL, what: value}
