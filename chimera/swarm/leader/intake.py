"""From what is in the journal to what waits for a worker."""

from __future__ import annotations

from dataclasses import replace

from chimera.frames import outcome
from chimera.swarm.leader import dispatch
from chimera.swarm.leader.drafts import Drafts
from chimera.swarm.leader.effects import Effect, ReadDue, TellCancelled
from chimera.swarm.leader.events import (
    Appended,
    CancelAsked,
    Due,
    Instant,
    NewFrame,
    Quarantined,
)
from chimera.swarm.leader.ready import Piece
from chimera.swarm.leader.settle import is_ending
from chimera.swarm.leader.state import AGE_S, EXPIRE_S, Flight, Shard, State

#: [first, stop) positions
Range = tuple[int, int]

#: parked tasks read from the schedule at once, and waiting in memory, at most
DUE_MAX = 1000


def on_appended(state: State, event: Appended, now: Instant) -> list[Effect]:
    """Frames were accepted: queue them, behind an adoption that is under way."""
    shard = state.shards.get(event.shard)
    if shard is None:
        return []  # the journal has them: its new owner will find them there
    shard.open += event.accepted
    state.counters["accepted"] += event.accepted
    for type, of_class, tasks in event.kinds:
        state.counters[f"accepted@{of_class}/{type}"] += tasks
    if event.next_due is not None and (shard.next_due is None or event.next_due < shard.next_due):
        shard.next_due = event.next_due
    if shard.phase == "adopting":
        shard.stash.extend(event.frames)
        return []
    if shard.phase == "serving":
        for frame in event.frames:
            enqueue(state, shard, frame, now.mono)
    return dispatch.fill(state, now)


