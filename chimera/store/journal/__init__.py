"""The SQLite journal: one file a shard, opened by the leader that owns the shard."""

from chimera.store.journal.journal import SqliteJournal

__all__ = ["SqliteJournal"]
