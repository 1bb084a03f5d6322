"""From what workers hand in to what is recorded, and what rests on that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from chimera.frames import outcome
from chimera.swarm.leader import dispatch
from chimera.swarm.leader.drafts import TALLY, Draft, Drafts
from chimera.swarm.leader.effects import CloseShard, Effect, Record
from chimera.swarm.leader.events import Arrived, Instant, Recorded, RecordRefused
from chimera.swarm.leader.ready import Piece
from chimera.swarm.leader.state import REFUSED_S, Pending, Shard, State
from chimera.swarm.policy import TaskPolicy


def take_in(
    state: State,
    drafts: Drafts,
    worker: str,
    arrived: Iterable[Arrived],
    piece_at: Callable[[int, int], Piece | None],
    now: Instant,
) -> list[Piece]:
    """Put outcome frames into drafts; returns the tasks that they leave open, to be run again."""
    reopened: list[Piece] = []
    for item in arrived:
        header = outcome.header(item.frame)
        draft = drafts.of(header.shard)
        if draft is None:
            continue  # the worker keeps it for the shard's new owner
        draft.serials.append((worker, item.serial))
        first, stop = header.position, header.position + header.count
        piece = piece_at(header.shard, first)
        if piece is not None and header.duration_us and header.bad < header.count:
            kind, each_s = state.type(piece.policy.type), header.duration_us / header.count / 1e6
            kind.learn(header.duration_us, header.count)
            kind.run.add(each_s, header.count)
            state.run.add(each_s, header.count)
            state.exemplify(f"run/{piece.policy.type}", piece, each_s, now)
            if piece.since:
                state.total.add(now.mono - piece.since, header.count - header.bad)
                state.exemplify("total", piece, now.mono - piece.since, now)
        if not header.bad:
            draft.frames.append(item.frame)
            draft.final.append((first, stop))
            draft.count("succeeded", _policy(piece), header.count)
            continue
        reopened += _take_in_mixed(draft, item.frame, header, piece_at, now)
    return reopened


def _take_in_mixed(
    draft: Draft,
    frame: bytes,
    header: outcome.Header,
    piece_at: Callable[[int, int], Piece | None],
    now: Instant,
) -> list[Piece]:
    """A frame in which some tasks did not succeed.

    A failed attempt counts only where it is known to have been made: a former worker's may come
    when the task is in other hands already.
    """
    states = outcome.states(frame, header)
    policy = _policy(piece_at(header.shard, header.position))
    changes: dict[int, int] = {}
    reopened: list[Piece] = []
    finals = 0
    for index, code in enumerate(states):
        position = header.position + index
        if code not in (outcome.ATTEMPT_FAILED, outcome.OPEN):
            finals += 1
            draft.final.append((position, position + 1))
            draft.count(TALLY[code], policy)
            continue
        changes[index] = outcome.OPEN
        piece = piece_at(header.shard, position)
        if piece is None or piece.attempt != header.attempt:
            continue
        if code == outcome.ATTEMPT_FAILED:
            failure = outcome.decode_failure(outcome.body(frame, index)[1])
            draft.failed_attempt(position, piece.policy, header.attempt, failure, now)
        elif reopened and reopened[-1].stop == position and reopened[-1].frame == piece.frame:
            reopened[-1].stop += 1
        else:
            reopened.append(piece.part(position, position + 1))
    if finals:
        draft.frames.append(outcome.restate(frame, changes) if changes else frame)
    return reopened


def _policy(piece: Piece | None) -> TaskPolicy | None:
    """A former owner's worker may hand in what is not known here as a piece."""
    return None if piece is None else piece.policy


def on_recorded(state: State, event: Recorded, now: Instant) -> list[Effect]:
    """It is durable: free the keys, let the workers forget."""
    pending = state.pending.pop(event.token, None)
    shard = state.shards.get(event.shard)
    if pending is None or shard is None:
        return []
    shard.pending -= 1
    if pending.retry_at is not None:
        shard.refused -= 1
    expected = sum(stop - first for first, stop in pending.final)
    refused = expected - event.recorded
    tally = Counter(pending.tally)
    # counters only grow: what was refused is left out at once, most often it was a success
    for name in sorted(tally, key=lambda name: not name.startswith("succeeded")):
        left_out = min(refused, tally[name])
        tally[name] -= left_out
        refused -= left_out
    for name, count in tally.items():
        state.count(name, count)
    state.counters["outcomes_refused"] += expected - event.recorded
    for name, serial in pending.serials:
        worker = state.workers.get(name)
        if worker is not None:
            if not worker.recorded:
                worker.recorded_at = now.mono
            worker.recorded.append(serial)
        else:
            state.strangers.setdefault(name, []).append(serial)
    shard.open -= event.recorded
    _forget_marks(shard, pending)
    for position, due in pending.parked:
        if not is_ending(state, shard, position):
            shard.loaded.discard(position)
        if shard.next_due is None or due < shard.next_due:
            shard.next_due = due
    if shard.keys.flying and shard.phase != "releasing":
        for piece in reversed(shard.keys.settle(pending.final)):
            state.ready.push(piece, front=True)
        dispatch.unhold(state, shard, now)
    if shard.phase == "releasing" and not shard.pending:
        del state.shards[shard.number]
        return [CloseShard(shard.number)]
    return dispatch.fill(state, now)


def is_ending(state: State, shard: Shard, position: int) -> bool:
    """Whether a task's outcome is known and not yet recorded: no other one is to be made."""
    return any(
        first <= position < stop
        for pending in state.pending.values()
        if pending.shard == shard.number
        for first, stop in pending.final
    )


def _forget_marks(shard: Shard, pending: Pending) -> None:
    """What was noted of tasks that are settled now."""
    if shard.cancelling:
        for first, stop in pending.final:
            for position in range(first, stop):
                shard.cancelling.pop(position, None)
    for marks in (shard.loaded, shard.suspects):
        if marks:
            for first, stop in pending.final:
                if stop - first == 1:
                    marks.discard(first)
                else:
                    marks.difference_update(range(first, stop))


def on_refused(state: State, event: RecordRefused, now: Instant) -> list[Effect]:
    """The disk has no room: try again, and dispatch nothing of the shard until then."""
    pending = state.pending.get(event.token)
    shard = state.shards.get(event.shard)
    if pending is not None and shard is not None:
        if pending.retry_at is None:
            shard.refused += 1
        pending.retry_at = now.mono + REFUSED_S
    return []


def retry_refused(state: State, now: Instant) -> list[Effect]:
    """Settlements that the disk had no room for, once more."""
    out: list[Effect] = []
    for token, pending in state.pending.items():
        if pending.retry_at is not None and now.mono >= pending.retry_at:
            pending.retry_at = now.mono + 60 * REFUSED_S  # until the answer says otherwise
            out.append(Record(pending.shard, token, pending.settlement))
    return out