def pieces_of(state: State, shard: Shard, frame: NewFrame, since: float = 0.0) -> list[Piece]:
    """What a frame has to be run, as pieces."""
    policy = state.policies.resolve(frame.type, frame.priority, frame.options)
    task_bytes = max(1, frame.size // frame.count)
    keys = frame.keys
    if keys is not None:
        names = state.names_of(frame.tenant)
        keys = [names[key] for key in keys]
    return [
        Piece(
            shard.number, frame.position, first, stop, task_bytes, frame.tenant, policy,
            frame.attempt, since, keys, frame.deadlines, frame.from_schedule,
            options=frame.options, trace_id=frame.trace_id,
        )
        for first, stop in frame.ranges
    ]  # fmt: skip


def enqueue(state: State, shard: Shard, frame: NewFrame, since: float = 0.0) -> None:
    """Let a frame wait for workers; `since` then, if it was accepted just now."""
    if frame.keys is not None and shard.silent:
        shard.stash.append(frame)
        return
    for piece in pieces_of(state, shard, frame, since):
        if frame.holds_key and frame.keys is not None:
            ready = shard.keys.wake(piece)
            if ready is not None:
                for part in reversed(ready):
                    state.ready.push(part, front=True)
                continue
        if frame.keys is not None and not frame.from_schedule:
            shard.keys.enlist(piece)
        state.ready.push(piece)
    state.deadlines = state.deadlines or frame.deadlines is not None


def unstash(state: State, shard: Shard) -> None:
    """What waited for former workers is queued: all of it, or what may go past a silent one."""
    stash, shard.stash = shard.stash, []
    for frame in sorted(stash, key=lambda frame: frame.position):
        if not frame.from_schedule:
            enqueue(state, shard, frame)
    if not shard.silent:
        # each in its place, before any of its key can run
        for parked in sorted(shard.holding, key=lambda parked: parked.position):
            if parked.key is not None:
                shard.keys.restore(parked.position, parked.tenant, parked.key)
        shard.holding = []
    for frame in stash:
        if frame.from_schedule:
            enqueue(state, shard, frame)
    back, shard.back = shard.back, []
    for piece in back:
        if shard.silent and piece.keys is not None:
            shard.back.append(piece)
        else:
            dispatch.give_back(state, [piece])


def out_of_stash(state: State, shard: Shard, ranges: list[Range]) -> list[Piece]:
    """Take tasks out of what waits for former workers."""
    found: list[Piece] = []
    kept: list[NewFrame] = []
    ordered = sorted(ranges)
    for frame in shard.stash:
        inside, outside = _split(frame.ranges, ordered)
        if inside:
            found += pieces_of(state, shard, replace(frame, ranges=inside))
            frame = replace(frame, ranges=outside)
        if outside:
            kept.append(frame)
    shard.stash = kept
    return found


def rest(pieces: list[Piece], ranges: list[Range]) -> list[Piece]:
    """The parts of a shard's pieces that lie in none of the ranges."""
    if not pieces:
        return []
    number = pieces[0].shard
    return Flight(0, pieces, 0, 0.0, 0.0).rest([(number, a, b) for a, b in ranges])


def hold_keys(shard: Shard, piece: Piece) -> None:
    """None of these tasks is to run: their keys are busy until their outcomes are recorded."""
    for position in range(piece.first, piece.stop):
        key = piece.keys[position - piece.frame] if piece.keys is not None else None
        if key is not None:
            shard.keys.hold(position, key)


def _split(
    ranges: tuple[Range, ...], by: list[Range]
) -> tuple[tuple[Range, ...], tuple[Range, ...]]:
    """The parts of ranges that lie in those of `by`, which are in order, and the others."""
    inside: list[Range] = []
    outside: list[Range] = []
    for first, stop in ranges:
        at = first
        for a, b in by:
            if a < stop and b > at:
                if a > at:
                    outside.append((at, a))
                inside.append((max(a, at), min(b, stop)))
                at = max(at, min(b, stop))
        if at < stop:
            outside.append((at, stop))
    return tuple(inside), tuple(outside)


def ask_due(state: State, now: Instant) -> list[Effect]:
    """Read the schedules whose time has come."""
    out: list[Effect] = []
    for shard in state.shards.values():
        if (
            shard.phase == "serving"
            and not shard.reading_due
            and shard.next_due is not None
            and shard.next_due <= now.unix_ms
            and len(shard.loaded) < DUE_MAX
        ):
            shard.reading_due, shard.next_due = True, None
            out.append(ReadDue(shard.number, now.unix_ms, DUE_MAX))
    return out


def on_due(state: State, event: Due, now: Instant) -> list[Effect]:
    """Parked tasks are due: they join the end of their queues, with their position (P16)."""
    shard = state.shards.get(event.shard)
    if shard is None:
        return []
    shard.reading_due = False
    earliest = [due for due in (shard.next_due, event.next_due) if due is not None]
    shard.next_due = min(earliest, default=None)
    if shard.phase != "serving":
        shard.next_due = now.unix_ms
        return []
    for frame in event.tasks:
        if frame.position in shard.loaded:
            continue
        shard.loaded.add(frame.position)
        enqueue(state, shard, frame)
    return dispatch.fill(state, now)


def in_flight(state: State, shard: int, position: int) -> str | None:
    """The worker that has a task in its hands."""
    for worker in state.workers.values():
        for flight in worker.flights.values():
            if not flight.void and flight.flying_at(shard, position) is not None:
                return worker.name
    for name, pieces in state.shards[shard].away.items():
        if any(piece.first <= position < piece.stop for piece in pieces):
            return name
    for name, strays in state.shards[shard].strays.items():
        if position in strays:
            return name
    return None


def is_running(state: State, number: int, position: int) -> bool | None:
    """Whether a task is in somebody's hands, as far as this leader knows; None while it does not,
    because the shard is not its own, or some former worker has not said what it runs."""
    shard = state.shards.get(number)
    if shard is None:
        return None
    running = in_flight(state, number, position) is not None
    return None if shard.is_unheard() and not running else running


def in_hands(state: State, number: int) -> list[Range]:
    """The tasks of a shard that workers have in their hands, each range within a frame."""
    shard = state.shards[number]
    found = [
        (piece.first, piece.stop)
        for worker in state.workers.values()
        for flight in worker.flights.values()
        if not flight.void
        for piece in rest(
            [piece for piece in flight.pieces if piece.shard == number],
            [(first, stop) for of, first, stop in flight.done if of == number],
        )
    ]
    found += [(piece.first, piece.stop) for pieces in shard.away.values() for piece in pieces]
    found += [(at, at + 1) for positions in shard.strays.values() for at in positions]
    apart: list[Range] = []
    for first, stop in sorted(found):
        if apart and first < apart[-1][1]:  # in two hands
            first, stop = apart[-1][0], max(stop, apart.pop()[1])
        apart.append((first, stop))
    return apart


def on_cancel(state: State, event: CancelAsked, now: Instant) -> list[Effect]:
    """A queued task ends at once; a running one when its attempt ends (P9)."""
    shard = state.shards.get(event.shard)
    if shard is None:
        return []
    worker = in_flight(state, event.shard, event.position)
    if event.only_waiting and (worker is not None or shard.is_unheard()):
        return []
    if worker is None and is_ending(state, shard, event.position):
        return []  # whatever it ended as is on its way to disk
    shard.cancelling.setdefault(event.position, event.reason)
    if worker is not None:
        return [TellCancelled(worker, event.shard, event.position)]
    if shard.phase == "adopting":
        return []  # it ends when the shard is served, if nobody has it
    body = dispatch.cancelled_body(event.reason)
    return _end_waiting(state, [(shard, event.position)], outcome.CANCELLED, body, now)


def _end_waiting(
    state: State, tasks: list[tuple[Shard, int]], code: int, body: bytes, now: Instant
) -> list[Effect]:
    """Tasks get their outcome without running, wherever they wait."""
    drafts = Drafts(state)
    for shard in {shard.number: shard for shard, _ in tasks}.values():
        dispatch.unhold(state, shard, now)
    for shard, position in tasks:
        draft = drafts.of(shard.number)
        assert draft is not None
        draft.end(position, code, 0, body)
        shard.keys.drop_waiting(position)
        for piece in out_of_stash(state, shard, [(position, position + 1)]):
            hold_keys(shard, piece)
        shard.back = rest(shard.back, [(position, position + 1)])
        for piece, parts in state.ready.remove(shard.number, position, position + 1):
            shard.keys.replaced(piece, parts)
            hold_keys(shard, piece.part(position, position + 1))
    return drafts.effects()


def expire(state: State, now: Instant) -> list[Effect]:
    """Waiting tasks whose deadline passed; those in flight are their worker's to judge."""
    if not state.deadlines or now.mono - state.expired_at < EXPIRE_S:
        return []
    state.expired_at = now.mono
    for shard in state.shards.values():
        dispatch.unhold(state, shard, now)
    late = {
        (piece.shard, position): state.shards[piece.shard]
        for piece, position in state.ready.overdue(now.unix_ms)
        # dispatched in its key's turn, while the piece that it came in still waits
        if position not in state.shards[piece.shard].keys.flying
    }
    for shard in state.shards.values():
        late.update(((shard.number, p), shard) for p in shard.keys.overdue(now.unix_ms))
    tasks = [(shard, position) for (_, position), shard in late.items()]
    return _end_waiting(state, tasks, outcome.EXPIRED, dispatch.EXPIRED_BODY, now)


def look_for_oldest(state: State, now: Instant) -> None:
    """How long the oldest of the tasks that could be started has waited, for the report."""
    if now.mono - state.aged_at >= AGE_S:
        state.aged_at = now.mono
        state.oldest = state.ready.oldest(lambda shard: state.shards[shard].taken_at)


def on_quarantined(state: State, event: Quarantined, now: Instant) -> list[Effect]:
    """A corrupt frame's open tasks got their outcome from the journal: run none of them."""
    shard = state.shards.get(event.shard)
    if shard is None:
        return []
    stop = event.position + event.count
    dispatch.unhold(state, shard, now)
    state.counters["quarantined"] += 1
    state.counters["failed"] += event.ended
    shard.open -= event.ended
    for piece, parts in state.ready.remove(event.shard, event.position, stop):
        shard.keys.replaced(piece, parts)
    for worker in state.workers.values():
        for flight in worker.flights.values():
            flight.disown(event.shard, event.position, stop)
    for piece in shard.keys.settle([(event.position, stop)]):
        state.ready.push(piece, front=True)
    return dispatch.fill(state, now)
