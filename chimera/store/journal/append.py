"""Accepting frames: recognise what was sent before, refuse what must not come in, keep the rest."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from chimera.errors import (
    ChimeraError,
    CorruptFrame,
    IdConflict,
    InvalidRequest,
    OutcomeUnknown,
    Overloaded,
    PayloadTooLarge,
    StoreFull,
    Unavailable,
)
from chimera.frames import command, ids
from chimera.store.journal import idempotency, receipts, schedule
from chimera.store.journal.txn import Txn
from chimera.store.protocol import Receipt, Skipped, SourcePosition
from chimera.swarm.policy import CLASSES

#: a window in which nothing is too old, ms
ANY_AGE = 1 << 62
#: latest time that is accepted: year 5138, Unix milliseconds
_TIME_MAX = 100_000_000_000_000
_END = struct.Struct("<I")


@dataclass(slots=True)
class Arrival:
    """A frame on its way in, with all that can be known of it before the transaction."""

    frame: bytes
    of: command.Header
    head: command.Head
    hash: bytes
    columns: command.Columns | None  #: None: no task deviates
    claims: tuple[idempotency.Claim, ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """What an append is judged by."""

    shard: int
    resend_window_ms: int
    queue_bound: int
    now: int
    full: bool  #: the disk is: only frames that are in already are answered
    retry_after: float  #: seconds, for those that do not fit


def prepare(frame: bytes, shard: int) -> Arrival | ChimeraError:
    """Check and hash a frame, outside the transaction. An error is the frame's answer."""
    try:
        of = command.verify(frame)
        _check(frame, of, shard)
        head = command.head(frame, of)
        if "\0" in head.tenant + head.type:
            raise InvalidRequest("neither tenant nor task type may contain NUL")
        if not 0 <= head.priority < len(CLASSES):
            raise InvalidRequest(f"there is no priority class {head.priority}")
        columns = _columns(frame, of)
        claims: tuple[idempotency.Claim, ...] = ()
        if columns is not None and columns.idempotency is not None:
            claims = idempotency.claims(head, columns, command.payloads(frame, of))
    except ChimeraError as error:
        return error
    return Arrival(frame, of, head, blake2b(frame, digest_size=16).digest(), columns, claims)


def _check(frame: bytes, of: command.Header, shard: int) -> None:
    if of.shard != shard:
        raise InvalidRequest(f"a frame of shard {of.shard} was sent to shard {shard}")
    if not 0 < of.count <= command.COUNT_MAX:
        raise InvalidRequest(f"a frame has 1 to {command.COUNT_MAX} tasks, not {of.count}")
    if len(frame) > command.BYTES_MAX:
        raise PayloadTooLarge(f"a frame has at most {command.BYTES_MAX} bytes, not {len(frame)}")
    blob = command.HEADER_BYTES + of.head_bytes + of.columns_bytes + 4 * of.count
    if blob > len(frame) or _END.unpack_from(frame, blob - 4)[0] - of.base != len(frame) - blob:
        raise CorruptFrame("the payloads do not fill the frame")
    if of.first + of.count > 1 << ids.COUNTER_BITS:
        raise InvalidRequest(f"counter {of.first} is out of range")


def _columns(frame: bytes, of: command.Header) -> command.Columns | None:
    """The columns, if there are any and they fit the frame. What is accepted must be runnable."""
    if not of.columns_bytes:
        return None
    columns = command.columns(frame, of)
    for name in ("keys", "idempotency", "not_before", "deadline", "tags"):
        column = getattr(columns, name)
        if column is not None and len(column) != of.count:
            raise CorruptFrame(f"column {name} has {len(column)} entries for {of.count} tasks")
    for texts in (columns.keys or (), *(columns.tags or ())):
        if any("\0" in text for text in texts if text):
            raise InvalidRequest("no key and no tag may contain NUL")  # PostgreSQL keeps none
    if not all(0 <= index < of.count for index in columns.claims or ()):
        raise CorruptFrame("a claim check of a task that is not in the frame")
    if any(not 0 <= due <= _TIME_MAX for due in columns.not_before or ()):
        raise InvalidRequest("not_before is out of range")
    return columns


def append(
    txn: Txn,
    arrivals: Sequence[Arrival | ChimeraError],
    rules: Rules,
    source: SourcePosition | None,
) -> list[Receipt | ChimeraError]:
    """One answer a frame. A refused frame blocks later keyed ones of its producer (P11)."""
    answers: list[Receipt | ChimeraError] = []
    blocked: set[tuple[str, int]] = set()
    all_blocked = False
    for arrival in arrivals:
        if isinstance(arrival, ChimeraError):
            all_blocked = True  # whose frame it was cannot be told
            answers.append(arrival)
            continue
        producer = (arrival.head.tenant, arrival.of.session)
        keyed = bool(arrival.of.flags & command.KEYS)
        try:
            receipt = known(txn, arrival)
            if receipt is None:
                if keyed and (all_blocked or producer in blocked):
                    raise Unavailable("an earlier frame of this producer was refused")
                _admit(txn, arrival, rules)
                receipt = accept(txn, arrival, rules.now)
            answers.append(receipt)
        except ChimeraError as error:
            if keyed:
                blocked.add(producer)
            answers.append(error)
    if source is not None and not any(isinstance(answer, ChimeraError) for answer in answers):
        _advance(txn, source)
    return answers


