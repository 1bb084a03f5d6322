"""Which worker gets what next."""

from __future__ import annotations

from collections.abc import Iterable

from chimera.frames import outcome
from chimera.frames.outcome import Failure
from chimera.swarm.leader.drafts import Drafts
from chimera.swarm.leader.effects import Effect, Item, Send
from chimera.swarm.leader.events import Instant
from chimera.swarm.leader.ready import Piece
from chimera.swarm.leader.state import (
    FLIGHT_BYTES_MAX,
    FLIGHT_ITEMS_MAX,
    FLIGHT_S,
    FLIGHT_TASKS_MAX,
    FLIGHTS_MAX,
    GROWTH,
    PENDING_MAX,
    Flight,
    Shard,
    State,
    Worker,
)
from chimera.swarm.limits import Bucket, rate_share, running_share


def fill(state: State, now: Instant) -> list[Effect]:
    """Give work to every worker that has room, as long as there is any."""
    out: list[Effect] = []
    unfit: set[str] = set()
    while state.ready.tasks and len(state.pending) < PENDING_MAX:
        worker = _least_loaded(state, unfit)
        if worker is None:
            break
        effects = _load(state, worker, now)
        if effects:
            out += effects
        elif worker.lacks:
            unfit.add(worker.name)  # another one may run what waits
        else:
            break
    return out


def _least_loaded(state: State, unfit: set[str]) -> Worker | None:
    best: Worker | None = None
    least = 0.0
    away = {name for shard in state.shards.values() for name in shard.abroad()}
    for worker in state.workers.values():
        going = worker.killing or worker.leaving or worker.retiring
        if not worker.ready or going or worker.name in away or worker.name in unfit:
            continue
        load = worker.outstanding_s
        if worker.flights and (len(worker.flights) >= FLIGHTS_MAX or load > 2 * FLIGHT_S):
            continue
        if best is None or load < least:
            best, least = worker, load
    return best


class _Room:
    """What a flight in the making still takes."""

    def __init__(self, state: State, first: bool) -> None:
        self.state = state
        self.first = first  #: the worker has nothing else: at least one task goes
        self.pieces: list[Piece] = []
        self.tasks = 0
        self.seconds = 0.0
        self.bytes = 0
        self.suspect = False

    def __call__(self, piece: Piece, cost_s: float) -> int:
        """How many tasks of a piece fit."""
        if self.suspect or len(self.pieces) >= FLIGHT_ITEMS_MAX:
            return 0
        shard = self.state.shards[piece.shard]
        if shard.suspects and piece.first in shard.suspects:
            return 1 if not self.pieces and self.first else 0
        width = piece.policy.concurrency
        fits = int((FLIGHT_S - self.seconds) / cost_s)
        if not self.pieces:
            fits = max(fits, width)
        kind = self.state.types.get(piece.policy.type)
        measured = kind.samples if kind else 0
        fits = min(
            fits,
            FLIGHT_TASKS_MAX - self.tasks,
            (FLIGHT_BYTES_MAX - self.bytes) // max(1, piece.task_bytes),
            GROWTH * measured or width,
        )
        if not self.pieces:
            fits = max(fits, 1)
        if shard.suspects:
            fits = _before_suspect(shard, piece, fits)
        return fits

    def add(self, piece: Piece, cost_s: float) -> None:
        self.pieces.append(piece)
        self.tasks += piece.count
        self.seconds += piece.count * cost_s
        self.bytes += piece.count * piece.task_bytes
        self.suspect = piece.first in self.state.shards[piece.shard].suspects


def _before_suspect(shard: Shard, piece: Piece, count: int) -> int:
    """Cut a count so that it ends before the first suspect task."""
    for position in range(piece.first, min(piece.stop, piece.first + count)):
        if position in shard.suspects:
            return position - piece.first
    return count


def _load(state: State, worker: Worker, now: Instant) -> list[Effect]:
    """Make one flight for a worker."""
    drafts = Drafts(state)
    room = _Room(state, first=not worker.flights)
    mine: dict[int, set[str]] = {}

    def cost_s(piece: Piece) -> float:
        return state.type(piece.policy.type).cost_s / piece.policy.concurrency

    def allowed(piece: Piece) -> int:
        return 0 if piece.policy.type in worker.lacks else admit(state, piece, now)

    for pulled in state.ready.pull(allowed, cost_s, room):
        shard = state.shards[pulled.shard]
        for fit in _screen(shard, pulled, drafts, now):
            # a worker runs one task after the other, in order, unless told otherwise
            in_turn = fit.policy.concurrency == 1
            keys = mine.setdefault(shard.number, set()) if in_turn else set()
            parts = shard.keys.claim(fit, keys, now.mono) if fit.keys is not None else (fit,)
            for part in parts:
                room.add(part, cost_s(part))
                _charge(state, part, part.count)
    out = drafts.effects()
    if room.pieces:
        state.flights += 1
        for piece in room.pieces:
            of_class = piece.policy.of_class
            state.count(f"started@{of_class}/{piece.policy.type}", piece.count)
            if piece.since and piece.attempt == 1:
                state.queue[of_class].add(now.mono - piece.since, piece.count)
                state.exemplify(f"queue/{of_class}", piece, now.mono - piece.since, now)
        flight = Flight(state.flights, room.pieces, room.tasks, room.seconds, now.mono)
        worker.flights[flight.number] = flight
        recorded, worker.recorded = tuple(worker.recorded), []
        items = tuple(
            Item(
                piece.shard, state.shards[piece.shard].epoch, piece.attempt,
                piece.frame, piece.first, piece.stop, piece.from_schedule,
            )
            for piece in room.pieces
        )  # fmt: skip
        out.append(Send(worker.name, flight.number, recorded, items))
    return out


