"""The hash chain of the audit log (G9): each entry carries the hash of the one before it.

A changed, removed or inserted entry breaks the chain at its place, and a cut-off end differs from
the head that is kept apart. Whoever can write the whole file could compute a new chain; against
that, hashes are to be kept elsewhere too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: what the first entry has as the hash of its predecessor
GENESIS = "0" * 64


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One control action, as it was recorded before it was done."""

    seq: int  #: from 1, dense
    at: int  #: Unix milliseconds
    actor: str  #: who did it
    action: str
    subject: str  #: to what
    detail: str  #: JSON object, as it was hashed
    prev_hash: str
    hash: str  #: hex SHA-256

    def details(self) -> dict[str, Any]:
        """`detail` as a mapping."""
        found: dict[str, Any] = json.loads(self.detail)
        return found


@dataclass(frozen=True, slots=True)
class BrokenLink:
    """Where the chain is broken first."""

    seq: int
    fault: str


def canonical(detail: Mapping[str, Any]) -> str:
    """One text for one content: what is hashed must not hang on the order of keys."""
    return json.dumps(detail, sort_keys=True, separators=(",", ":"))


def chained(
    prev_seq: int, prev_hash: str, *, at: int, actor: str, action: str, subject: str, detail: str
) -> AuditEntry:
    """The entry that follows the one with `prev_seq` and `prev_hash`."""
    seq = prev_seq + 1
    digest = _digest((seq, at, actor, action, subject, detail, prev_hash))
    return AuditEntry(seq, at, actor, action, subject, detail, prev_hash, digest)


def first_broken(entries: Iterable[AuditEntry], head_seq: int, head_hash: str) -> BrokenLink | None:
    """The first entry, in order of `seq`, that is not what was recorded; None: all are."""
    seq, digest = 0, GENESIS
    for entry in entries:
        if entry.seq != seq + 1:
            return BrokenLink(seq + 1, f"entry {seq + 1} is missing")
        if entry.prev_hash != digest:
            return BrokenLink(entry.seq, f"entry {entry.seq} does not follow entry {seq}")
        content = (entry.seq, entry.at, entry.actor, entry.action, entry.subject, entry.detail)
        if entry.hash != _digest((*content, entry.prev_hash)):
            return BrokenLink(entry.seq, f"entry {entry.seq} was changed")
        seq, digest = entry.seq, entry.hash
    if seq < head_seq:
        return BrokenLink(seq + 1, f"the last entries, from {seq + 1} to {head_seq}, are missing")
    if (seq, digest) != (head_seq, head_hash):
        return BrokenLink(head_seq + 1, f"entries after {head_seq} were not recorded by Chimera")
    return None


def _digest(content: tuple[Any, ...]) -> str:
    text = json.dumps(content, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
