"""What `chimera doctor` sees of a PostgreSQL database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chimera import names
from chimera.store.postgres import faults, schema
from chimera.store.postgres.link import Link, shown

#: the oldest server that the statements were made for
VERSION_MIN = 13
#: sessions of one shard: its owner's writer, and readers at a busy moment
SESSIONS_A_SHARD = 3
#: sessions of control stores, and of persons
SESSIONS_ELSE = 15

Seen = tuple[str, str, str]  #: `ok`, `warn` or `fail`; what was seen; how to mend it


def reach(url: str) -> None:
    """Whether the database takes us. Raises Unavailable (StoreRefused), InvalidRequest."""
    try:
        Link(url, "chimera up", "public").close()
    except faults.ERRORS as error:
        raise faults.translate(error, shown(url)) from error


def look(url: str, swarm: str, shards: int) -> Iterator[Seen]:
    """Look at the database of a swarm. Raises Unavailable, InvalidRequest."""
    try:
        link = Link(url, "chimera doctor", "public")
        try:
            yield _server(link, url)
            yield from _durability(link)
            yield _rights(link, swarm)
            yield _tables(link, swarm, shards)
            yield _sessions(link, shards)
        finally:
            link.close()
    except faults.ERRORS as error:
        raise faults.translate(error, shown(url)) from error


def _setting(link: Link, name: str) -> str:
    return str(_one(link, "SELECT current_setting(?)", name))


def _one(link: Link, query: str, *values: Any) -> Any:
    return link.execute(query, values).fetchone()[0]


def _server(link: Link, url: str) -> Seen:
    version = _setting(link, "server_version")
    saw = f"PostgreSQL {version} at {shown(url)}"
    if int(_setting(link, "server_version_num")) < VERSION_MIN * 10_000:
        return "fail", saw, f"it must be {VERSION_MIN} or newer"
    if _one(link, "SELECT pg_is_in_recovery()"):
        return "fail", f"{saw} is a standby", "name all hosts, with target_session_attrs=read-write"
    if _setting(link, "server_encoding") != "UTF8":
        return "fail", f"{saw} is not in UTF8", "make a database with encoding UTF8"
    return "ok", saw, ""


def _durability(link: Link) -> Iterator[Seen]:
    for name, lost in (
        ("fsync", "a power loss destroys the database"),
        ("full_page_writes", "a power loss may tear pages"),
    ):
        if _setting(link, name) == "off":
            yield "fail", f"{name} is off: {lost}", f"set {name} = on"
    if _setting(link, "synchronous_standby_names") == "":
        standbys = _one(link, "SELECT count(*) FROM pg_stat_replication")
        if standbys:
            yield (
                "warn",
                "replicas are asynchronous: to promote one may lose acknowledged tasks",
                "set synchronous_standby_names",
            )


def _rights(link: Link, swarm: str) -> Seen:
    namespace = names.database_namespace(swarm, "0000")
    made = _one(link, "SELECT to_regnamespace(?) IS NOT NULL", f'"{namespace}"')
    if not made and not _one(link, "SELECT has_database_privilege(current_database(), 'create')"):
        user, database = link.execute("SELECT current_user, current_database()").fetchone()
        mend = f'grant create on database "{database}" to "{user}"'
        return "fail", f"{user} may not make the swarm's namespaces", mend
    return "ok", "namespaces are there, or can be made", ""


def _tables(link: Link, swarm: str, shards: int) -> Seen:
    """Whether the journals are there, and of a version that can be used."""
    wanted = [names.database_namespace(swarm, f"{shard:04d}") for shard in range(shards)]
    there = [
        one for one in wanted if _one(link, "SELECT to_regclass(?) IS NOT NULL", f'"{one}".shard')
    ]
    if not there:
        return "ok", "the swarm has no tables here yet: `chimera up` makes them", ""
    if missing := sorted(set(wanted) - set(there)):
        return (
            "fail",
            f"{len(there)} of {shards} journals are there; not {missing[0]}",
            "restore it from a backup, or see `shards`: it is fixed when a swarm is made",
        )
    versions = [_one(link, f'SELECT version FROM "{one}".shard') for one in there]
    newest = len(schema.STEPS)
    if max(versions) > newest:
        saw = f"the tables are of version {max(versions)}, this Chimera's of {newest}"
        return "fail", saw, "install the newer Chimera again: there is no way back"
    if min(versions) < newest:
        saw = f"tables of version {min(versions)}: `chimera up` brings them to {newest}"
        return "warn", saw, "make a backup before: there is no way back"
    return "ok", f"{len(there)} journals, version {newest}", ""


def _sessions(link: Link, shards: int) -> Seen:
    may = int(_setting(link, "max_connections"))
    need = shards * SESSIONS_A_SHARD + SESSIONS_ELSE
    saw = f"{may} sessions at once, {shards} shards need about {need}"
    if may < need:
        return "warn", saw, f"set max_connections = {need} or more"
    return "ok", saw, ""
