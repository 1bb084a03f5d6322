"""SQLite's errors in our words, and which of them end a journal."""

from __future__ import annotations

import sqlite3

from chimera.errors import ChimeraError, ImpossibleStep, JournalBroken, StoreFull, Unavailable


def translate(error: sqlite3.Error, path: str) -> ChimeraError:
    """What a caller is told. JournalBroken is final: what was written last may be lost."""
    text = str(error)
    # -shm cannot grow: the only lack of space that SQLite reports as an I/O error
    no_room = getattr(error, "sqlite_errorname", "") == "SQLITE_IOERR_SHMSIZE"
    if no_room or "is full" in text:
        return StoreFull(f"no room for {path}: {text}", retry_after=1.0)
    if "unable to open" in text:  # no such directory, or no descriptor left: it may pass
        return Unavailable(f"{path}: {text}", retry_after=1.0)
    if "is locked" in text:
        return Unavailable(f"{path} is locked by another process", retry_after=0.2)
    if isinstance(error, (sqlite3.IntegrityError, sqlite3.ProgrammingError)):
        return ImpossibleStep(f"{path}: {text}")
    return JournalBroken(f"{path} cannot be used any more: {text}", retry_after=1.0)
