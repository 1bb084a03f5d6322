"""Parcels: tasks on their way into a frame, and how parcels of many callers share frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from chimera.client.options import Kind
from chimera.client.ports import NoOwner, Promise
from chimera.client.session import Session
from chimera.errors import (
    ChimeraError,
    Fenced,
    NotOwner,
    NotReady,
    OutcomeUnknown,
    Overloaded,
    StoreFull,
    StoreRefused,
)
from chimera.frames import command, ids
from chimera.store.protocol import Receipt, Skipped

#: frames in one call: more share Ray's fixed cost, each stays under its inline limit
FRAMES_MAX = 8
#: bytes that a task costs in a frame besides its payload, at most, if it has no column of its own
TASK_BYTES = 12
#: room for the header and for what lies around the columns
FRAME_BYTES = 256


@dataclass(frozen=True, slots=True)
class Accepted:
    """Tasks that are durable now: their ids and where they stand in their shard."""

    session: int
    shard: int
    first: int  #: counter of the first one's id
    count: int
    position: int  #: of the first one in its shard
    #: those that will not run: duplicates and refused ones; indices count from the first
    skipped: tuple[Skipped, ...] = ()


@dataclass(slots=True, eq=False)
class Parcel:
    """Tasks that one caller hands over together; they stay together and in order."""

    kind: Kind
    payloads: list[bytes]
    columns: command.Columns | None
    #: wait and send again while the shard is full, rather than refuse
    blocking: bool
    #: when to give up, seconds of the engine's clock
    until: float
    #: a bulk's: the time to give up is counted in seconds from when it was sent, or was last told
    #: that its shard is full; None: `until` stands
    patience_s: float | None = None
    promise: Promise[Accepted] = field(default_factory=Promise)
    #: bytes in a frame, at most
    size: int = 0
    #: where its ids are, once it is in a frame: (session, shard, counter of the first)
    placed: ids.TaskKey | None = None

    def __post_init__(self) -> None:
        self.size = sum(map(len, self.payloads)) + TASK_BYTES * len(self.payloads)
        if self.columns is not None:
            self.size += column_bytes(self.columns)

    def ids(self, limit: int = command.COUNT_MAX) -> list[str]:
        """The ids of its tasks, once it has a place; at most `limit`."""
        if self.placed is None:
            return []
        session, shard, first = self.placed
        count = min(len(self.payloads), limit)
        return [ids.format_id(session, shard, first + i) for i in range(count)]

    def unknown(self, why: str = "") -> OutcomeUnknown:
        """What to tell its caller when nobody knows whether it was accepted (P13)."""
        named = self.ids()
        return OutcomeUnknown(
            f"{len(self.payloads)} task(s) may or may not have been accepted: ask by id, "
            f"first {named[0] if named else 'unsent'}" + (f" ({why})" if why else ""),
            ids=named,
        )


#: refusals that say that nothing was written
_UNTOUCHED = (Fenced, NoOwner, NotOwner, NotReady, Overloaded, StoreFull, StoreRefused)


@dataclass(slots=True, eq=False)
class Frame:
    """A frame with the parcels that are in it; its bytes never change once sent (P11)."""

    data: bytes
    count: int
    parcels: list[Parcel]
    #: some call with it got no answer, or none that says what was written: it may be accepted
    unsure: bool = False
    #: the last refusal
    refusal: ChimeraError | None = None
    #: why the last call got no answer, for a person
    silence: str = ""

    @property
    def until(self) -> float:
        return max(parcel.until for parcel in self.parcels)

    @property
    def blocking(self) -> bool:
        return self.parcels[0].blocking

    def refuse(self, refusal: ChimeraError) -> None:
        """It was not accepted; or the journal could not say whether it was (P22)."""
        self.refusal = refusal
        if not isinstance(refusal, _UNTOUCHED):
            self.unsure, self.silence = True, str(refusal)

    def renew(self, now: float) -> None:
        """It is sent, or its shard was full: bulks wait on from here."""
        for parcel in self.parcels:
            if parcel.patience_s is not None:
                parcel.until = now + parcel.patience_s

    def accept(self, receipt: Receipt) -> None:
        """Tell each parcel its part of the receipt."""
        start = 0
        for parcel in self.parcels:
            count = len(parcel.payloads)
            skipped = tuple(
                Skipped(one.index - start, one.task_id, one.error)
                for one in receipt.skipped
                if start <= one.index < start + count
            )
            if parcel.placed is not None:
                place = parcel.placed
                position = receipt.position + start
                parcel.promise.keep(Accepted(*place, count, position, skipped))
            start += count

    def give_up(self) -> None:
        """Its time is over: unknown if it may have been accepted, else what refused it last."""
        for parcel in self.parcels:
            if self.unsure or self.refusal is None:
                parcel.promise.fail(parcel.unknown(self.silence))
            else:
                parcel.promise.fail(self.refusal)

    def fail(self, fault: ChimeraError) -> None:
        for parcel in self.parcels:
            parcel.promise.fail(fault)


def column_bytes(columns: command.Columns) -> int:
    """Bytes of the columns in a frame, at most; what every task has is in `TASK_BYTES`."""
    size = 0
    for texts in (columns.keys, columns.idempotency):
        size += sum(texts_bytes([text for text in texts or () if text is not None]))
    for times in (columns.not_before, columns.deadline):
        size += 9 * len(times or ())
    for tags in columns.tags or ():
        size += 5 + sum(map(text_bytes, tags))
    return size + 5 * len(columns.claims or ())


def text_bytes(text: str) -> int:
    """Bytes of a text in a column, at most."""
    return 5 + (len(text) if text.isascii() else 4 * len(text))


def texts_bytes(texts: list[str]) -> list[int]:
    """Bytes of each text in a column, at most."""
    if "".join(texts).isascii():  # looked at once: most keys are, and there may be many
        return [5 + len(text) for text in texts]
    return [text_bytes(text) for text in texts]


def draw(queue: deque[Parcel], session: Session, shard: int, ordered: bool) -> list[Frame]:
    """Take parcels from the front of the queue into the frames of one call.

    Parcels of the same kind share a frame; with `ordered` only neighbours do, so that frames one
    after the other hold the tasks in the order of the queue.
    """
    groups: list[list[Parcel]] = []
    sizes: list[tuple[int, int]] = []
    latest: dict[tuple[bytes, bool], int] = {}
    while queue:
        parcel = queue[0]
        kind = (parcel.kind.token, parcel.blocking)
        at = latest.get(kind)
        if at is not None and ordered and at != len(groups) - 1:
            at = None
        if at is not None:
            count = sizes[at][0] + len(parcel.payloads)
            size = sizes[at][1] + parcel.size
            if count <= command.COUNT_MAX and size <= command.BYTES_MAX:
                groups[at].append(queue.popleft())
                sizes[at] = (count, size)
                continue
        if len(groups) == FRAMES_MAX:
            break
        latest[kind] = len(groups)
        groups.append([queue.popleft()])
        sizes.append((len(parcel.payloads), parcel.size + parcel.kind.size + FRAME_BYTES))
    return [_pack(group, session, shard) for group in groups]


def _pack(parcels: list[Parcel], session: Session, shard: int) -> Frame:
    if len(parcels) == 1:
        payloads = parcels[0].payloads
    else:
        payloads = [payload for parcel in parcels for payload in parcel.payloads]
    bits, first = session.take(shard, len(payloads))
    at = first
    for parcel in parcels:
        parcel.placed = ids.TaskKey(bits, shard, at)
        at += len(parcel.payloads)
    data = command.pack(bits, shard, first, parcels[0].kind.head(), payloads, join(parcels))
    return Frame(data, len(payloads), parcels)


def join(parcels: Iterable[Parcel]) -> command.Columns | None:
    """The columns of parcels in one frame."""
    parcels = list(parcels)
    if len(parcels) == 1 or all(parcel.columns is None for parcel in parcels):
        return parcels[0].columns

    def column(name: str, empty: Any) -> list[Any] | None:
        parts = [(getattr(one.columns, name, None), len(one.payloads)) for one in parcels]
        if all(part is None for part, _ in parts):
            return None
        return [value for part, n in parts for value in (part or [empty] * n)]

    claims: list[int] = []
    start = 0
    for parcel in parcels:
        if parcel.columns is not None:
            claims += [start + index for index in parcel.columns.claims or ()]
        start += len(parcel.payloads)
    return command.Columns(
        keys=column("keys", None),
        idempotency=column("idempotency", None),
        not_before=column("not_before", 0),
        deadline=column("deadline", 0),
        tags=column("tags", []),
        claims=claims or None,
    )
