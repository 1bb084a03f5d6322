"""The schema registry's log in the control store: entries that are appended, and never changed."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from chimera.store import engine as engines

_LOG = sa.table("registry_log", sa.column("number"), sa.column("at"), sa.column("entry"))


class RegistryLog:
    """What `chimera.contracts.registry.Registry` rests on. Raises Unavailable, StoreFull."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def read(self, after: int) -> Sequence[tuple[int, str]]:
        """(number, entry) of those with numbers above `after`, in order."""
        query = sa.select(_LOG.c.number, _LOG.c.entry).where(_LOG.c.number > after)
        with engines.reading(self._engine) as connection:
            rows = connection.execute(query.order_by(_LOG.c.number)).all()
        return [(row.number, row.entry) for row in rows]

    def append(self, number: int, entry: str, now: int) -> bool:
        """Keep an entry; False if there is one with that number. `now` is in Unix ms."""
        try:
            with engines.writing(self._engine) as connection:
                connection.execute(_LOG.insert().values(number=number, at=now, entry=entry))
        except sa.exc.IntegrityError:
            return False
        return True
