"""A shard comes and goes: taken from a former owner, handed over, lost to a newer one."""

from __future__ import annotations

from dataclasses import replace

from chimera.swarm.leader import dispatch
from chimera.swarm.leader.adoption import serve
from chimera.swarm.leader.effects import CloseShard, Effect, PollHeld
from chimera.swarm.leader.events import Instant, ReleaseAsked, ShardLost, Taken
from chimera.swarm.leader.intake import hold_keys, pieces_of
from chimera.swarm.leader.ready import scoped
from chimera.swarm.leader.state import Shard, State

#: over every position in a shard
POSITION_MAX = 1 << 63


def on_taken(state: State, event: Taken, now: Instant) -> list[Effect]:
    """The epoch is ours: first ask the former owner's workers, then go on (P5, P6).

    Where that owner was this leader itself, its own workers are asked as well: what they have is
    told by their answers, and no longer by their flights.
    """
    asked = dict.fromkeys(event.former_workers)
    if event.shard in state.taken:
        state.retaken.add(event.shard)
        for worker in state.workers.values():
            for flight in worker.flights.values():
                flight.disown(event.shard, 0, POSITION_MAX)
            if worker.ready:
                asked[worker.name] = None
    state.taken.add(event.shard)
    shard = Shard(
        event.shard, event.epoch, now.mono, event.took_s, open=event.open_tasks,
        next_due=event.next_due,
    )  # fmt: skip
    state.shards[event.shard] = shard
    state.counters["takeovers"] += 1
    shard.stash.extend(event.frames)
    shard.cancelling.update(dict.fromkeys(event.cancelling, ""))
    _hold_cancelled(state, shard, event)
    shard.asking.update(asked)
    if not shard.asking:
        return serve(state, shard, now)
    shard.polling.update(asked)
    shard.polled_at = now.mono
    return [PollHeld(name, shard.number, shard.epoch) for name in asked]


def _hold_cancelled(state: State, shard: Shard, event: Taken) -> None:
    """What is to be cancelled runs elsewhere or not at all: its key is busy until that is recorded.

    A retry among it waits for nothing any more.
    """
    for frame in event.frames:
        stop = frame.position + frame.count
        ranges = tuple((p, p + 1) for p in event.cancelling if frame.position <= p < stop)
        for piece in pieces_of(state, shard, replace(frame, ranges=ranges)):
            hold_keys(shard, piece)
    for parked in event.holding:
        if parked.position not in shard.cancelling:
            shard.holding.append(parked)
        elif parked.key is not None:
            shard.keys.hold(parked.position, scoped(parked.tenant, parked.key))


def on_shard_lost(state: State, event: ShardLost, now: Instant) -> list[Effect]:
    """Fenced out: another leader raised the epoch (P1). Workers keep what they have for it."""
    if state.shards.pop(event.shard, None) is None:
        return []
    state.counters["fenced"] += 1
    _forget(state, event.shard)
    return dispatch.fill(state, now)


def on_release(state: State, event: ReleaseAsked, now: Instant) -> list[Effect]:
    """Hand over, at once unless it is to finish first."""
    shard = state.shards.get(event.shard)
    if shard is None:
        return [CloseShard(event.shard)]
    if event.finish:
        shard.finishing = True
        return finish(state)
    return _release(state, shard)


def finish(state: State) -> list[Effect]:
    """Release the shards of which nothing runs any more."""
    ending = [shard for shard in state.shards.values() if shard.finishing]
    if not ending:
        return []
    flying = {
        piece.shard
        for worker in state.workers.values()
        for flight in worker.flights.values()
        if not flight.void
        for piece in flight.rest(flight.done)
    }
    return [
        effect
        for shard in ending
        if shard.phase == "serving" and shard.number not in flying
        if not shard.pending and not shard.abroad()
        for effect in _release(state, shard)
    ]


def _release(state: State, shard: Shard) -> list[Effect]:
    """Hand over: the new owner asks our workers for what they hold and run."""
    shard.phase = "releasing"
    state.ready.drop_shard(shard.number)
    if shard.pending and not shard.refused:
        return []
    del state.shards[shard.number]
    _forget(state, shard.number)
    return [CloseShard(shard.number)]


def _forget(state: State, number: int) -> None:
    state.ready.drop_shard(number)
    for token in [t for t, pending in state.pending.items() if pending.shard == number]:
        del state.pending[token]
