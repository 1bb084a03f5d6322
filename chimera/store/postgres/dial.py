"""Blocking connections to PostgreSQL for SQLAlchemy, by the same URL as a journal's.

The control plane writes a few rows a minute: a driver in plain Python, which blocks, does.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pg8000.dbapi

from chimera.errors import InvalidRequest

#: for an answer of any kind, seconds
ANSWER_S = 10.0
_PORT = 5432
_SCHEMES = ("postgresql", "postgres")
#: options of the URL that mean something here; others are the other driver's
_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
#: of every session: a client that was stopped in the middle of a transaction holds a lock
_SET_UP = (
    "set idle_in_transaction_session_timeout = '5s'",
    "set lock_timeout = '5s'",
    "set client_min_messages = warning",
)


def connector(url: str, namespace: str) -> Callable[[], Any]:
    """What makes a connection that works in a namespace, which is made if it is missing.

    Raises InvalidRequest for a URL that is none.
    """
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise InvalidRequest(f"a database's URL begins with postgresql://, not {parts.scheme}:")
    options = dict(parse_qsl(parts.query))
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    given = {
        "user": unquote(user) or os.environ.get("PGUSER", "postgres"),
        "password": unquote(password) or os.environ.get("PGPASSWORD"),
        "database": unquote(parts.path[1:]) or os.environ.get("PGDATABASE") or None,
        "application_name": namespace,
        "timeout": ANSWER_S,
    }
    places = list(_places(hosts))

    def connect() -> Any:
        connection = _first(places, given, options)
        try:
            _prepare(connection, namespace)
        except BaseException:
            connection.close()
            raise
        return connection

    return connect


def _places(hosts: str) -> Iterator[tuple[str, int]]:
    for host in (hosts or os.environ.get("PGHOST", "localhost")).split(","):
        name, colon, port = host.rpartition(":")
        if not colon or not port.isdigit():
            name, port = host, os.environ.get("PGPORT", str(_PORT))
        yield name.strip("[]"), int(port)


def _first(
    places: list[tuple[str, int]], given: Mapping[str, Any], options: Mapping[str, str]
) -> Any:
    """A connection to the first host that takes writes. Raises what the last one raised."""
    for index, (host, port) in enumerate(places):
        try:
            connection = _secured({**given, "host": host, "port": port}, options)
            cursor = connection.cursor()
            cursor.execute("show transaction_read_only")
            if cursor.fetchone()[0] == "off":
                connection.rollback()
                return connection
            connection.close()
            raise pg8000.dbapi.InterfaceError(f"{host}:{port} is a standby")
        except (pg8000.dbapi.Error, OSError):
            if index == len(places) - 1:
                raise
    raise AssertionError("unreachable")


def _secured(given: dict[str, Any], options: Mapping[str, str]) -> Any:
    """Connect with TLS as `sslmode` says."""
    mode = options.get("sslmode", "prefer")
    if mode not in _MODES:
        raise InvalidRequest(f"sslmode is one of {', '.join(_MODES)}, not {mode!r}")
    if mode in ("disable", "allow"):
        return pg8000.dbapi.connect(**given)
    context = ssl.create_default_context(cafile=options.get("sslrootcert"))
    context.check_hostname = mode == "verify-full"
    if not mode.startswith("verify"):
        context.verify_mode = ssl.CERT_NONE
    if "sslcert" in options:
        context.load_cert_chain(options["sslcert"], options.get("sslkey"))
    try:
        return pg8000.dbapi.connect(**given, ssl_context=context)
    except pg8000.dbapi.InterfaceError as error:
        if mode != "prefer" or "refuses SSL" not in str(error):
            raise
        return pg8000.dbapi.connect(**given)


def _prepare(connection: Any, namespace: str) -> None:
    cursor = connection.cursor()
    for statement in _SET_UP:
        cursor.execute(statement)
    cursor.execute("select 1 from pg_namespace where nspname = %s", (namespace,))
    if cursor.fetchone() is None:
        # of two who do that at once, the second must wait for the first, not fail
        cursor.execute("select pg_advisory_xact_lock(hashtext(%s))", (namespace,))
        cursor.execute(f'create schema if not exists "{namespace}"')
    cursor.execute(f'set search_path = "{namespace}"')
    connection.commit()
