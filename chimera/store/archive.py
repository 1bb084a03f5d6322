"""Settled tasks as Parquet files in an object store, for whoever asks later.

A file a range of a shard's recorded rows: `outcomes/shard=0003/FIRST-LAST.parquet`. Which range is
written next is in the journal before anything of it is: a former owner that wakes up late writes
the same bytes under the same name again, and no task is in two files.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

from chimera.errors import CorruptFrame, InvalidRequest
from chimera.frames import outcome
from chimera.store.blobs import Blobs
from chimera.store.protocol import Archived, Journal

#: consumers of a journal's outbox: what is in files, and what is to be in the next one
DONE = "archive"
NEXT = "archive-next"
#: recorded rows, tasks and bytes of outcomes in one file, about
ROWS_MAX = 5_000
TASKS_MAX = 50_000
BYTES_MAX = 32 << 20
#: rows that are looked at together; each is a frame of up to a thousand tasks
_ROWS = 100

_TIMES = ("accepted_at", "settled_at")


def schema() -> Any:
    """The columns of a file. Raises InvalidRequest if pyarrow is missing."""
    pa = _arrow()
    text, time = pa.string(), pa.timestamp("ms", tz="UTC")
    return pa.schema(
        [
            ("shard", pa.int32()), ("seq", pa.int64()), ("task_id", text), ("tenant", text),
            ("type", text), ("key", text), ("priority", pa.int8()), ("tags", pa.list_(text)),
            ("state", text), ("attempts", pa.int32()), ("accepted_at", time),
            ("settled_at", time), ("replay_of", text), ("payload", text),
            ("payload_is_claim", pa.bool_()), ("body", text), ("body_is_claim", pa.bool_()),
        ]
    )  # fmt: skip


def _arrow() -> Any:
    try:
        import pyarrow as pa
    except ImportError as error:
        raise InvalidRequest("the archive needs pyarrow: pip install 'chimera[archive]'") from error
    return pa


class Archive:
    """An archive at a URL, as an object store has it. Safe to use from several threads."""

    def __init__(self, url: str) -> None:
        """Raises InvalidRequest for a URL that names no object store, or without pyarrow."""
        self._schema = schema()
        self._store = Blobs(url)

    def step(self, journal: Journal, now: int) -> int:
        """Archive some of what is recorded and not archived yet; how many tasks.

        Raises StaleEpoch, Unavailable: then the next owner, or the next call, goes on.
        """
        done, upto = journal.published(DONE), journal.published(NEXT)
        # somebody still reads, though the archive may be away just now: nothing is swept (P10)
        journal.publish(DONE, done, now)
        if upto <= done:
            upto = _end(journal, done)
            journal.publish(NEXT, upto, now)
        tasks: Sequence[Archived] = ()
        if upto > done:
            tasks = journal.export(done, upto, ROWS_MAX + _ROWS)
            name = _name(journal.shard, done + 1, upto)
            self._store.write(name, self._file(journal.shard, tasks))
            journal.publish(DONE, upto, now)
        return len(tasks)

    def _file(self, shard: int, tasks: Sequence[Archived]) -> bytes:
        import pyarrow.parquet as parquet

        pa = _arrow()
        columns: dict[str, Any] = {"shard": [shard] * len(tasks)}
        for index, name in enumerate(Archived._fields):
            values: list[Any] = [task[index] for task in tasks]
            if name in ("payload", "body"):
                # Parquet's text must be UTF-8, and payloads of others need not be
                values = [v and v.decode(errors="replace") for v in values]
            columns[name] = values
        table = pa.table(columns, schema=self._schema)
        out = io.BytesIO()
        parquet.write_table(table, out, compression="zstd")
        return out.getvalue()

    def files(self) -> list[str]:
        """Names of all files, in order."""
        return sorted(one for one, _ in self._store.list("outcomes/") if one.endswith(".parquet"))

    def tables(self) -> Iterator[Any]:
        """Each file as a pyarrow.Table. Raises CorruptFrame, Unavailable."""
        import pyarrow.parquet as parquet

        for name in self.files():
            try:
                yield parquet.read_table(io.BytesIO(self._store.read(name)))
            except _arrow().ArrowInvalid as error:
                raise CorruptFrame(f"{name} in the archive is no Parquet file: {error}") from error


def abandon(journal: Journal) -> None:
    """Hold nothing back for an archive that is not wanted any more."""
    for consumer in (DONE, NEXT):
        if journal.published(consumer):
            journal.forget(consumer)


def _end(journal: Journal, done: int) -> int:
    """The number of the last row that fits into the next file."""
    upto, rows, tasks, size = done, 0, 0, 0
    while rows < ROWS_MAX and tasks < TASKS_MAX and size < BYTES_MAX:
        entries = journal.outbox(upto, _ROWS)
        if not entries:
            break
        upto = entries[-1].seq
        rows += len(entries)
        for entry in entries:
            tasks += 1 if entry.frame is None else outcome.header(entry.frame).count
            size += len(entry.frame or b"")
    return upto


def _name(shard: int, first: int, last: int) -> str:
    return f"outcomes/shard={shard:04d}/{first:016d}-{last:016d}.parquet"
