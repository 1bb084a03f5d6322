"""The ids of our own schemas: no registry need be asked for them; others are looked up."""

from __future__ import annotations

import functools
from collections.abc import Callable
from uuid import UUID

from chimera.contracts import languages, schemas
from chimera.contracts.registry.state import Schema
from chimera.errors import UnknownSchema


class OwnSchemas:
    """What a codec needs where the registry is the swarm's own; see `Schemas`.

    `find` gives the schema of an id or GUID that is none of ours, or raises UnknownSchema or
    Unavailable; without it there is none.
    """

    def __init__(self, find: Callable[[int | UUID], str] | None = None) -> None:
        self._find = find

    def register(self, subject: str, schema: str) -> int:
        """The id of a schema of ours. Raises UnknownSchema for another."""
        for id, text in _texts().items():
            if text == schema:
                return id
        raise UnknownSchema(f"{subject}: not a published schema")

    def schema(self, id: int | UUID) -> str:
        """The schema of an id or GUID. Raises UnknownSchema, and what `find` raises."""
        known = _guids().get(id, 0) if isinstance(id, UUID) else id
        if known in _texts():
            return _texts()[known]
        if self._find is None:
            raise UnknownSchema(f"no schema has the id {id}", id=str(id))
        return self._find(id)


@functools.cache
def _texts() -> dict[int, str]:
    return {one.id: one.text for versions in schemas.published().values() for one in versions}


@functools.cache
def _guids() -> dict[UUID, int]:
    """Ids by GUID, as a registry of ours derives it."""
    return {
        UUID(Schema(languages.AVRO, languages.canonical(languages.AVRO, text)).guid): id
        for id, text in _texts().items()
    }
