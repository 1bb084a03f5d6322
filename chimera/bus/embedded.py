"""The bus of one machine: a log in one SQLite file, shared by all processes of a swarm there.

In the embedded default commands go straight into journals; this bus is what carries events to
those on the same machine who want them, and stands in for a broker in development. As durable as
a journal with `durability: os`: what is answered survives the death of every process.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from chimera.bus.limits import Limits
from chimera.bus.protocol import (
    Finding,
    Kind,
    Received,
    Record,
    Subscription,
    Topic,
    missing,
    too_large,
    wrong_partitions,
)
from chimera.bus.reader import LogSubscription
from chimera.errors import BusUnavailable, ChimeraError, PositionLost

_SCHEMA = """
CREATE TABLE IF NOT EXISTS topics (
  name TEXT PRIMARY KEY, partitions INTEGER NOT NULL, kind TEXT NOT NULL,
  retention_ms INTEGER NOT NULL, record_max INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ends (
  topic TEXT NOT NULL, partition INTEGER NOT NULL, earliest INTEGER NOT NULL, next INTEGER NOT NULL,
  PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (
  topic TEXT NOT NULL, partition INTEGER NOT NULL, position INTEGER NOT NULL, at INTEGER NOT NULL,
  key BLOB, headers BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (topic, partition, position));
CREATE TABLE IF NOT EXISTS groups (
  topic TEXT NOT NULL, name TEXT NOT NULL, partition INTEGER NOT NULL, position INTEGER NOT NULL,
  PRIMARY KEY (topic, name, partition)) WITHOUT ROWID;
"""
_HEADERS = msgspec.msgpack.Decoder(list[tuple[str, bytes]])
#: another process's record is seen after this, at the latest; one's own at once
_POLL_S = 0.02
#: a reader that meets a writer waits so long, then tries again until its own deadline
_BUSY_S = 1.0
#: events past their retention are dropped when something is published, so often
_SWEEP_S = 60.0


class EmbeddedBus:
    """A `chimera.bus.protocol.Bus` and the log that its subscriptions read."""

    seeks = True

    def __init__(self, directory: str, limits: Limits | None = None) -> None:
        self._path = Path(directory) / "bus.sqlite"
        self._limits = limits or Limits()
        self._lock = threading.Lock()  #: held while the connection is used
        self._made: sqlite3.Connection | None = None
        self._changed = threading.Condition()
        self._swept = time.monotonic()
        self._closed = False

    @contextmanager
    def _transaction(self, timeout: float, write: bool = False) -> Iterator[sqlite3.Connection]:
        """The connection inside a transaction; waits for other threads and processes."""
        end = time.monotonic() + timeout
        if not self._lock.acquire(timeout=max(0.0, timeout)):
            raise BusUnavailable(f"{self._path}: busy")
        try:
            connection = self._connection()
            left = max(1, int((end - time.monotonic()) * 1000))
            connection.execute(f"PRAGMA busy_timeout = {left}")
            connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.execute("ROLLBACK")
                raise
        except (sqlite3.Error, OSError) as error:
            raise BusUnavailable(f"{self._path}: {error}") from error
        finally:
            self._lock.release()

    def _connection(self) -> sqlite3.Connection:
        """Opened when it is first needed."""
        if self._closed:
            raise BusUnavailable("this bus is closed")
        if self._made is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            made = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            made.execute("PRAGMA busy_timeout = 1000")
            made.execute("PRAGMA journal_mode = WAL")
            made.execute("PRAGMA synchronous = NORMAL")
            made.executescript(_SCHEMA)
            self._made = made
        return self._made

    def publish(self, records: Sequence[Record], timeout: float) -> list[ChimeraError | None]:
        answers: list[ChimeraError | None] = []
        try:
            with self._transaction(timeout, write=True) as connection:
                answers += [_write(connection, record) for record in records]
                if time.monotonic() - self._swept > _SWEEP_S:
                    self._swept = time.monotonic()
                    _sweep(connection, int(time.time() * 1000))
        except ChimeraError as error:
            return [error] * len(records)
        with self._changed:
            self._changed.notify_all()
        return answers

    def subscribe(
        self, topic: Topic, group: str, start: Mapping[int, int] | None = None
    ) -> Subscription:
        return LogSubscription(self, topic, group, start, self._limits)

    def provision(self, topics: Sequence[Topic], timeout: float) -> list[str]:
        made = []
        with self._transaction(timeout, write=True) as connection:
            for topic in topics:
                wanted = (topic.partitions, topic.kind.value, topic.retention_ms,
                          topic.record_max_bytes)  # fmt: skip
                known = _topic(connection, topic.name)
                if known and known[0] != topic.partitions:
                    raise wrong_partitions(topic, known[0])
                if known == wanted:
                    continue
                connection.execute(
                    "INSERT OR REPLACE INTO topics VALUES (?, ?, ?, ?, ?)", (topic.name, *wanted)
                )
                connection.executemany(
                    "INSERT OR IGNORE INTO ends VALUES (?, ?, 0, 0)",
                    [(topic.name, partition) for partition in range(topic.partitions)],
                )
                made.append(topic.name)
        return made

    def trim(self, topic: str, below: Mapping[int, int], timeout: float) -> None:
        with self._transaction(timeout, write=True) as connection:
            for partition, position in below.items():
                _drop(connection, topic, partition, position)

    def lag(self, topic: Topic, group: str, timeout: float) -> dict[int, int]:
        with self._transaction(timeout) as connection:
            if _topic(connection, topic.name) is None:
                raise missing(topic.name)
            rows = connection.execute(
                "SELECT e.partition, e.next - max(e.earliest, coalesce(g.position, 0)) FROM ends e"
                " LEFT JOIN groups g ON g.topic = e.topic AND g.partition = e.partition"
                " AND g.name = ? WHERE e.topic = ?",
                (group, topic.name),
            )
            return dict(rows.fetchall())

    def check(
        self, topics: Sequence[Topic], timeout: float, production: bool = False
    ) -> list[Finding]:
        found = []
        with self._transaction(timeout) as connection:
            for topic in topics:
                known = _topic(connection, topic.name)
                if known is None:
                    problem = "the topic is not there"
                    found.append(Finding(True, topic.name, problem, "chimera bus provision"))
                elif known[0] != topic.partitions:
                    problem = f"{known[0]} partitions instead of {topic.partitions}"
                    remedy = wrong_partitions(topic, known[0]).message
                    found.append(Finding(True, topic.name, problem, remedy))
        if production:
            problem = "events are as safe as this machine's disk"
            found.append(Finding(False, str(self._path), problem, "set `bus` to a broker"))
        return found

    def earliest(self, topic: str, partition: int) -> int:
        with self._transaction(_BUSY_S) as connection:
            return _ends(connection, topic, partition)[0]

    def remembered(self, topic: str, group: str, partition: int) -> int | None:
        with self._transaction(_BUSY_S) as connection:
            row = connection.execute(
                "SELECT position FROM groups WHERE topic = ? AND name = ? AND partition = ?",
                (topic, group, partition),
            ).fetchone()
            return row[0] if row else None

    def remember(self, topic: str, group: str, watermarks: Mapping[int, int]) -> None:
        try:
            with self._transaction(_BUSY_S, write=True) as connection:
                connection.executemany(
                    "INSERT OR REPLACE INTO groups VALUES (?, ?, ?, ?)",
                    [(topic, group, partition, at) for partition, at in watermarks.items()],
                )
        except BusUnavailable:
            pass  # forgotten: the records come again

    def read(
        self, topic: str, partition: int, position: int, max_records: int, max_bytes: int
    ) -> list[Received]:
        with self._transaction(_BUSY_S) as connection:
            earliest, after = _ends(connection, topic, partition)
            if not earliest <= position <= after:
                raise PositionLost(
                    f"{topic}/{partition} holds {earliest} to {after}, not {position}",
                    partition=partition,
                    position=position,
                )
            rows = connection.execute(
                "SELECT position, value, key, headers, at FROM records"
                " WHERE topic = ? AND partition = ? AND position >= ? ORDER BY position LIMIT ?",
                (topic, partition, position, max_records),
            )
            found: list[Received] = []
            for at, value, key, headers, stamp in rows:
                max_bytes -= len(value)
                if found and max_bytes < 0:
                    break
                named = tuple((name, text) for name, text in _HEADERS.decode(headers))
                found.append(Received(topic, partition, at, value, key, named, stamp))
            return found

    def wait(self, timeout: float) -> None:
        with self._changed:
            self._changed.wait(min(timeout, _POLL_S))

    def close(self, timeout: float) -> None:
        self._closed = True
        with self._changed:
            self._changed.notify_all()
        if self._lock.acquire(timeout=timeout):
            try:
                if self._made is not None:
                    self._made.close()
            finally:
                self._lock.release()


def _topic(connection: sqlite3.Connection, name: str) -> tuple[int, str, int, int] | None:
    """Partitions, kind, retention and limit of a topic."""
    row: tuple[int, str, int, int] | None = connection.execute(
        "SELECT partitions, kind, retention_ms, record_max FROM topics WHERE name = ?", (name,)
    ).fetchone()
    return row


def _ends(connection: sqlite3.Connection, topic: str, partition: int) -> tuple[int, int]:
    """The earliest kept position and the next one. Raises TopicMissing."""
    row: tuple[int, int] | None = connection.execute(
        "SELECT earliest, next FROM ends WHERE topic = ? AND partition = ?", (topic, partition)
    ).fetchone()
    if row is None:
        raise missing(topic, partition)
    return row


def _write(connection: sqlite3.Connection, record: Record) -> ChimeraError | None:
    """Append a record, or say why not."""
    topic = _topic(connection, record.topic)
    if topic is None or not 0 <= record.partition < topic[0]:
        return missing(record.topic, record.partition)
    if refused := too_large(record, topic[3]):
        return refused
    _, position = _ends(connection, record.topic, record.partition)
    stamp = int(time.time() * 1000) if record.timestamp is None else record.timestamp
    connection.execute(
        "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?)",
        (record.topic, record.partition, position, stamp, record.key,
         msgspec.msgpack.encode(record.headers), record.value),
    )  # fmt: skip
    connection.execute(
        "UPDATE ends SET next = ? WHERE topic = ? AND partition = ?",
        (position + 1, record.topic, record.partition),
    )
    return None


def _drop(connection: sqlite3.Connection, topic: str, partition: int, below: int) -> None:
    """Forget records below a position; what is not written yet cannot be dropped."""
    earliest, after = _ends(connection, topic, partition)
    below = min(below, after)
    connection.execute(
        "DELETE FROM records WHERE topic = ? AND partition = ? AND position < ?",
        (topic, partition, below),
    )
    connection.execute(
        "UPDATE ends SET earliest = ? WHERE topic = ? AND partition = ?",
        (max(earliest, below), topic, partition),
    )


def _sweep(connection: sqlite3.Connection, now: int) -> None:
    """Drop events past their retention, up to the first that is not."""
    kept = connection.execute(
        "SELECT e.topic, e.partition, coalesce("
        "   (SELECT min(r.position) FROM records r WHERE r.topic = e.topic"
        "    AND r.partition = e.partition AND r.at >= ? - t.retention_ms), e.next)"
        " FROM ends e JOIN topics t ON t.name = e.topic WHERE t.kind = ?",
        (now, Kind.EVENTS.value),
    ).fetchall()
    for topic, partition, position in kept:
        _drop(connection, topic, partition, position)
