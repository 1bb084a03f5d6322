"""A registry in memory that knows the published schemas: for tests, and where there is no other."""

from __future__ import annotations

from uuid import UUID

from chimera.contracts import schemas
from chimera.errors import UnknownSchema


class OwnSchemas:
    """Ids from 1 by order of registration, the published schemas first; see `Schemas`."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        for versions in schemas.published().values():
            for one in versions:
                self.register(one.subject, one.text)

    def register(self, subject: str, schema: str) -> int:
        """The id of a schema, which is registered if it is new."""
        if schema not in self._texts:
            self._texts.append(schema)
        return self._texts.index(schema) + 1

    def schema(self, id: int | UUID) -> str:
        """The schema of an id. Raises UnknownSchema."""
        if isinstance(id, int) and 0 < id <= len(self._texts):
            return self._texts[id - 1]
        raise UnknownSchema(f"no schema has the id {id}", id=str(id))
