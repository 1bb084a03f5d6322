"""A shard's journal in PostgreSQL, as its owner sees it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

import msgspec

from chimera import names
from chimera.errors import ChimeraError, StaleEpoch
from chimera.store.journal import recovery, sweep
from chimera.store.journal.verbs import SqlJournal
from chimera.store.postgres import faults, schema
from chimera.store.postgres.commit import Committer, evict
from chimera.store.postgres.faults import Interrupted
from chimera.store.postgres.link import Link, shown
from chimera.store.postgres.readers import Readers
from chimera.swarm.reports import Owner

_DAY_S = 86400.0
#: a former owner that holds the row for longer loses its session, milliseconds
_TAKE_LOCK_MS = 250
#: what a server that is set to forget commits on a crash is told: that would break G1, for a crash
#: of one session's process makes the server restart all of them
_SYNC = (
    "SELECT set_config('synchronous_commit', 'on', false)"
    " WHERE current_setting('synchronous_commit') = 'off'"
)


class PostgresJournal(SqlJournal):
    """One shard's durable mailbox in PostgreSQL: see `chimera.store.protocol.Journal`.

    All methods may be called from any thread that runs no event loop. Whoever reaches the database
    may take the journal, on any machine: a former owner that cannot be reached is fenced.
    A database that is away is waited for, a few seconds; then calls raise Unavailable, and later
    ones try again.
    """

    _committer: Committer
    _readers: Readers

    def __init__(
        self,
        url: str,
        shard: int,
        *,
        swarm: str = "default",
        swarm_id: str = "",
        resend_window_s: float = _DAY_S,
        outcome_retention_s: float = 7 * _DAY_S,
        idempotency_retention_s: float = _DAY_S,
    ) -> None:
        """Open the journal, and make it if there is none; nothing may be written before `take`.

        `url`: postgresql://USER:PASSWORD@HOST:PORT/DATABASE, as libpq has it (several hosts,
        `sslmode`); what is missing comes from libpq's environment, PGPASSWORD for one. `swarm`
        names the namespace, `swarm_id` whose it must be. Raises InvalidRequest for a URL that is
        none or a user without rights, Unavailable if the database cannot be reached, ChimeraError
        if the journal is another shard's or swarm's.
        """
        namespace = names.database_namespace(swarm, f"{shard:04d}")
        where = f"{shown(url)} ({namespace})"
        committer = Committer(lambda: _connect(url, f"{namespace} writer", namespace), where)
        readers = Readers(lambda: Link(url, f"{namespace} reader", namespace), where)
        kept = sweep.Retention.of(outcome_retention_s, idempotency_retention_s, resend_window_s)
        super().__init__(shard, committer, readers, kept)
        #: drawn once: how this opener recognises its own compare-and-swap
        self._taker = int.from_bytes(os.urandom(7), "little")
        try:
            #: an owner found it behind what was acknowledged (P4)
            self.lost_tail = committer.with_link(
                lambda link: schema.create(link, namespace, shard, swarm_id)
            )
        except BaseException:
            self.close()
            raise

    def take(self, expected_epoch: int, owner: Owner) -> int:
        """Raise the epoch by compare-and-swap (P2), synced.

        Raises StaleEpoch with the journal's `epoch` if that is not `expected_epoch`, Unavailable.
        """
        epoch = self._committer.with_link(lambda link: self._take(link, expected_epoch, owner))
        self._committer.epoch = epoch
        return epoch

    def _take(self, link: Link, expected: int, owner: Owner) -> int:
        link.script(f"BEGIN; SET LOCAL lock_timeout = {_TAKE_LOCK_MS}")
        try:
            epoch, taker = link.execute("SELECT epoch, taker FROM shard FOR UPDATE").fetchone()
        except faults.ERRORS as error:
            fault = faults.translate(error, "")
            if isinstance(fault, Interrupted) and link.alive:
                # most likely a former owner that was stopped in the middle of a transaction
                link.script("ROLLBACK")
                evict(link, 0)
            raise
        if (epoch, taker) == (expected + 1, self._taker):
            return int(epoch)  # taken before, and only the answer was lost
        if epoch != expected:
            raise StaleEpoch(f"the journal's epoch is {epoch}, not {expected}", epoch=epoch)
        schema.upgrade(link)
        gap = recovery.LOST_POSITIONS if self.lost_tail else 0
        link.execute(
            "UPDATE shard SET epoch = ?, owner = ?, taker = ?, lost = 0,"
            " next_position = next_position + ?, counter = counter + ?",
            (expected + 1, msgspec.json.encode(owner), self._taker, gap, gap),
        )
        link.script("COMMIT")
        return expected + 1

    def _bytes(self, execute: Callable[..., Any]) -> int:
        (size,) = execute(
            "SELECT coalesce(sum(pg_total_relation_size(oid)), 0) FROM pg_class"
            " WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())"
            " AND relkind = 'r'"
        ).fetchone()
        return int(size)

    def close(self) -> None:
        """Close every connection; another process can take the journal at once.

        It names no owner then: the next one would end this process, which lives and is well (P3).
        """
        self._readers.close()
        if self.epoch:
            self._committer.patience_s = 0.0  # nobody waits for a name to be taken out
            with contextlib.suppress(ChimeraError):
                self._committer.with_link(
                    lambda link: link.script(
                        f"UPDATE shard SET owner = NULL WHERE epoch = {self.epoch}"
                    )
                )
        self._committer.close()


def _connect(url: str, application: str, namespace: str) -> Link:
    link = Link(url, application, namespace)
    link.execute(_SYNC).fetchall()
    return link
