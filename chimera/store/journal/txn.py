"""One transaction of a shard: what its statements share, whatever the database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from zlib import crc32

#: of the shard's row: what a transaction reads of it, and what it writes back
READ = (
    "epoch, commits, chain, next_position, seq, open, tasks, scheduled, cancelling, dead,"
    " session, counter"
)
WRITTEN = (
    "commits", "chain", "next_position", "seq", "open", "tasks", "scheduled", "cancelling", "dead",
    "counter",
)  # fmt: skip


class Txn:
    """One transaction: the shard's row, known at its start and written at its end."""

    __slots__ = (
        "bytes", "cancelling", "chain", "commits", "counter", "dead", "epoch", "execute",
        "executemany", "next_position", "open", "scheduled", "seq", "session", "tasks", "touched",
    )  # fmt: skip

    def __init__(
        self,
        execute: Callable[..., Any],
        executemany: Callable[[str, Sequence[Any]], Any],
        row: Sequence[int],
    ) -> None:
        """`row`: the columns READ. The caller has seen to it that the epoch is the opener's."""
        self.execute = execute
        self.executemany = executemany
        (
            self.epoch, self.commits, self.chain, self.next_position, self.seq, self.open,
            self.tasks, self.scheduled, self.cancelling, self.dead, self.session, self.counter,
        ) = row  # fmt: skip
        self.bytes = 0
        self.touched = False

    def wrote(self, *parts: bytes) -> None:
        """Say that something was written; `parts` is what the commit's checksum covers of it."""
        self.touched = True
        for part in parts:
            self.chain = crc32(part, self.chain)

    def next_seq(self) -> int:
        self.seq = seq = int(self.seq) + 1
        return seq

    def written(self) -> tuple[int, ...]:
        """The values of the columns WRITTEN, for the last statement before COMMIT."""
        return (
            self.commits + 1, self.chain, self.next_position, self.seq, self.open, self.tasks,
            self.scheduled, self.cancelling, self.dead, self.counter,
        )  # fmt: skip
