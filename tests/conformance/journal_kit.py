"""Frames, outcomes and openers with which journals are tested."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from zlib import crc32

from chimera.errors import ChimeraError
from chimera.frames import command, ids, outcome
from chimera.store.protocol import Journal, Receipt, Settlement, Single
from chimera.swarm.reports import Owner

SHARD = 3
NOW = 1_800_000_000_000
DAY = 86_400_000
BOUND = 1_000_000
ME = Owner("leader/local/0", "boot", 1, 100, 2000, "node")
OTHER = replace(ME, name="leader/local/1", pid=101)
OK = outcome.SUCCEEDED
FAILED = outcome.FAILED
CANCELLED = outcome.CANCELLED
EXPIRED = outcome.EXPIRED
OPEN = outcome.OPEN
FAILURE = outcome.encode_failure(outcome.Failure("builtins.ValueError", "no such file"))


class Bench:
    """Where the journals of one shard lie; everything opened here is closed at the end."""

    def __init__(self, opener: Callable[..., Journal]) -> None:
        self._opener = opener
        self._opened: list[Journal] = []

    def open(self, **options: Any) -> Any:
        journal = self._opener(**options)
        self._opened.append(journal)
        return journal

    def owned(self, **options: Any) -> Any:
        """Opened and taken."""
        journal = self.open(**options)
        journal.take(journal.owner()[0], ME)
        return journal

    def close(self) -> None:
        for journal in self._opened:
            journal.close()


def frame(
    first: int = 0,
    count: int = 3,
    *,
    session: int = 7,
    head: command.Head | None = None,
    payloads: Sequence[bytes] | None = None,
    shard: int = SHARD,
    **columns: Any,
) -> bytes:
    """A command frame with the ids (session, first …)."""
    return command.pack(
        session,
        shard,
        first,
        head or command.Head("t", at=NOW),
        payloads or [b'{"n": %d}' % (first + index) for index in range(count)],
        command.Columns(**columns) if columns else None,
    )


def resealed(blob: bytes) -> bytes:
    """The same bytes with the checksum that a careless client would put on them."""
    at = command.HEADER_BYTES - 4
    check = crc32(blob[at + 4 :], crc32(blob[:at]))
    return blob[:at] + check.to_bytes(4, "little") + blob[at + 4 :]


def ended(position: int, states: Sequence[int], **options: Any) -> bytes:
    """An outcome frame for the tasks from `position` on; a task's body names its position."""
    bodies = [
        FAILURE if state == FAILED else b"%d" % (position + index)
        for index, state in enumerate(states)
    ]
    bodies = options.pop("bodies", bodies)
    return outcome.pack(SHARD, 1, position, bytes(states), bodies, **options)


def task_id(counter: int, session: int = 7) -> str:
    return ids.format_id(session, SHARD, counter)


def accept(journal: Journal, *frames: bytes, now: int = NOW, bound: int = BOUND) -> list[Receipt]:
    """Append frames that must all be accepted."""
    return accepted(journal.append(frames, now, bound))


def accepted(answers: Sequence[Receipt | ChimeraError]) -> list[Receipt]:
    """The receipts of frames that must all be accepted."""
    return [answer for answer in answers if not _refused(answer)]


def _refused(answer: Receipt | ChimeraError) -> bool:
    if isinstance(answer, ChimeraError):
        raise answer
    return False


def refusal(journal: Journal, refused: bytes, now: int = NOW, bound: int = BOUND) -> ChimeraError:
    """Append one frame that must be refused."""
    (answer,) = journal.append([refused], now, bound)
    assert isinstance(answer, ChimeraError), answer
    return answer


def settle(journal: Journal, *frames: bytes, now: int = NOW, **rest: Any) -> tuple[int, int]:
    """(recorded, already) of a settlement."""
    done = journal.settle(Settlement(frames=frames, **rest), now)
    return done.recorded, done.already


def single(position: int, state: int = OK, attempts: int = 1, body: bytes = b"1") -> Single:
    return Single(position, state, attempts, FAILURE if state == FAILED else body)


def fates(journal: Journal, start: int, stop: int) -> dict[int, tuple[int, bytes]]:
    """State and body by position, as `outcomes` tells them; a task must be in there once (G2)."""
    found: dict[int, tuple[int, bytes]] = {}

    def note(position: int, state: int, body: bytes) -> None:
        assert position not in found, f"two outcomes for {position}"
        found[position] = (state, body)

    reply = journal.outcomes([(start, stop)], 1 << 30)
    for blob in reply.frames:
        of = outcome.verify(blob)
        assert of.bad == of.count - outcome.states(blob).count(OK)
        for index in range(of.count):
            state, body = outcome.body(blob, index)
            if state != OPEN and start <= of.position + index < stop:
                note(of.position + index, state, body)
    for one in reply.singles:
        note(one.position, one.state, one.body)
    return found


def states(journal: Journal, start: int, stop: int) -> list[int]:
    """State by position, OPEN where there is none."""
    found = fates(journal, start, stop)
    return [found[at][0] if at in found else OPEN for at in range(start, stop)]


def opened(journal: Journal) -> list[tuple[int, tuple[tuple[int, int], ...]]]:
    """Position and open runs of what a new owner would find."""
    return [(found.position, found.open) for found in journal.recover().open]
