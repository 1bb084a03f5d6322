"""What became of every accepted task, read from the journals' tables and not through a swarm."""

from __future__ import annotations

import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from chimera import names
from chimera.frames import outcome
from chimera.sim import history
from chimera.sim.history import Stored
from chimera.store.journal import SqliteJournal, receipts, schema


def outcomes_by_count(data_dir: Path) -> Counter[int]:
    """How many accepted tasks have how many recorded outcomes, read from the journals' tables."""
    found: Counter[int] = Counter()
    for path in journals(data_dir):
        with closing(schema.connect(str(path), fsync=False, read_only=True)) as db:
            db.execute("BEGIN")  # one snapshot
            found += _outcomes_of(db.execute)
    return found


def outcomes_in_database(url: str, swarm: str, shards: int) -> Counter[int]:
    """The same of journals in PostgreSQL."""
    from chimera.store.postgres.link import Link  # its driver is an extra

    found: Counter[int] = Counter()
    for shard in range(shards):
        link = Link(url, "ledger", names.database_namespace(swarm, f"{shard:04d}"))
        with closing(link):
            link.script("BEGIN ISOLATION LEVEL REPEATABLE READ")
            found += _outcomes_of(link.execute)
    return found


def first_outcome(url: str, swarm: str, shard: int, since: int) -> int:
    """When a shard's first outcome after `since` was recorded, Unix milliseconds both.

    Raises LookupError if there is none.
    """
    from chimera.store.postgres.link import Link  # its driver is an extra

    with closing(Link(url, "ledger", names.database_namespace(swarm, f"{shard:04d}"))) as link:
        found = [
            link.execute(f"SELECT min(at) FROM {table} WHERE at > ?", (since,)).fetchone()[0]
            for table in ("outcomes", "singles")
        ]
    if known := [at for at in found if at is not None]:
        return int(min(known))
    raise LookupError(f"no outcome of shard {shard} after {since}")


def _outcomes_of(execute: Callable[..., Any]) -> Counter[int]:
    (size,) = execute("SELECT next_position FROM shard").fetchone()
    (count,) = execute("SELECT coalesce(sum(count), 0) FROM commands").fetchone()
    times = bytearray(size)
    accepted = bytearray(size)
    for position, tasks, receipt in execute("SELECT position, count, receipt FROM commands"):
        accepted[position : position + tasks] = b"\1" * tasks
        for skip in receipts.unpack(receipt)[0]:
            accepted[position + skip.index] = 0
            count -= 1
    for position, tasks, states in execute("SELECT position, count, states FROM outcomes"):
        for index, state in enumerate(states or bytes([outcome.SUCCEEDED]) * tasks):
            times[position + index] += state != outcome.OPEN
    for (position,) in execute("SELECT position FROM singles"):
        times[position] += 1
    found = Counter(n for n, is_task in zip(times, accepted, strict=True) if is_task)
    if sum(found.values()) != count:
        raise AssertionError(f"{found} does not add up to the {count} tasks that were accepted")
    return found


def kept(data_dir: Path, swarm: str) -> Iterator[Stored]:
    """What the journals know of each task, for the history checker.

    Read from copies: opening a journal is for its owner, which may go on meanwhile.
    """
    with tempfile.TemporaryDirectory() as directory:
        for path in journals(data_dir):
            copy = Path(directory, path.name)
            with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
                source.backup(target)
            shard = int(path.stem.rpartition("-")[2])
            journal = SqliteJournal(str(copy), shard, fsync=False, swarm_id=swarm, ballast_bytes=0)
            with closing(journal):
                yield from history.stored(journal)
            copy.unlink()


def journals(data_dir: Path) -> list[Path]:
    """The journals' files, by shard."""
    return sorted((data_dir / "journals").glob("shard-*.sqlite"))


def settled(data_dir: Path) -> Counter[int] | None:
    """`outcomes_by_count` once no accepted task is open any more; None before."""
    found = outcomes_by_count(data_dir)
    return None if found[0] else found
