"""What a former owner's workers have of a shard: asked, taken in, waited for, run again (P5, P6).

Until each of them has answered once, or is known not to, nothing of the shard is dispatched. What
one of them runs stays away until it hands it in, and its key stays busy; what it has finished is
recorded and not run again. Tasks with keys wait for those who do not answer, until they do or are
dead (P15); tasks without go on.
"""

from __future__ import annotations

from chimera.frames import outcome
from chimera.swarm.leader import dispatch, overstay
from chimera.swarm.leader.drafts import Drafts
from chimera.swarm.leader.effects import Effect, PollHeld, TellCancelled
from chimera.swarm.leader.events import Arrived, Held, Instant, NewFrame
from chimera.swarm.leader.intake import Range, hold_keys, out_of_stash, pieces_of, rest, unstash
from chimera.swarm.leader.ready import Piece, scoped
from chimera.swarm.leader.settle import take_in
from chimera.swarm.leader.state import POLL_S, Shard, State

#: states of a task that are no outcome
_NO_OUTCOME = (outcome.OPEN, outcome.ATTEMPT_FAILED)


def on_held(state: State, event: Held, now: Instant) -> list[Effect]:
    """One former worker answered, or did not."""
    shard = state.shards.get(event.shard)
    if shard is None:
        return []
    shard.polling.discard(event.worker)
    shard.asking.discard(event.worker)
    if event.silent:
        shard.silent.add(event.worker)
        late = overstay.watch(state, shard, event.worker, now)
        return late + _serve_if_asked(state, shard, now)
    if event.worker in shard.silent:
        shard.silent.discard(event.worker)
        overstay.forget(shard, event.worker)
    state.declare(event.policies)
    fresh = _unseen(shard, event)
    done = [r for item in fresh for r in _ended(item.frame)]
    running = [(position, position + count) for position, count in event.running]
    had = shard.away.pop(event.worker, [])
    parked = [frame for frame in event.parked if _is_current(frame, running, fresh)]
    had += _take_out(state, shard, done + running, parked, had)
    drafts = Drafts(state)
    take_in(state, drafts, event.worker, fresh, lambda _, p: _find(had, p), now)
    away = _within(had, running)
    if away:
        shard.away[event.worker] = away
    settled = [r for item in fresh for r in _settled(item.frame, had)]
    _give_back(state, shard, drafts, rest(had, settled + running))
    out = _note_strays(state, shard, drafts, event, away, fresh, now)
    if event.worker not in shard.away and event.worker not in shard.strays:
        del shard.seen[event.worker]
    out += overstay.watch(state, shard, event.worker, now)
    if shard.phase == "adopting":
        return drafts.effects() + out + _serve_if_asked(state, shard, now)
    if not shard.silent:
        unstash(state, shard)
    return drafts.effects() + out + dispatch.fill(state, now)


def first_told(shard: Shard | None, event: Held) -> list[int]:
    """What a worker runs that it was not known to run."""
    known: set[int] = set()
    if shard is not None:
        known |= shard.strays.get(event.worker, set())
        for piece in shard.away.get(event.worker, []):
            known.update(range(piece.first, piece.stop))
    running = {p for first, count in event.running for p in range(first, first + count)}
    return sorted(running - known)


def _unseen(shard: Shard, event: Held) -> list[Arrived]:
    """What a worker did not tell before: it repeats all that it does not know to be recorded."""
    seen = shard.seen.setdefault(event.worker, set())
    fresh = [item for item in event.arrived if item.serial not in seen]
    seen.update(item.serial for item in fresh)
    return fresh


def _ended(frame: bytes) -> list[Range]:
    """The tasks of an outcome frame whose attempt ended; the others wait here as if never sent."""
    header = outcome.header(frame)
    if not header.bad:
        return [(header.position, header.position + header.count)]
    codes = enumerate(outcome.states(frame, header), header.position)
    return [(position, position + 1) for position, code in codes if code != outcome.OPEN]


