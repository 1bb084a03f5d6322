"""PostgreSQL: a shard's journal in a schema of its own, for leaders on any machine."""

from chimera.store.postgres.journal import PostgresJournal

__all__ = ["PostgresJournal"]
