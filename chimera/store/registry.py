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
        """Keep an entry; False if its number is not the next. `now` is in Unix ms."""
        with engines.writing(self._engine) as connection:  # alone, so that the newest stays it
            newest = connection.scalar(sa.select(sa.func.max(_LOG.c.number))) or 0
            if number != newest + 1:
                return False
            connection.execute(_LOG.insert().values(number=number, at=now, entry=entry))
        return True