def _is_current(frame: NewFrame, running: list[Range], fresh: list[Arrived]) -> bool:
    """Whether what is told of a parked task is of the attempt that is due, not of one before."""
    if any(first <= frame.position < stop for first, stop in running):
        return True
    return any(
        outcome.header(item.frame).attempt == frame.attempt
        for item in fresh
        if (frame.position, frame.position + 1) in _ended(item.frame)
    )


def _find(pieces: list[Piece], position: int) -> Piece | None:
    return next((p for p in pieces if p.first <= position < p.stop), None)


def _settled(frame: bytes, pieces: list[Piece]) -> list[Range]:
    """The tasks of an outcome frame that have an outcome by it, or another attempt ahead."""
    header = outcome.header(frame)
    if not header.bad:
        return _ended(frame)
    found: list[Range] = []
    for position, code in enumerate(outcome.states(frame, header), header.position):
        piece = _find(pieces, position) if code == outcome.ATTEMPT_FAILED else None
        if code not in _NO_OUTCOME or (piece is not None and piece.attempt == header.attempt):
            found.append((position, position + 1))
    return found


def _within(pieces: list[Piece], ranges: list[Range]) -> list[Piece]:
    """The parts of pieces that lie in the ranges."""
    return [
        piece.part(max(first, piece.first), min(stop, piece.stop))
        for first, stop in ranges
        for piece in pieces
        if first < piece.stop and stop > piece.first
    ]


# what waits here, and is in a former worker's hands


def _take_out(
    state: State,
    shard: Shard,
    ranges: list[Range],
    parked: list[NewFrame],
    had: list[Piece],
) -> list[Piece]:
    """Take tasks out of whatever they wait in; their keys are busy from now on."""
    found = out_of_stash(state, shard, ranges)
    found += _within(shard.back, ranges)
    shard.back = rest(shard.back, ranges)
    if shard.phase != "adopting":
        # tasks without keys did not wait for a worker that was silent
        unknown = [r for r in ranges if not _within(had + found, [r])]
        for first, stop in unknown:
            for piece, _ in state.ready.remove(shard.number, first, stop, unkeyed=True):
                found += _within([piece], [(first, stop)])
    for frame in parked:
        position = frame.position
        if _find(had + found, position) is not None:
            continue
        if position in shard.loaded and position not in shard.keys.asleep:
            continue  # it was due meanwhile: it is queued here, or runs
        shard.loaded.add(position)
        found += pieces_of(state, shard, frame)
    for piece in found:
        hold_keys(shard, piece)
        for position in range(piece.first, piece.stop):
            if position in shard.keys.asleep:
                shard.keys.drop_waiting(position)
    shard.holding = [one for one in shard.holding if _find(found, one.position) is None]
    return found


def _give_back(state: State, shard: Shard, drafts: Drafts, pieces: list[Piece]) -> None:
    """What a former worker did not run after all; another one may have run it since."""
    if shard.phase == "adopting":
        shard.back += pieces  # those to be cancelled end when it is served
        return
    for piece in dispatch.without_cancelled(state, drafts, pieces):
        if shard.silent and piece.keys is not None:
            shard.back.append(piece)
        else:
            dispatch.give_back(state, [piece])


def _note_strays(
    state: State,
    shard: Shard,
    drafts: Drafts,
    event: Held,
    away: list[Piece],
    fresh: list[Arrived],
    now: Instant,
) -> list[Effect]:
    """What runs, and is not to be run again whatever comes of it: it is cancelled, or another
    region had it run again while nobody could be asked here. As long as it runs its key is busy."""
    worker = event.worker
    had = shard.strays.pop(worker, set())
    known = {p for piece in away for p in range(piece.first, piece.stop)}
    have = {p for first, count in event.running for p in range(first, first + count)} - known
    for position, tenant, key in event.keys:
        if position in have - had:
            shard.keys.hold(position, scoped(tenant, key))
    if have:
        shard.strays[worker] = have
    ended = had - have
    if ended:
        ended -= {p for item in fresh for p in _final(item.frame)}
        _end_strays(state, shard, drafts, ended, now)
    return [
        TellCancelled(worker, shard.number, p)
        for p in sorted((have - had) & shard.cancelling.keys())
    ]


