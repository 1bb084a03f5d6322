"""PostgreSQL's errors in our words, and which of them another try may mend."""

from __future__ import annotations

import asyncio

import asyncpg

from chimera.errors import (
    ChimeraError,
    ImpossibleStep,
    InvalidRequest,
    JournalBroken,
    StoreFull,
    StoreRefused,
    Unavailable,
)

#: what a call to the driver may raise
ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError,
          asyncio.TimeoutError)  # fmt: skip


class Interrupted(Unavailable):
    """The session or its transaction was cut short: another try may do."""


def translate(error: BaseException, where: str) -> ChimeraError:
    """What a caller is told; `where` names the database, without its password."""
    text = f"{where}: {str(error) or type(error).__name__}"
    if isinstance(error, asyncpg.ClientConfigurationError):
        return InvalidRequest(text)
    if isinstance(error, asyncpg.DataError) and not isinstance(error, asyncpg.PostgresError):
        return ImpossibleStep(text)
    if not isinstance(error, asyncpg.PostgresError):
        return Interrupted(f"the database does not answer: {text}", retry_after=0.5)
    state = error.sqlstate or ""
    for prefix, kind, hint in _BY_STATE:
        if state.startswith(prefix):
            return kind(hint + text, **_when(kind))
    return Unavailable(text, retry_after=1.0)


def _when(kind: type[ChimeraError]) -> dict[str, float]:
    return {"retry_after": 0.5} if issubclass(kind, Unavailable) else {}


#: SQLSTATE or its beginning → what it is, the first that fits
#: (https://www.postgresql.org/docs/current/errcodes-appendix.html)
_BY_STATE: tuple[tuple[str, type[ChimeraError], str], ...] = (
    ("53100", StoreFull, "no room: "),
    ("53", Interrupted, "the server is short of something: "),
    ("08", Interrupted, ""),
    ("57014", Interrupted, ""),  # cancelled by somebody, or by a timeout
    ("57P", Interrupted, ""),  # shut down, crashed, or not up yet
    ("25P03", Interrupted, ""),  # was idle in a transaction
    ("25006", Interrupted, "the server is a standby: "),
    ("40", Interrupted, ""),  # deadlock or serialisation failure
    ("55P03", Interrupted, "another session holds the shard: "),
    ("0A000", Interrupted, ""),  # a prepared plan is of an older version of the tables
    ("28", StoreRefused, "the database refuses user or password: "),
    ("3D000", Unavailable, "there is no such database: "),
    ("42501", InvalidRequest, "the database's user lacks a right: "),
    ("22021", InvalidRequest, "text that PostgreSQL cannot keep: "),
    ("22", ImpossibleStep, ""),
    ("23", ImpossibleStep, ""),
    ("42", ImpossibleStep, ""),
    ("58030", JournalBroken, "the server's disk fails: "),
    ("XX00", JournalBroken, "the server reports damage: "),
)
