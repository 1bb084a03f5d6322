"""What the control plane must not forget: spec, terms, placement and the audit log.

Each write is one transaction. A writer that names the term it drew (P2) is refused with StaleTerm
once a newer incarnation has drawn a higher one. Times are Unix milliseconds, given by the caller.
Every method raises Unavailable when the database does not answer, StoreFull when its disk is full.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from chimera import names
from chimera.errors import ChimeraError, StaleTerm
from chimera.store import engine as engines
from chimera.store.audit import AuditEntry, BrokenLink, canonical, chained, first_broken
from chimera.store.registry import RegistryLog
from chimera.swarm.coordinator.effects import Audit, Seat

#: entries of the audit log in memory at once when it is verified
_CHUNK = 1_000


def _table(name: str, *columns: str) -> sa.TableClause:
    return sa.table(name, *(sa.column(column) for column in columns))


_SWARM = _table("swarm", "one", "uuid", "name")
_SPECS = _table("specs", "generation", "body", "applied_at", "by")
_TERMS = _table("terms", "name", "term")
_PLACEMENT = _table("placement", "region", "shard", "leader", "epoch", "at")
_AUDIT = _table(
    "audit", "seq", "at", "actor", "action", "subject", "detail", "prev_hash", "hash"
)  # fmt: skip
_HEAD = _table("audit_head", "one", "seq", "hash")


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose store this is."""

    uuid: str
    name: str  #: of the swarm


@dataclass(frozen=True, slots=True)
class StoredSpec:
    """A spec as it was applied."""

    generation: int  #: from 1, dense
    body: dict[str, Any]
    applied_at: int
    by: str


@dataclass(frozen=True, slots=True)
class Term:
    """One incarnation of an actor."""

    name: str  #: the actor's
    term: int