def _final(frame: bytes) -> list[int]:
    """The positions of an outcome frame that have an outcome."""
    codes = enumerate(outcome.states(frame), outcome.header(frame).position)
    return [position for position, code in codes if code not in _NO_OUTCOME]


def _end_strays(
    state: State, shard: Shard, drafts: Drafts, positions: set[int], now: Instant
) -> None:
    """They run no more, and told no outcome: those that have one free their keys at once."""
    _end_cancelled(shard, drafts, positions)
    ranges = [(position, position + 1) for position in positions - shard.cancelling.keys()]
    freed = shard.keys.settle(ranges)
    if shard.phase != "releasing":
        for piece in reversed(freed):
            state.ready.push(piece, front=True)
        dispatch.unhold(state, shard, now)


def _end_cancelled(shard: Shard, drafts: Drafts, positions: set[int]) -> None:
    """Attempts that ended without an outcome, of tasks that are to be cancelled."""
    draft = drafts.of(shard.number)
    for position in sorted(positions & shard.cancelling.keys()) if draft is not None else ():
        if draft is not None:
            body = dispatch.cancelled_body(shard.cancelling[position])
            draft.end(position, outcome.CANCELLED, 0, body)


# the end of it


def _serve_if_asked(state: State, shard: Shard, now: Instant) -> list[Effect]:
    """Once every former worker was asked, the shard is served."""
    if shard.phase != "adopting" or shard.asking:
        return []
    return serve(state, shard, now)


def serve(state: State, shard: Shard, now: Instant) -> list[Effect]:
    """Queue what is open, and is in nobody's hands."""
    shard.phase = "serving"
    state.takeover.add(shard.take_s + now.mono - shard.taken_at)
    drafts = Drafts(state)
    elsewhere = set().union(*shard.strays.values())
    for pieces in shard.away.values():
        elsewhere.update(p for piece in pieces for p in range(piece.first, piece.stop))
    cancelled = shard.cancelling.keys() - elsewhere
    _end_cancelled(shard, drafts, cancelled)
    for piece in out_of_stash(state, shard, [(p, p + 1) for p in cancelled]):
        hold_keys(shard, piece)
    shard.back = rest(shard.back, [(p, p + 1) for p in cancelled])
    unstash(state, shard)
    return drafts.effects() + dispatch.fill(state, now)


def poll_held(state: State, now: Instant) -> list[Effect]:
    """Ask again those who still run something of a former owner, or have not answered."""
    out: list[Effect] = []
    for shard in state.shards.values():
        names = (shard.abroad() | shard.silent | shard.asking) - shard.polling
        if names and now.mono - shard.polled_at >= POLL_S:
            shard.polled_at = now.mono
            shard.polling |= names
            out += [PollHeld(name, shard.number, shard.epoch) for name in sorted(names)]
    return out


def on_stranger_lost(state: State, name: str, now: Instant) -> list[Effect]:
    """A worker is dead: what it ran for a former owner of our shards is run again, alone (P7).

    It counts as an attempt where the worker was ended for the time that it took.
    """
    out: list[Effect] = []
    drafts = Drafts(state)
    for shard in state.shards.values():
        pieces = shard.away.pop(name, [])
        for piece in pieces:
            shard.suspects.update(range(piece.first, piece.stop))
        if name in shard.overstayed:
            overstay.count(drafts, shard, pieces, now)
        else:
            _give_back(state, shard, drafts, pieces)
        overstay.forget(shard, name)
        _end_strays(state, shard, drafts, shard.strays.pop(name, set()), now)
        shard.seen.pop(name, None)
        shard.asking.discard(name)
        shard.polling.discard(name)
        if name in shard.silent:
            shard.silent.discard(name)
            if not shard.silent and shard.phase == "serving":
                unstash(state, shard)
        out += _serve_if_asked(state, shard, now)
    return drafts.effects() + out
