"""Tables of a journal in PostgreSQL: those of SQLite's, in a schema (a namespace) a shard."""

from __future__ import annotations

import os
import re

from chimera.errors import ChimeraError
from chimera.store.journal import schema as sqlite
from chimera.store.postgres.link import Link

_EXTRA = """
ALTER TABLE shard ADD COLUMN version BIGINT NOT NULL DEFAULT 0;
-- drawn anew by each opener: whose compare-and-swap it was whose answer got lost
ALTER TABLE shard ADD COLUMN taker BIGINT;
-- set by an owner that found less than it had been promised, e.g. after a failover to a replica
ALTER TABLE shard ADD COLUMN lost BIGINT NOT NULL DEFAULT 0;
ALTER TABLE shard SET (fillfactor = 20);
ALTER TABLE open_frames SET
  (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
-- SQLite's, as far as it is asked for
CREATE FUNCTION instr(bytea, bytea) RETURNS boolean LANGUAGE sql IMMUTABLE
  AS 'SELECT position($2 in $1) > 0';
"""
#: of bytes that are frames: packed by the client where that pays
_FRAMES = ("commands", "outcomes", "schedule")


def _translated(step: str) -> str:
    step = re.sub(r"--[^\n]*", "", step)
    for theirs, ours in (
        ("INTEGER", "BIGINT"), ("BLOB", "BYTEA"), ("WITHOUT ROWID", ""),
    ):  # fmt: skip
        step = step.replace(theirs, ours)
    return step


#: one script a version, the same numbers as SQLite's
STEPS = (
    _translated(sqlite.STEPS[0])
    + _EXTRA
    + "".join(f"ALTER TABLE {table} ALTER frame SET STORAGE EXTERNAL;" for table in _FRAMES),
    *(_translated(step) for step in sqlite.STEPS[1:]),
)


def create(link: Link, namespace: str, shard: int, swarm: str) -> bool:
    """Make the tables, unless they are there. Raises ChimeraError for another's journal.

    Returns whether an owner of the journal found it behind what was acknowledged.
    """
    if not _exists(link, namespace):
        link.script("BEGIN")
        link.execute("SELECT pg_advisory_xact_lock(hashtext(?))", (namespace,)).fetchone()
        if not _exists(link, namespace):  # another opener may have been faster
            link.script(f'CREATE SCHEMA "{namespace}"')
            for step in STEPS:
                link.script(step)
            session = int.from_bytes(os.urandom(8), "little", signed=True)
            link.execute(
                "INSERT INTO shard VALUES (1, ?, ?, 0, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, ?, 0, ?)",
                (shard, swarm, session, len(STEPS)),
            )
        link.script("COMMIT")
    version, kept_shard, kept_swarm, lost = link.execute(
        "SELECT version, shard, swarm, lost FROM shard"
    ).fetchone()
    if version > len(STEPS):
        raise ChimeraError(
            f"the journal was written by a newer Chimera (version {version}, not {len(STEPS)})"
        )
    if kept_shard != shard or (swarm and kept_swarm and kept_swarm != swarm):
        raise ChimeraError(
            f"the journal {namespace} belongs to shard {kept_shard} of swarm {kept_swarm!r}, "
            f"not to shard {shard} of swarm {swarm!r}"
        )
    return bool(lost)


def _exists(link: Link, namespace: str) -> bool:
    query = "SELECT to_regclass(cast(? as text))"
    return link.execute(query, (f'"{namespace}".shard',)).fetchone()[0] is not None


def upgrade(link: Link) -> None:
    """Run the steps that are missing, inside the caller's transaction."""
    (version,) = link.execute("SELECT version FROM shard").fetchone()
    for step in STEPS[version:]:
        link.script(step)
    if version < len(STEPS):
        link.execute("UPDATE shard SET version = ?", (len(STEPS),))