def _advance(txn: Txn, source: SourcePosition) -> None:
    """Note how far a source was read; whoever reads it again and says less changes nothing."""
    moved = txn.execute(
        "INSERT INTO sources VALUES (?, ?) ON CONFLICT (name) DO UPDATE"
        " SET position = excluded.position WHERE sources.position < excluded.position",
        source,
    )
    if moved.rowcount:
        txn.wrote(source.name.encode(), source.position.to_bytes(8, "little"))


def source_position(execute: Callable[..., Any], name: str) -> int | None:
    """Where to go on reading a source."""
    row = execute("SELECT position FROM sources WHERE name = ?", (name,)).fetchone()
    return row and int(row[0])


def known(txn: Txn, arrival: Arrival) -> Receipt | None:
    """The receipt of a frame that was sent before (P12). Raises IdConflict."""
    of = arrival.of
    stop = of.first + of.count
    row = txn.execute(
        "SELECT first, count, hash, position, receipt FROM commands"
        " WHERE tenant = ? AND session = ? AND first < ? ORDER BY first DESC LIMIT 1",
        (arrival.head.tenant, receipts.signed(of.session), stop),
    ).fetchone()
    # ranges of one session never overlap, so the last one that begins below `stop` decides
    if row is None or row[0] + row[1] <= of.first:
        return None
    first, count, digest, position, receipt = row
    if first != of.first or count != of.count or digest != arrival.hash:
        raise IdConflict(
            f"ids {of.first} to {stop - 1} of session {of.session:016x} were used before"
            " with other content"
        )
    skipped, parked = receipts.unpack(receipt)
    return Receipt(position, count, True, skipped, parked)


def _admit(txn: Txn, arrival: Arrival, rules: Rules) -> None:
    """Raise if a frame that is new must not come in now."""
    age = rules.now - arrival.head.at
    if age > rules.resend_window_ms // 2:
        raise OutcomeUnknown("the frame is too old to tell whether it was accepted: ask by id")
    if -age > rules.resend_window_ms // 2:
        # its ids might be forgotten before it looks old
        raise InvalidRequest("the frame was made in the future: check the client's clock")
    if rules.full:
        raise StoreFull(retry_after=1.0)
    if txn.open + arrival.of.count > rules.queue_bound:
        raise Overloaded(
            f"the shard holds {txn.open} open tasks of at most {rules.queue_bound}",
            retry_after=rules.retry_after,
            queue_bound=rules.queue_bound,
        )


def accept(
    txn: Txn, arrival: Arrival, now: int, skipped: tuple[Skipped, ...] | None = None
) -> Receipt:
    """Write a new frame."""
    of, columns = arrival.of, arrival.columns
    position = txn.next_position
    if skipped is None:  # a replay brings its own answer
        skipped = idempotency.apply(txn, arrival.claims, of, position, now)
    parked: tuple[int, ...] = ()
    if columns is not None:
        away = {skip.index for skip in skipped}
        if columns.not_before is not None:
            parked = tuple(
                index
                for index, due in enumerate(columns.not_before)
                if due > now and index not in away
            )
            schedule.park_new(txn, arrival.frame, position, parked)
        if columns.tags is not None:
            txn.executemany(
                "INSERT INTO tags VALUES (?, ?) ON CONFLICT DO NOTHING",
                [
                    (tag, position + index)
                    for index, tags in enumerate(columns.tags)
                    if index not in away
                    for tag in tags
                ],
            )
    _write(txn, arrival, now, skipped, parked)
    return Receipt(position, of.count, False, skipped, parked)


def _write(
    txn: Txn, arrival: Arrival, now: int, skipped: tuple[Skipped, ...], parked: tuple[int, ...]
) -> None:
    of, head, frame = arrival.of, arrival.head, arrival.frame
    position = txn.next_position
    txn.execute(
        "INSERT INTO commands VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, ?)",
        (
            position, of.count, head.tenant, receipts.signed(of.session), of.first, head.type,
            head.priority, of.flags, now, arrival.hash, receipts.pack(skipped, parked),
            head.replay_of, frame,
        ),
    )  # fmt: skip
    runs = of.count - len(skipped)
    if runs:
        skips = receipts.skips(skipped, of.count)
        flags = of.flags | (command.OPTIONS if head.options else 0)
        txn.execute(
            "INSERT INTO open_frames VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                position, of.count, runs, len(frame), flags, head.type, head.tenant,
                head.priority, skips,
            ),
        )  # fmt: skip
    txn.next_position += of.count
    txn.open += runs
    txn.tasks += runs
    txn.bytes += len(frame)
    txn.wrote(arrival.hash)
