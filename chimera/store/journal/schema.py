"""Tables of a journal, and how a connection to one is set up.

`commands` and `outcomes` are logs: a row a frame, never changed but by the sweep. `open_frames` is
the queue: what a new owner reads, without a blob. All else holds only what deviates. An outcome row
never crosses the bounds of its command frame, so a frame's outcomes are one range of positions.
"""

from __future__ import annotations

import os
import sqlite3
from urllib.parse import quote

from chimera.errors import ChimeraError

#: what a blob of ~100 KB likes best: fewer overflow pages, 30 % less CPU than 4 KiB (measured)
PAGE_BYTES = 16 * 1024
#: a writer holds the lock for milliseconds; one that holds it longer is stopped, and no wait helps
BUSY_TIMEOUT_S = 0.25

_V1 = """
CREATE TABLE shard (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  shard INTEGER NOT NULL,
  swarm TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  owner BLOB,
  commits INTEGER NOT NULL,    -- number of the last commit, and a checksum over all of them (P4)
  chain INTEGER NOT NULL,
  next_position INTEGER NOT NULL,
  seq INTEGER NOT NULL,        -- last number given to an outcome row (P10)
  open INTEGER NOT NULL,       -- tasks accepted and not settled
  tasks INTEGER NOT NULL,      -- tasks ever accepted
  scheduled INTEGER NOT NULL,  -- rows of schedule
  cancelling INTEGER NOT NULL, -- rows of cancels whose task is open
  dead INTEGER NOT NULL,       -- rows of dead
  session INTEGER NOT NULL,    -- the journal's own producer, for replays (P17)
  counter INTEGER NOT NULL
);
CREATE TABLE commands (
  position INTEGER PRIMARY KEY, -- of the first task
  count INTEGER NOT NULL,
  tenant TEXT NOT NULL,
  session INTEGER NOT NULL,     -- 64 bits, signed
  first INTEGER NOT NULL,
  type TEXT NOT NULL,
  priority INTEGER NOT NULL,
  flags INTEGER NOT NULL,
  at INTEGER NOT NULL,          -- accepted
  hash BLOB NOT NULL,
  receipt BLOB,                 -- what was skipped and parked; null: nothing
  replay_of TEXT,
  swept INTEGER,                -- when the frame was removed; the ids outlive it (P12)
  frame BLOB
);
CREATE UNIQUE INDEX commands_id ON commands (tenant, session, first);
CREATE INDEX commands_swept ON commands (swept) WHERE swept IS NOT NULL;
CREATE TABLE open_frames (
  position INTEGER PRIMARY KEY,
  count INTEGER NOT NULL,
  open INTEGER NOT NULL,        -- tasks without outcome, parked ones included
  bytes INTEGER NOT NULL,
  flags INTEGER NOT NULL,
  type TEXT NOT NULL,
  tenant TEXT NOT NULL,
  priority INTEGER NOT NULL,
  skips BLOB                    -- a byte a task, not zero if it was skipped; null: none
);
CREATE TABLE outcomes (
  seq INTEGER PRIMARY KEY,
  position INTEGER NOT NULL,
  count INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  at INTEGER NOT NULL,
  states BLOB,                  -- null: all succeeded
  frame BLOB NOT NULL
);
CREATE INDEX outcomes_position ON outcomes (position);
CREATE TABLE singles (
  position INTEGER PRIMARY KEY,
  seq INTEGER NOT NULL,
  state INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  at INTEGER NOT NULL,
  body BLOB NOT NULL
);
CREATE UNIQUE INDEX singles_seq ON singles (seq);
CREATE TABLE dead (
  position INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  reason TEXT NOT NULL,
  replayed INTEGER              -- position of the task that replays it
);
CREATE TABLE schedule (
  position INTEGER PRIMARY KEY,
  due INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  holds_key INTEGER NOT NULL,
  key TEXT,
  type TEXT NOT NULL,
  tenant TEXT NOT NULL,
  priority INTEGER NOT NULL,
  error BLOB NOT NULL,
  frame BLOB NOT NULL
);
CREATE INDEX schedule_due ON schedule (due, position);
CREATE INDEX schedule_holding ON schedule (position) WHERE holds_key = 1;
CREATE TABLE cancels (
  position INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  reason TEXT NOT NULL,
  open INTEGER NOT NULL
);
CREATE INDEX cancels_open ON cancels (position) WHERE open = 1;
CREATE TABLE idempotency (
  scope BLOB PRIMARY KEY,       -- 128-bit hash of tenant, type, ordering key, idempotency key
  payload BLOB NOT NULL,        -- 128-bit hash
  position INTEGER NOT NULL,
  at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX idempotency_position ON idempotency (position, at);
CREATE TABLE memos (
  position INTEGER NOT NULL,
  step TEXT NOT NULL,
  value BLOB NOT NULL,
  PRIMARY KEY (position, step)
) WITHOUT ROWID;
CREATE TABLE snapshots (
  tenant TEXT NOT NULL,
  type TEXT NOT NULL,
  key TEXT NOT NULL,
  position INTEGER NOT NULL,    -- of the task that left it
  value BLOB NOT NULL,
  PRIMARY KEY (tenant, type, key)
) WITHOUT ROWID;
CREATE TABLE tags (
  tag TEXT NOT NULL,
  position INTEGER NOT NULL,
  PRIMARY KEY (tag, position)
) WITHOUT ROWID;
CREATE TABLE consumers (
  name TEXT PRIMARY KEY,
  seq INTEGER NOT NULL,         -- has read up to here
  at INTEGER NOT NULL           -- when it last said so
) WITHOUT ROWID;
"""

