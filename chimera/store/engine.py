"""The database under the control store: the only place that knows one dialect from another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from chimera.errors import StoreFull, Unavailable, WrongVersion
from chimera.store.migrations import HEAD

#: a transaction waits that long for another process's to end, ms
_BUSY_MS = 5_000
_VERSION = sa.table("alembic_version", sa.column("version_num"))


def file_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return str(sa.URL.create("sqlite", database=str(path)))


def connect(url: str, namespace: str = "") -> sa.Engine:
    """An engine whose stores are at the newest version.

    `url` is that of a SQLite file or of a PostgreSQL database; `namespace` is where the tables are
    in the latter. Raises WrongVersion, InvalidRequest, Unavailable.
    """
    engine = _postgres(url, namespace) if url.startswith("postgres") else _sqlite(url)
    try:
        _migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _sqlite(url: str) -> sa.Engine:
    engine = sa.create_engine(url)
    database = engine.url.database
    if not database:
        raise ValueError("the control store needs a file: every thread has its own connection")
    Path(database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    sa.event.listen(engine, "connect", _set_up_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _postgres(url: str, namespace: str) -> sa.Engine:
    # imported here: its drivers are an extra
    from chimera.store.postgres import dial

    # a connection that was lost since it was used last is made anew, before anything is written
    engine = sa.create_engine(
        "postgresql+pg8000://", creator=dial.connector(url, namespace), pool_pre_ping=True
    )
    sa.event.listen(engine, "begin", _begin_postgres)
    return engine


@contextlib.contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that may write, alone: commits at the end. Raises StoreFull, Unavailable."""
    with _translated(), engine.connect() as connection:
        with connection.execution_options(chimera_writes=True).begin():
            yield connection


@contextlib.contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that sees one moment's state. Raises Unavailable."""
    with _translated(), engine.connect() as connection, connection.begin():
        yield connection


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except exc.IntegrityError:
        raise
    except exc.DBAPIError as fault:
        text = _said(fault.orig)
        kind = StoreFull if "full" in text or "No space left" in text else Unavailable
        raise kind(f"the control store does not answer: {text}") from fault
    except OSError as fault:  # while connecting
        raise Unavailable(f"the control store does not answer: {_said(fault)}") from fault


def _said(fault: BaseException | None) -> str:
    """The fault in words; a driver for PostgreSQL gives a dictionary of them."""
    said = fault.args[0] if fault is not None and fault.args else fault
    return str(said.get("M", said)) if isinstance(said, dict) else str(fault)


def _set_up_sqlite(connection: Any, _record: object) -> None:
    # the driver would begin transactions by itself, and too late: see _begin_sqlite
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"pragma busy_timeout = {_BUSY_MS}")
    cursor.execute("pragma journal_mode = wal")
    # control actions are few, and an order that was given must not be forgotten
    cursor.execute("pragma synchronous = full")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    # a transaction that reads first and writes then fails at once when another one wrote between
    writes = connection.get_execution_options().get("chimera_writes")
    connection.exec_driver_sql("begin immediate" if writes else "begin")


def _begin_postgres(connection: sa.Connection) -> None:
    if connection.get_execution_options().get("chimera_writes"):
        # one writer at a time: what a transaction has read holds until it ends, as in SQLite
        lock = "select pg_advisory_xact_lock(hashtext('control ' || current_schema()))"
    else:
        lock = "set transaction isolation level repeatable read, read only"
    connection.exec_driver_sql(lock)


def _migrate(engine: sa.Engine) -> None:
    with reading(engine) as connection:
        if _version(connection) == HEAD:
            return
    # imported here: a store that is up to date, as nearly always, must not wait for it
    from alembic.command import upgrade
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    location = str(Path(__file__).parent / "migrations")
    config.set_main_option("script_location", location.replace("%", "%%"))
    # of two processes that open an empty store, the second finds the steps done
    with writing(engine) as connection:
        config.attributes["connection"] = connection
        try:
            upgrade(config, "head")
        except CommandError as fault:
            version = _version(connection)
            raise WrongVersion(
                f"the control store has version {version}, this Chimera knows up to {HEAD}"
            ) from fault


def _version(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(_VERSION.name):
        return None
    found: str | None = connection.scalar(sa.select(_VERSION.c.version_num))
    return found
