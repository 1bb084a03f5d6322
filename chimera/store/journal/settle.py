"""Recording outcomes: per still-open task, a few statements a frame where nothing deviates (P8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from chimera.errors import NotFound
from chimera.frames import outcome
from chimera.store.journal import receipts, schedule, states
from chimera.store.journal.txn import Txn
from chimera.store.protocol import Park, Settled, Settlement, Single

#: longest reason kept in the table of dead letters, characters; the whole is in the outcome
_REASON_MAX = 300
_FINAL = bytes((outcome.SUCCEEDED, outcome.FAILED, outcome.CANCELLED, outcome.EXPIRED))


@dataclass(slots=True)
class Part:
    """An outcome frame, checked outside the transaction."""

    frame: bytes
    of: outcome.Header
    states: bytes
    whole: bool  #: no task is left open


def prepare(frame: bytes, shard: int) -> Part:
    """Check an outcome frame. Raises CorruptFrame, ValueError for a state that is never stored."""
    of = outcome.verify(frame)
    if of.shard != shard:
        raise ValueError(f"an outcome frame of shard {of.shard} for shard {shard}")
    found = outcome.states(frame, of)
    if found.strip(_FINAL + b"\0"):
        raise ValueError("an outcome frame with states that are never stored")
    return Part(frame, of, found, 0 not in found)


@dataclass(slots=True)
class _Open:
    """A command frame with open tasks, as this settlement has changed it so far."""

    position: int
    count: int
    open: int
    skips: bytes | None
    #: read when first asked for; None while every task is known to be open
    states: bytearray | None = None

    @property
    def stop(self) -> int:
        return self.position + self.count


def settle(txn: Txn, given: Settlement, parts: list[Part], now: int) -> Settled:
    """Record it all; what has an outcome already keeps it."""
    work = _Work(txn, now)
    for part in parts:
        work.frame(part)
    for single in given.singles:
        work.single(single)
    work.park(given.parks)
    work.finish()
    return Settled(work.recorded, work.already)


class _Work:
    """One settlement in progress."""

    def __init__(self, txn: Txn, now: int) -> None:
        self.recorded = 0
        self.already = 0
        self._txn = txn
        self._now = now
        self._open: dict[int, _Open] = {}
        self._near: _Open | None = None  #: the one that was asked for last
        self._cutters: dict[int, schedule.Cutter] = {}
        self._dead: list[tuple[int, int, str]] = []
        self._singles: list[tuple[int, int, int, int, int, bytes]] = []

    def frame(self, part: Part) -> None:
        of = part.of
        if part.whole and of.position not in self._open:
            # the usual case: all tasks of a command frame, and all of them open
            gone = self._txn.execute(
                "DELETE FROM open_frames WHERE position = ? AND count = ? AND open = ?",
                (of.position, of.count, of.count),
            )
            if gone.rowcount:
                self._insert(part.frame, of, part.states)
                return
        self.already += of.count - part.states.count(outcome.OPEN)
        for known in self._overlapping(of.position, of.position + of.count):
            self._piece(part, known)

    def _piece(self, part: Part, known: _Open) -> None:
        """Record what an outcome frame says of one command frame's open tasks."""
        shift = part.of.position
        start, stop = max(known.position, shift), min(known.stop, shift + part.of.count)
        have = self._states(known)[start - known.position : stop - known.position]
        said = part.states[start - shift : stop - shift]
        taken = len(have) - have.count(outcome.OPEN)
        fresh = (
            bytes(0 if old else new for old, new in zip(have, said, strict=True)) if taken else said
        )
        count = len(fresh) - fresh.count(outcome.OPEN)
        if not count:
            return
        frame = outcome.cut(part.frame, start - shift, stop - shift)
        if fresh != said:
            masked = {index: outcome.OPEN for index, old in enumerate(have) if old}
            frame = outcome.restate(frame, masked)
        self._mark(known, start, fresh)
        self.already -= count
        self._insert(frame, outcome.header(frame), fresh)

    def single(self, single: Single) -> None:
        if single.state not in _FINAL:
            raise ValueError(f"state {single.state} is no outcome")
        known = self._find_open(single.position)
        if known is None:
            self.already += 1
            return
        txn = self._txn
        self._singles.append((
            single.position, txn.next_seq(), single.state, single.attempts, self._now,
            single.body,
        ))  # fmt: skip
        fresh = bytes((single.state,))
        self._mark(known, single.position, fresh)
        if single.state == outcome.FAILED:
            self._bury(single.position, single.body)
        self.recorded += 1
        txn.open -= 1
        txn.bytes += len(single.body)
        txn.wrote(fresh, single.body)

    def park(self, parks: Sequence[Park]) -> None:
        # a task that was settled meanwhile needs no further attempt
        wanted = [park for park in parks if self._find_open(park.position) is not None]
        if wanted:
            schedule.park(self._txn, wanted, self._cutter)
            self._txn.wrote(*(park.due.to_bytes(8, "little") for park in wanted))

    def finish(self) -> None:
        """Write single outcomes and dead letters, and how many tasks are left open."""
        if self._singles:
            self._txn.executemany("INSERT INTO singles VALUES (?, ?, ?, ?, ?, ?)", self._singles)
            positions = {row[0] for row in self._singles}
            self._tidy(min(positions), max(positions) + 1, positions)
        if self._dead:
            self._txn.executemany("INSERT INTO dead VALUES (?, ?, ?, NULL)", self._dead)
            self._txn.dead += len(self._dead)
        for known in self._open.values():
            if known.open:
                self._txn.execute(
                    "UPDATE open_frames SET open = ? WHERE position = ?",
                    (known.open, known.position),
                )
            else:
                self._txn.execute("DELETE FROM open_frames WHERE position = ?", (known.position,))

    def _insert(self, frame: bytes, of: outcome.Header, fresh: bytes) -> None:
        """Write an outcome row and what follows from it."""
        txn = self._txn
        succeeded = fresh.count(outcome.SUCCEEDED)
        txn.execute(
            "INSERT INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                txn.next_seq(), of.position, of.count, of.attempt, self._now,
                None if succeeded == of.count else fresh, frame,
            ),
        )  # fmt: skip
        if succeeded != of.count:
            index = fresh.find(outcome.FAILED)
            while index >= 0:
                self._bury(of.position + index, outcome.body(frame, index)[1])
                index = fresh.find(outcome.FAILED, index + 1)
        if of.flags & outcome.COLUMNS:
            self._keep_snapshots(frame, of, fresh)
        self._after(of.position, fresh)
        txn.bytes += len(frame)
        txn.wrote(frame[: outcome.HEADER_BYTES])  # has the checksum of the rest

    def _after(self, position: int, fresh: bytes) -> None:
        """Drop what only an open task has."""
        txn = self._txn
        settled = len(fresh) - fresh.count(outcome.OPEN)
        self.recorded += settled
        txn.open -= settled
        if txn.scheduled or txn.cancelling:
            ended = {position + index for index, state in enumerate(fresh) if state}
            self._tidy(position, position + len(fresh), ended)

    def _tidy(self, start: int, stop: int, ended: set[int]) -> None:
        """Drop what is parked, and close what is cancelled, of tasks in [start, stop)."""
        txn = self._txn
        if txn.scheduled:
            schedule.unpark(txn, start, stop, ended)
        if txn.cancelling:
            rows = txn.execute(
                "SELECT position FROM cancels WHERE position >= ? AND position < ? AND open = 1",
                (start, stop),
            ).fetchall()
            if gone := [row for row in rows if row[0] in ended]:
                txn.executemany("UPDATE cancels SET open = 0 WHERE position = ?", gone)
                txn.cancelling -= len(gone)

    def _bury(self, position: int, body: bytes) -> None:
        self._dead.append((position, self._now, reason(body)))

    def _keep_snapshots(self, frame: bytes, of: outcome.Header, fresh: bytes) -> None:
        """Store the states that handlers left for keys, the last one of a key."""
        snapshots = sorted((outcome.columns(frame, of).snapshots or {}).items())
        if not snapshots:
            return
        cutter, start = self._cutter(of.position)
        for index, value in snapshots:
            if not fresh[index]:
                continue
            key = cutter.key(of.position + index - start)
            if key is None:
                continue
            self._txn.execute(
                "INSERT INTO snapshots VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (tenant, type, key) DO UPDATE SET"
                " position = excluded.position, value = excluded.value",
                (cutter.head.tenant, cutter.head.type, key, of.position + index, value),
            )
            self._txn.bytes += len(value)

    def _cutter(self, position: int) -> tuple[schedule.Cutter, int]:
        """The command frame that holds a position, decoded once, and where it starts."""
        for start, known in self._cutters.items():
            if start <= position < start + known.of.count:
                return known, start
        start, frame = schedule.read_command(self._txn.execute, position)
        if start not in self._cutters:
            self._cutters[start] = schedule.Cutter(frame)
        return self._cutters[start], start

    def _overlapping(self, start: int, stop: int) -> list[_Open]:
        """Command frames with open tasks that touch [start, stop)."""
        found = []
        first = self._covering(start)
        if first is not None:
            found.append(first)
        if first is None or first.stop < stop:
            rows = self._txn.execute(
                "SELECT position, count, open, skips FROM open_frames"
                " WHERE position > ? AND position < ?",
                (start, stop),
            ).fetchall()
            found += [self._open.setdefault(row[0], _Open(*row)) for row in rows]
        return found

    def _covering(self, position: int) -> _Open | None:
        if self._near is not None and self._near.position <= position < self._near.stop:
            return self._near
        row = self._txn.execute(
            "SELECT position, count, open, skips FROM open_frames WHERE position <= ?"
            " ORDER BY position DESC LIMIT 1",
            (position,),
        ).fetchone()
        if row is None or row[0] + row[1] <= position:
            return None
        self._near = self._open.setdefault(row[0], _Open(*row))
        return self._near

    def _find_open(self, position: int) -> _Open | None:
        """The frame of a task, if the task is open."""
        known = self._covering(position)
        if known is None or self._states(known)[position - known.position]:
            return None
        return known

    def _states(self, known: _Open) -> bytearray:
        if known.states is None:
            if known.open == known.count:
                known.states = bytearray(known.count)
            else:
                known.states = states.load(
                    self._txn.execute, known.position, known.count, known.skips
                )
        return known.states

    def _mark(self, known: _Open, start: int, fresh: bytes) -> None:
        """Note that tasks from `start` on have the states `fresh`."""
        have = self._states(known)
        for index, state in enumerate(fresh, start - known.position):
            if state:
                have[index] = state
        known.open -= len(fresh) - fresh.count(outcome.OPEN)


