"""The leader's workers: what they hand in, how long they may take, what their death costs."""

from __future__ import annotations

from collections.abc import Sequence

from chimera.frames import outcome
from chimera.frames.outcome import Failure
from chimera.swarm.leader import dispatch, overstay
from chimera.swarm.leader.adoption import on_stranger_lost
from chimera.swarm.leader.drafts import Drafts
from chimera.swarm.leader.effects import (
    Collect,
    Effect,
    Kill,
    TellRecorded,
)
from chimera.swarm.leader.events import (
    Arrived,
    Board,
    CollectFailed,
    Instant,
    Replied,
    WorkerFailed,
    WorkerLost,
    WorkerReady,
)
from chimera.swarm.leader.ready import Piece
from chimera.swarm.leader.settle import take_in
from chimera.swarm.leader.staff import keep_pool
from chimera.swarm.leader.state import BEGIN_S, OVERDUE_S, Flight, InHand, State, Worker

#: serials wait this long for a flight that tells them, before they are told on their own
TELL_S = 0.5
#: the longest pause before a worker that keeps failing is made again
SPAWN_PAUSE_MAX_S = 10.0


def on_replied(state: State, event: Replied, now: Instant) -> list[Effect]:
    """A flight ended, or a worker handed in what it has of it so far."""
    worker = state.workers.get(event.worker)
    if worker is None:
        return []
    if event.flight is None:
        return _on_collected(state, worker, event, now)
    flight = worker.flights.pop(event.flight, None)
    worker.idle_since = now.mono
    if flight is None:
        return []
    drafts = Drafts(state)
    arrived = _of_this_reign(state, event.arrived)
    again = take_in(state, drafts, worker.name, arrived, flight.piece_at, now)
    if not flight.void:
        again += _leftover(flight, arrived)
    dispatch.land(state, flight)
    dispatch.reopen(state, drafts, again)
    return dispatch.fill(state, now) + drafts.effects()


def _of_this_reign(state: State, arrived: tuple[Arrived, ...]) -> Sequence[Arrived]:
    """Without what was sent before a shard was lost and taken again.

    The worker keeps it, and is asked for it as one of a former owner (P6).
    """
    if not state.retaken:
        return arrived
    return [item for item in arrived if not _is_former(state, outcome.header(item.frame))]


def _is_former(state: State, header: outcome.Header) -> bool:
    shard = state.shards.get(header.shard)
    return shard is not None and header.epoch < shard.epoch


def _leftover(flight: Flight, arrived: Sequence[Arrived]) -> list[Piece]:
    """What of an ended flight nobody ran."""
    done = list(flight.done)
    covered = sum(stop - first for _, first, stop in done)
    for item in arrived:
        header = outcome.header(item.frame)
        done.append((header.shard, header.position, header.position + header.count))
        covered += header.count
    return flight.rest(done) if covered < flight.tasks else []


def _on_collected(state: State, worker: Worker, event: Replied, now: Instant) -> list[Effect]:
    worker.collecting = False
    worker.collected_at = now.mono
    drafts = Drafts(state)
    again: list[Piece] = []

    def flying(shard: int, position: int) -> Piece | None:
        for flight in worker.flights.values():
            piece = flight.flying_at(shard, position)
            if piece is not None:
                return piece
        return None

    arrived = _of_this_reign(state, event.arrived)
    again += take_in(state, drafts, worker.name, arrived, flying, now)
    handed = [outcome.header(item.frame) for item in arrived]
    parts = [(h.shard, h.position, h.position + h.count) for h in handed]
    for flight in worker.flights.values():
        flight.done += [p for p in parts if flight.flying_at(p[0], p[1]) is not None]
    for shard, position, count in event.returned:
        for flight in worker.flights.values():
            piece = flight.flying_at(shard, position)
            if piece is not None and not flight.void and flight.number <= event.through:
                stop = min(piece.stop, position + count)
                flight.done.append((shard, position, stop))
                again.append(piece.part(position, stop))
    for flight in worker.flights.values():
        if event.begun < flight.number <= event.through and not flight.void:
            again += flight.rest(flight.done)
            dispatch.land(state, flight)
            flight.void = True
            flight.expected_s = 0.0
    dispatch.reopen(state, drafts, again)
    out = dispatch.fill(state, now) + drafts.effects()
    if worker.killing and not worker.killed:
        worker.killed = True
        out.append(Kill(worker.name, worker.killing))
    return out