_V2 = """
CREATE TABLE sources (
  name TEXT PRIMARY KEY,
  position INTEGER NOT NULL     -- the next one to read there
) WITHOUT ROWID;
"""

#: what did not end well is rare: it is found without a look at the rest
_V3 = """
CREATE INDEX singles_failed ON singles (state, position) WHERE state > 1;
CREATE INDEX outcomes_failed ON outcomes (position) WHERE states IS NOT NULL;
"""

#: one script a version; `PRAGMA user_version` counts those that were run
STEPS: tuple[str, ...] = (_V1, _V2, _V3)


def connect(path: str, *, fsync: bool, read_only: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode; the caller says BEGIN and COMMIT."""
    # a reader must not make the file anew if somebody took it away
    mode = "rw" if read_only else "rwc"
    db = sqlite3.connect(
        f"file:{quote(path)}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    # On a file that is not empty these would do nothing but wait for its writer's lock. Whoever
    # opens a journal must be able to read who owns it, even if that owner is stopped.
    if not db.execute("PRAGMA page_count").fetchone()[0]:
        db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA journal_mode = WAL").fetchall()
    db.execute(f"PRAGMA synchronous = {'FULL' if fsync else 'NORMAL'}")
    db.execute("PRAGMA temp_store = MEMORY")
    # zeroing freed overflow pages would write each swept frame once more
    db.execute("PRAGMA secure_delete = FAST").fetchall()
    # the committer checkpoints itself: an error of SQLite's own checkpoint is swallowed
    db.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
    db.execute("PRAGMA journal_size_limit = 16777216").fetchall()
    db.execute(f"PRAGMA cache_size = {-2048 if read_only else -8192}")
    if read_only:
        db.execute("PRAGMA query_only = ON")
    return db


def version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def create(db: sqlite3.Connection, shard: int, swarm_id: str) -> None:
    """Make the tables, unless they are there. Raises ChimeraError for another's journal."""
    if not version(db):
        db.execute("BEGIN IMMEDIATE")
        try:
            if not version(db):  # another opener may have been faster
                upgrade(db)
                session = int.from_bytes(os.urandom(8), "little", signed=True)
                db.execute(
                    "INSERT INTO shard VALUES (1, ?, ?, 0, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, ?, 0)",
                    (shard, swarm_id, session),
                )
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
    found = version(db)
    if found > len(STEPS):
        raise ChimeraError(
            f"the journal was written by a newer Chimera (version {found}, not {len(STEPS)})"
        )
    kept_shard, kept_swarm = db.execute("SELECT shard, swarm FROM shard").fetchone()
    if kept_shard != shard or (swarm_id and kept_swarm and kept_swarm != swarm_id):
        raise ChimeraError(
            f"the journal belongs to shard {kept_shard} of swarm {kept_swarm!r}, "
            f"not to shard {shard} of swarm {swarm_id!r}"
        )


def upgrade(db: sqlite3.Connection) -> None:
    """Run the steps that are missing, inside the caller's transaction."""
    for script in STEPS[version(db) :]:
        for statement in _statements(script):
            db.execute(statement)
    db.execute(f"PRAGMA user_version = {len(STEPS)}")


def _statements(script: str) -> list[str]:
    # executescript() would commit the caller's transaction
    lines = [line.split("--")[0] for line in script.splitlines()]
    return [part for part in "\n".join(lines).split(";") if part.strip()]