def reason(body: bytes) -> str:
    """One line on why a task failed."""
    try:
        failure = outcome.decode_failure(body)
    except msgspec.MsgspecError:
        return ""
    # PostgreSQL keeps no NUL, and an exception's message may well have one
    return f"{failure.error}: {failure.message}"[:_REASON_MAX].replace("\0", " ")


def cancel(txn: Txn, position: int, why: str, now: int) -> int:
    """Write the intent to cancel an open task (P9); its state, OPEN if it is one."""
    row = txn.execute(
        "SELECT position, count, receipt FROM commands"
        " WHERE position <= ? AND swept IS NULL ORDER BY position DESC LIMIT 1",
        (position,),
    ).fetchone()
    if row is None or row[0] + row[1] <= position:
        raise NotFound(f"no task at position {position}")
    start, count, receipt = row
    skips = receipts.skips(receipts.unpack(receipt)[0], count)
    have = states.load(txn.execute, start, count, skips)
    state = have[position - start]
    if state == states.SKIPPED:
        raise NotFound(f"the task at position {position} was skipped")
    if state == outcome.OPEN:
        added = txn.execute(
            "INSERT INTO cancels VALUES (?, ?, ?, 1) ON CONFLICT DO NOTHING", (position, now, why)
        )
        if added.rowcount:
            txn.cancelling += 1
            txn.wrote(position.to_bytes(8, "little"))
    return int(state)