class ControlStore:
    """One database of the control plane. Safe to use from any thread, and by several processes."""

    def __init__(self, url: str, namespace: str = "") -> None:
        """Open, and create or bring up to date, the tables in a SQLite file (`sqlite:///PATH`), or
        in a namespace of a PostgreSQL database. Raises WrongVersion, InvalidRequest, Unavailable.
        """
        self._engine = engines.connect(url, namespace)

    @classmethod
    def open(cls, path: str | Path) -> ControlStore:
        """The store in a SQLite file, which is made if it is missing, with its directory."""
        return cls(engines.file_url(Path(path)))

    @classmethod
    def of(cls, store: str, swarm: str, name: str, data_dir: str) -> ControlStore:
        """The store of one actor of a swarm: in the database that the spec's `store` names, or
        in the file NAME.sqlite of the data directory."""
        if not store:
            return cls.open(Path(data_dir) / f"{name}.sqlite")
        return cls(store, names.database_namespace(swarm, name))

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def registry_log(self) -> RegistryLog:
        """What the schema registry rests on, in the same database."""
        return RegistryLog(self._engine)

    # -- identity and spec ---------------------------------------------------------------------

    def identity(self) -> Identity | None:
        """Whose store this is; None: nobody's yet."""
        with engines.reading(self._engine) as connection:
            row = connection.execute(sa.select(_SWARM.c.uuid, _SWARM.c.name)).one_or_none()
        return Identity(*row) if row else None

    def found(self, uuid: str, name: str) -> Identity:
        """Make the store the swarm's, unless it is somebody's; returns whose it is now."""
        with engines.writing(self._engine) as connection:
            row = connection.execute(sa.select(_SWARM.c.uuid, _SWARM.c.name)).one_or_none()
            if row:
                return Identity(*row)
            connection.execute(_SWARM.insert().values(one=1, uuid=uuid, name=name))
        return Identity(uuid, name)

    def has_order(self, by: str) -> bool:
        """Whether a spec was ever applied by `by`."""
        query = sa.select(sa.func.count()).where(_SPECS.c.by == by)
        with engines.reading(self._engine) as connection:
            return bool(connection.scalar(query))

    def spec(self, generation: int | None = None) -> StoredSpec | None:
        """The spec of a generation, or the newest; None: there is no such."""
        query = sa.select(*_SPECS.c).order_by(_SPECS.c.generation.desc()).limit(1)
        if generation is not None:
            query = query.where(_SPECS.c.generation == generation)
        with engines.reading(self._engine) as connection:
            row = connection.execute(query).one_or_none()
        return StoredSpec(row[0], json.loads(row[1]), row[2], row[3]) if row else None

    # -- terms ---------------------------------------------------------------------------------

    def draw_term(self, name: str) -> int:
        """A term that is higher than any drawn for the name before, from 1."""
        while True:
            with engines.writing(self._engine) as connection:
                term = self._term(connection, name)
                if term is None:
                    try:
                        connection.execute(_TERMS.insert().values(name=name, term=1))
                    except sa.exc.IntegrityError:
                        continue  # somebody drew the first one just now
                    return 1
                drawn = connection.execute(
                    _TERMS.update()
                    .where(_TERMS.c.name == name, _TERMS.c.term == term)
                    .values(term=term + 1)
                )
                if drawn.rowcount:
                    return term + 1

    def heed_term(self, name: str, term: int) -> None:
        """Remember the highest term heard of somebody else. Raises StaleTerm for a lower one."""
        with engines.writing(self._engine) as connection:
            known = self._term(connection, name)
            if known is None:
                connection.execute(_TERMS.insert().values(name=name, term=term))
            elif term < known:
                raise StaleTerm(f"{name}: term {term} is below {known}", term=known)
            elif term > known:
                update = _TERMS.update().where(_TERMS.c.name == name)
                connection.execute(update.values(term=term))

    @staticmethod
    def _term(connection: sa.Connection, name: str) -> int | None:
        found: int | None = connection.scalar(sa.select(_TERMS.c.term).where(_TERMS.c.name == name))
        return found

    def _check(self, connection: sa.Connection, writer: Term | None) -> None:
        if writer is None:
            return
        newest = self._term(connection, writer.name)
        if newest != writer.term:
            raise StaleTerm(
                f"{writer.name}: term {writer.term} is not {newest}, the newest", term=newest
            )

    # -- one transaction of a machine ----------------------------------------------------------

    def record(
        self,
        now: int,
        *,
        writer: Term | None = None,
        actor: str = "",
        region: str = "",
        seats: Iterable[Seat] = (),
        spec: tuple[int, Mapping[str, Any]] | None = None,
        by: str = "",
        notes: Sequence[Audit] = (),
    ) -> int:
        """Record placement, spec and audit entries: all of it or nothing.

        `seats` replace those of the same shards of `region`. `spec` is its generation, which must
        follow the newest one, and its body, applied `by`. `actor` is who acts; empty: the writer.
        Returns the number of the last audit entry. Raises StaleTerm, Conflict.
        """
        actor = actor or (writer.name if writer else "")
        with engines.writing(self._engine) as connection:
            self._check(connection, writer)
            self._save_seats(connection, region, list(seats), now)
            if spec is not None:
                self._save_spec(connection, spec[0], spec[1], by or actor, now)
            return self._append(connection, actor, notes, now)

    def save_spec(self, generation: int, body: Mapping[str, Any], by: str, now: int) -> None:
        """Save the spec of a generation that follows the newest one. Raises Conflict."""
        self.record(now, actor=by, spec=(generation, body))

    def keep_spec(self, generation: int, body: Mapping[str, Any], by: str, now: int) -> None:
        """Remember somebody else's spec: that of the highest generation is the newest.

        One of a generation that was kept before changes nothing.
        """
        known = sa.select(sa.func.count()).where(_SPECS.c.generation == generation)
        with engines.writing(self._engine) as connection:
            if not connection.scalar(known):
                values = {"generation": generation, "applied_at": now, "by": by}
                connection.execute(_SPECS.insert().values(body=canonical(body), **values))

    @staticmethod
    def _save_spec(
        connection: sa.Connection, generation: int, body: Mapping[str, Any], by: str, now: int
    ) -> None:
        newest = connection.scalar(sa.select(sa.func.max(_SPECS.c.generation))) or 0
        if generation == newest:
            kept = sa.select(_SPECS.c.body, _SPECS.c.by).where(_SPECS.c.generation == newest)
            if tuple(connection.execute(kept).one()) == (canonical(body), by):
                return  # saved before, and only the answer was lost
        if generation != newest + 1:
            raise Conflict(f"generation {generation} does not follow {newest}", newest=newest)
        values = {"generation": generation, "body": canonical(body), "applied_at": now, "by": by}
        connection.execute(_SPECS.insert().values(values))

    # -- placement -----------------------------------------------------------------------------

    def save_placement(self, region: str, seats: Iterable[Seat], now: int) -> None:
        """Replace what is known of the seats' shards."""
        self.record(now, region=region, seats=seats)

    def load_placement(self, region: str) -> tuple[Seat, ...]:
        """What was saved last of each shard of the region, by shard."""
        columns = _PLACEMENT.c.shard, _PLACEMENT.c.leader, _PLACEMENT.c.epoch
        query = sa.select(*columns).where(_PLACEMENT.c.region == region)
        with engines.reading(self._engine) as connection:
            rows = connection.execute(query.order_by(_PLACEMENT.c.shard)).all()
        return tuple(Seat(*row) for row in rows)

    @staticmethod
    def _save_seats(
        connection: sa.Connection, region: str, seats: Sequence[Seat], now: int
    ) -> None:
        if not seats:
            return
        connection.execute(
            _PLACEMENT.delete().where(
                _PLACEMENT.c.region == region, _PLACEMENT.c.shard.in_([s.shard for s in seats])
            )
        )
        rows = [
            {"region": region, "shard": s.shard, "leader": s.leader, "epoch": s.epoch, "at": now}
            for s in seats
        ]
        connection.execute(_PLACEMENT.insert(), rows)

    # -- audit ---------------------------------------------------------------------------------

    def audit(
        self, actor: str, action: str, subject: str, detail: Mapping[str, Any], now: int
    ) -> int:
        """Append one entry; returns its number. To be called before what it tells is done."""
        return self.record(now, actor=actor, notes=(Audit(action, subject, detail),))

    def audit_entries(self, after: int = 0, limit: int = 100) -> list[AuditEntry]:
        """Entries with numbers above `after`, oldest first."""
        with engines.reading(self._engine) as connection:
            return self._entries(connection, after, limit)

    def audit_head(self) -> int:
        """The number of the newest entry; 0: there is none."""
        with engines.reading(self._engine) as connection:
            return connection.execute(sa.select(_HEAD.c.seq)).scalar() or 0

    def verify_audit(self) -> BrokenLink | None:
        """The first entry of the log that is not as it was recorded; None: all are."""
        with engines.reading(self._engine) as connection:

            def entries() -> Iterable[AuditEntry]:
                after = -(2**62)  # a planted entry may have any number
                while chunk := self._entries(connection, after, _CHUNK):
                    yield from chunk
                    after = chunk[-1].seq

            head = connection.execute(sa.select(_HEAD.c.seq, _HEAD.c.hash)).one_or_none()
            if head is None:
                return BrokenLink(1, "the head of the log is missing")
            return first_broken(entries(), head.seq, head.hash)

    @staticmethod
    def _entries(connection: sa.Connection, after: int, limit: int) -> list[AuditEntry]:
        query = sa.select(*_AUDIT.c).where(_AUDIT.c.seq > after).order_by(_AUDIT.c.seq)
        return [AuditEntry(*row) for row in connection.execute(query.limit(limit))]

    @staticmethod
    def _append(connection: sa.Connection, actor: str, notes: Sequence[Audit], now: int) -> int:
        # where transactions do not run one by one, the update of the head's row orders them
        head = connection.execute(sa.select(_HEAD.c.seq, _HEAD.c.hash).with_for_update()).one()
        seq, digest = head.seq, head.hash
        rows: list[dict[str, Any]] = []
        for note in notes:
            entry = chained(
                seq,
                digest,
                at=now,
                actor=actor,
                action=note.action,
                subject=note.subject,
                detail=canonical(note.detail),
            )
            rows.append(dict(zip((c.name for c in _AUDIT.c), astuple(entry), strict=True)))
            seq, digest = entry.seq, entry.hash
        if rows:
            connection.execute(_AUDIT.insert(), rows)
            connection.execute(_HEAD.update().values(seq=seq, hash=digest))
        return int(seq)


class Conflict(ChimeraError):
    """Somebody else changed this in the meantime: read it again."""

    code = "conflict"
    status = 409