def on_collect_failed(state: State, event: CollectFailed, now: Instant) -> list[Effect]:
    """A worker whose handler holds the interpreter cannot answer."""
    worker = state.workers.get(event.worker)
    if worker is None:
        return []
    worker.collecting = False
    worker.collected_at = now.mono
    if worker.killing and not worker.killed:
        worker.killed = True
        return [Kill(worker.name, worker.killing)]
    return []


def on_ready(state: State, event: WorkerReady, now: Instant) -> list[Effect]:
    """A worker can run tasks."""
    worker = state.workers.setdefault(event.worker, Worker(event.worker))
    worker.ready, worker.revision = True, event.revision
    worker.types = frozenset(policy.type for policy in event.policies)
    worker.idle_since = now.mono
    _compare_types(state)
    state.spawn_failures = 0
    state.faults.pop("workers", None)
    state.declare(event.policies)
    return dispatch.fill(state, now)


def _compare_types(state: State) -> None:
    """While handlers change, some workers run what others do not."""
    kinds = {worker.types for worker in state.workers.values()}
    known = frozenset[str]().union(*kinds)
    lacks = {types: known - types for types in kinds}
    for worker in state.workers.values():
        worker.lacks = lacks[worker.types]


def on_failed(state: State, event: WorkerFailed, now: Instant) -> list[Effect]:
    """A worker cannot load its handlers: say so, and try again later."""
    state.workers.pop(event.worker, None)
    state.faults["workers"] = event.fault
    return _pause_spawning(state, now)


def _pause_spawning(state: State, now: Instant) -> list[Effect]:
    state.spawn_failures += 1
    pause = min(SPAWN_PAUSE_MAX_S, 0.1 * 2.0 ** min(state.spawn_failures - 1, 10))
    state.spawn_at = now.mono + pause
    return []


def on_lost(state: State, event: WorkerLost, now: Instant) -> list[Effect]:
    """A worker is dead: only the task it was in pays with an attempt (P7)."""
    worker = state.workers.pop(event.worker, None)
    out = on_stranger_lost(state, event.worker, now)
    if worker is None:
        return out + dispatch.fill(state, now)
    _compare_types(state)
    state.counters["worker_ends" if worker.retiring else "worker_deaths"] += 1
    if not worker.ready:
        _pause_spawning(state, now)
    drafts = Drafts(state)
    again: list[Piece] = []
    for flight in worker.flights.values():
        dispatch.land(state, flight)
        if not flight.void:
            again += _crashed(state, drafts, worker, flight, event.board, now)
    dispatch.reopen(state, drafts, again)
    return out + dispatch.fill(state, now) + drafts.effects() + keep_pool(state, now)


def _crashed(
    state: State, drafts: Drafts, worker: Worker, flight: Flight, board: Board | None, now: Instant
) -> list[Piece]:
    """What of a dead worker's flight is to be run again."""
    rest = flight.rest(flight.done)
    begun = board is None or board.flight == flight.number
    if not begun:
        return rest
    found = flight.at(board.ordinal) if board is not None and board.ordinal is not None else None
    if found is None and sum(piece.count for piece in rest) == 1:
        found = rest[0], rest[0].first
    if found is None:
        for piece in rest:
            shard = state.shards.get(piece.shard)
            if shard is not None:
                shard.suspects.update(range(piece.first, piece.stop))
        return rest
    piece, position = found
    if not any(part.first <= position < part.stop and part.shard == piece.shard for part in rest):
        return rest  # it had finished that one
    draft = drafts.of(piece.shard)
    if draft is None:
        return rest
    name, message = _REASONS.get(worker.killing or "", _REASONS[""])
    draft.failed_attempt(position, piece.policy, piece.attempt, Failure(name, message), now)
    return Flight(0, rest, 0, 0.0, 0.0).rest([(piece.shard, position, position + 1)])


_REASONS = {
    "": ("chimera.WorkerDied", "the worker's process died while it ran this task"),
    "attempt_timeout": ("chimera.AttemptTimeout", "the attempt ran longer than it may"),
    "heartbeat_timeout": ("chimera.HeartbeatTimeout", "the handler gave no heartbeat in time"),
}