def _screen(shard: Shard, piece: Piece, drafts: Drafts, now: Instant) -> Iterable[Piece]:
    """A piece without the tasks whose deadline has passed.

    Those with keys stand in their keys' order: a look at all that waits takes them out of it, or
    their worker judges.
    """
    if piece.deadlines is None or piece.keys is not None:
        return (piece,)
    out: list[Piece] = []
    for position in range(piece.first, piece.stop):
        deadline = piece.deadlines[position - piece.frame]
        if 0 < deadline <= now.unix_ms:
            draft = drafts.of(shard.number)
            if draft is not None:
                draft.end(position, outcome.EXPIRED, piece.attempt - 1, EXPIRED_BODY, piece.policy)
        elif out and out[-1].stop == position:
            out[-1].stop += 1
        else:
            out.append(piece.part(position, position + 1))
    return out


#: characters of a reason that are told
REASON_MAX = 1000


def cancelled_body(reason: str) -> bytes:
    """What is told of a task that was cancelled while it waited."""
    told = reason[:REASON_MAX].encode(errors="replace").decode()  # JSON has no half characters
    message = "cancelled before it ran" + (f": {told}" if told else "")
    return outcome.encode_failure(Failure("chimera.TaskCancelled", message, retryable=False))


EXPIRED_BODY = outcome.encode_failure(
    Failure("chimera.TaskExpired", "the deadline passed before the task could run", retryable=False)
)


def admit(state: State, piece: Piece, now: Instant) -> int:
    """How many tasks of a piece the limits of its type allow now."""
    shard = state.shards[piece.shard]
    if shard.refused or shard.finishing or state.is_paused(piece):
        return 0
    if piece.keys is not None and not piece.forced and shard.keys.held.get(piece.tenant):
        return 0
    policy = piece.policy
    if policy.max_running is None and policy.rate_per_s is None:
        return piece.count
    kind = state.type(policy.type)
    allowed = piece.count
    running = running_share(policy, state.shards, state.ring)
    if running is not None:  # tasks that have no share must come to their end too
        allowed = min(allowed, max(1, running) - kind.flying)
    rate = rate_share(policy, state.shards, state.ring)
    if rate is not None and policy.rate_per_s is not None:
        rate = rate or policy.rate_per_s / state.ring
        burst = float(policy.rate_burst or max(1.0, policy.rate_per_s))
        burst = max(1.0, burst * rate / policy.rate_per_s)
        if kind.bucket is None:
            kind.bucket = Bucket(rate, burst, at=now.mono)
        elif kind.bucket.rate != rate or kind.bucket.burst != burst:
            kind.bucket.reshape(rate, burst, now.mono)
        allowed = min(allowed, kind.bucket.available(now.mono))
    return max(0, allowed)


def _charge(state: State, piece: Piece, count: int) -> None:
    policy = piece.policy
    if policy.max_running is not None:
        state.type(policy.type).flying += count
    bucket = state.type(policy.type).bucket if policy.rate_per_s is not None else None
    if bucket is not None:
        bucket.spend(count)


def land(state: State, flight: Flight) -> None:
    """A flight is over: its tasks no longer count against a concurrency limit."""
    if flight.void:
        return
    for piece in flight.pieces:
        if piece.policy.max_running is not None:
            kind = state.type(piece.policy.type)
            kind.flying = max(0, kind.flying - piece.count)


def unhold(state: State, shard: Shard, now: Instant, patience_s: float | None = None) -> None:
    """Keyed pieces that were held back are tried again."""
    for piece in reversed(shard.keys.unhold(now.mono, patience_s)):
        state.ready.push(piece, front=True)


def reopen(state: State, drafts: Drafts, pieces: Iterable[Piece]) -> None:
    """Tasks whose flight is over and that did not run wait again, but for those cancelled in it.

    A worker that was told to cancel them has forgotten that with the flight (P9).
    """
    give_back(state, without_cancelled(state, drafts, pieces))


def without_cancelled(state: State, drafts: Drafts, pieces: Iterable[Piece]) -> list[Piece]:
    """Of tasks that did not run, those that still are to: the others end as cancelled."""
    kept: list[Piece] = []
    for piece in pieces:
        shard = state.shards.get(piece.shard)
        marks = shard.cancelling if shard is not None else {}
        at = piece.first
        for position in sorted(p for p in marks if piece.first <= p < piece.stop):
            draft = drafts.of(piece.shard)
            assert draft is not None
            body = cancelled_body(marks[position])
            draft.end(position, outcome.CANCELLED, piece.attempt - 1, body, piece.policy)
            if position > at:
                kept.append(piece.part(at, position))
            at = position + 1
        if at < piece.stop:
            kept.append(piece if at == piece.first else piece.part(at, piece.stop))
    return kept


def give_back(state: State, pieces: Iterable[Piece]) -> None:
    """Tasks that were dispatched and did not run are first in their queues again."""
    for piece in sorted(pieces, key=lambda p: (p.shard, p.first), reverse=True):
        shard = state.shards.get(piece.shard)
        if shard is None or shard.phase == "releasing":
            continue
        if piece.keys is None:
            state.ready.push(piece, front=True)
        else:
            for part in reversed(shard.keys.give_back(piece)):
                state.ready.push(part, front=True)
