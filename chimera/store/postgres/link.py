"""A connection to PostgreSQL, used by one thread at a time and without an event loop around it.

asyncpg speaks the binary protocol, frames go through it as they are. Each connection has a loop of
its own, which runs in whatever thread makes the call: no change of thread, and no cost while idle.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg

T = TypeVar("T")

#: for a connection to be made, and for an answer to a statement; then it is given up, seconds
CONNECT_S = 3.0
ANSWER_S = 15.0
#: for another transaction to let go of a row, seconds
LOCK_S = 2.0
#: rows fetched at once by who reads them one by one
_CHUNK = 500
#: of every session. Statements are few and all of them go by an index, whatever statistics say.
_SETTINGS = {
    "lock_timeout": f"{int(LOCK_S * 1000)}",
    "enable_seqscan": "off",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    "idle_in_transaction_session_timeout": f"{int(ANSWER_S * 1000)}",
    "client_min_messages": "warning",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
_MARK = re.compile(r"\?(\d*)|:([a-z]+)")


def shown(url: str) -> str:
    """A database's URL without the password and whatever else follows a question mark."""
    parts = urlsplit(url)
    user = f"{parts.username}@" if parts.username else ""
    return f"{parts.scheme}://{user}{parts.netloc.rpartition('@')[2]}{parts.path}"


@lru_cache(maxsize=512)
def translated(sql: str) -> tuple[str, tuple[str, ...]]:
    """A statement with SQLite's marks in PostgreSQL's; the names of its named ones, in order."""
    names: list[str] = []
    count = 0

    def mark(match: re.Match[str]) -> str:
        nonlocal count
        number, name = match.groups()
        if name:
            if name not in names:
                names.append(name)
            return f"${names.index(name) + 1}"
        count += 1
        return f"${number or count}"

    return _MARK.sub(mark, sql), tuple(names)


class Link:
    """One session. What it raises is asyncpg's, OSError or TimeoutError."""

    def __init__(self, url: str, application: str, schema: str) -> None:
        """Connect. `application` is the session's name, `schema` where its tables are."""
        self._loop = asyncio.new_event_loop()
        self._statements: dict[str, Any] = {}
        self._connection: Any = None
        try:
            self._connection = self._loop.run_until_complete(
                asyncpg.connect(
                    url,
                    timeout=CONNECT_S,
                    statement_cache_size=0,
                    server_settings={
                        **_SETTINGS, "application_name": application, "search_path": f'"{schema}"',
                    },
                )
            )  # fmt: skip
        except BaseException:
            self._loop.close()
            raise
        self.pid: int = self._connection.get_server_pid()

    @property
    def alive(self) -> bool:
        """Whether it can still be used, as far as is known without asking."""
        return self._connection is not None and not self._connection.is_closed()

    def execute(self, sql: str, params: Any = ()) -> Rows:
        """Run a statement with SQLite's marks; a SELECT is run when its rows are asked for."""
        statement, params = self._prepared(sql, params)
        if sql.startswith("SELECT"):
            return Rows(self, statement, params)
        rows = self.drive(statement.fetch(*params))
        return Rows(self, statement, params, rows)

    def executemany(self, sql: str, rows: Sequence[Any]) -> None:
        """Run a statement for each row, without waiting in between."""
        statement, _ = self._prepared(sql, ())
        self.drive(statement.executemany(rows))

    def script(self, sql: str) -> str:
        """Run statements without parameters in one round trip; the last one's tag."""
        tag: str = self.drive(self._connection.execute(sql))
        return tag

    def _prepared(self, sql: str, params: Any) -> tuple[Any, Any]:
        text, names = translated(sql)
        statement = self._statements.get(sql)
        if statement is None:
            statement = self.drive(self._connection.prepare(text))
            self._statements[sql] = statement
        return statement, [params[name] for name in names] if names else params

    def drive(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the loop until the server has answered, or it is plain that it will not."""
        watch = self._loop.call_later(ANSWER_S, self._connection.terminate)
        try:
            return self._loop.run_until_complete(work)
        except asyncpg.PostgresError:
            raise
        except BaseException:  # whatever it was, nobody knows what the session is doing now
            self.abandon()
            raise
        finally:
            watch.cancel()

    def in_transaction(self) -> bool:
        return self.alive and bool(self._connection.is_in_transaction())

    def abandon(self) -> None:
        """Break it off, without a word to the server."""
        if self._connection is not None:
            self._connection.terminate()

    def close(self) -> None:
        """End the session."""
        if self._loop.is_closed():
            return
        try:
            if self.alive:
                self._loop.run_until_complete(self._connection.close(timeout=1.0))
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, asyncio.TimeoutError):
            self.abandon()
        finally:
            self._connection = None
            self._statements.clear()
            self._loop.run_until_complete(asyncio.sleep(0))  # transports close in the next turn
            self._loop.close()


class Rows:
    """What a statement gave, as a cursor of sqlite3 would tell it."""

    __slots__ = ("_link", "_params", "_rows", "_statement")

    def __init__(self, link: Link, statement: Any, params: Any, rows: Any = None) -> None:
        self._link = link
        self._statement = statement
        self._params = params
        self._rows = rows

    @property
    def rowcount(self) -> int:
        """Rows that were changed."""
        return int(self._statement.get_statusmsg().rpartition(" ")[2])

    def fetchone(self) -> Any:
        rows = self.fetchall()
        return rows[0] if rows else None

    def fetchall(self) -> list[Any]:
        if self._rows is None:
            self._rows = self._link.drive(self._statement.fetch(*self._params))
        return [tuple(row) for row in self._rows]

    def __iter__(self) -> Iterator[Any]:
        """Row by row, with few of them in memory."""
        drive = self._link.drive
        cursor = drive(_opened(self._statement, self._params))
        while rows := drive(cursor.fetch(_CHUNK)):
            for row in rows:
                yield tuple(row)
            if len(rows) < _CHUNK:
                return


async def _opened(statement: Any, params: Any) -> Any:
    return await statement.cursor(*params)