def watch_boards(state: State, boards: dict[str, Board], now: Instant) -> list[Effect]:
    """Time-outs, and flights that take longer than they should."""
    out: list[Effect] = []
    for worker in state.workers.values():
        board = boards.get(worker.name)
        _see(worker, board, now)
        if not worker.killed and (why := _stuck(state, worker, now)):
            worker.killing, worker.killed = why, True
            out.append(Kill(worker.name, why))
        hand = worker.in_hand
        flight = worker.flights.get(hand.flight) if hand else None
        if hand is None or flight is None or worker.killed:
            continue
        if not worker.killing:
            worker.killing = _timed_out(flight, hand, now)
        if worker.collecting:
            continue
        overdue = now.mono - hand.flight_since > max(OVERDUE_S, 3 * flight.expected_s)
        if worker.killing or (
            overdue and now.mono - worker.collected_at > OVERDUE_S and _has_more(worker, flight)
        ):
            worker.collecting = True
            out.append(Collect(worker.name, max(worker.flights)))
    return out


def _has_more(worker: Worker, flight: Flight) -> bool:
    """Whether anything but the one task in hand is in a worker's hands."""
    others = any(not f.void for f in worker.flights.values() if f is not flight)
    return others or sum(piece.count for piece in flight.rest(flight.done)) > 1


def _stuck(state: State, worker: Worker, now: Instant) -> str | None:
    """Why a worker must die that is at none of our attempts, if it must.

    It may live and begin nothing: a thread that a handler left behind holds the interpreter.
    """
    if overstay.is_lost(state, worker, now):
        return "attempt_timeout"
    if worker.unbegun_since is None:
        return None
    since = max(worker.unbegun_since, worker.idle_since)
    return "unresponsive" if now.mono - since > BEGIN_S else None


def _see(worker: Worker, board: Board | None, now: Instant) -> None:
    """Note what a board says, and since when it has said so."""
    if board is None or board.flight or not worker.flights:
        worker.unbegun_since = None
    elif worker.unbegun_since is None:
        worker.unbegun_since = now.mono
    if board is None or not board.flight or board.flight not in worker.flights:
        worker.in_hand = None
        if board is None or not board.flight:
            worker.former_since = None
        elif worker.former_since is None:
            worker.former_since = now.mono
        return
    worker.former_since = None
    hand = worker.in_hand
    if hand is None or hand.flight != board.flight:
        worker.in_hand = InHand(
            board.flight, board.ordinal, now.mono, now.mono, board.heartbeats, now.mono
        )
        return
    if hand.ordinal != board.ordinal:
        hand = hand._replace(ordinal=board.ordinal, since=now.mono)
    if hand.heartbeats != board.heartbeats:
        hand = hand._replace(heartbeats=board.heartbeats, beat_at=now.mono)
    worker.in_hand = hand


def _timed_out(flight: Flight, hand: InHand, now: Instant) -> str | None:
    """Why the worker must die, if it must."""
    if hand.ordinal is None:
        # several tasks at once: they time out in the worker; this is for one that cannot
        patience = max(
            p.policy.attempt_timeout_s * (1 + p.count // p.policy.concurrency)
            for p in flight.pieces
        )
        overstayed = now.mono - hand.flight_since > 1.5 * patience + 1.0
        return "attempt_timeout" if overstayed else None
    found = flight.at(hand.ordinal)
    if found is None:
        return None
    policy = found[0].policy
    if now.mono - hand.since > policy.attempt_timeout_s:
        return "attempt_timeout"
    beat = policy.heartbeat_timeout_s
    if beat is not None and now.mono - max(hand.since, hand.beat_at) > beat:
        return "heartbeat_timeout"
    return None


def tell_recorded(state: State, now: Instant) -> list[Effect]:
    """Let idle workers forget what is recorded."""
    out: list[Effect] = []
    for worker in state.workers.values():
        if worker.recorded and now.mono - worker.recorded_at > TELL_S:
            out.append(TellRecorded(worker.name, tuple(worker.recorded)))
            worker.recorded = []
    for name, serials in state.strangers.items():
        out.append(TellRecorded(name, tuple(serials)))
    state.strangers.clear()
    return out
