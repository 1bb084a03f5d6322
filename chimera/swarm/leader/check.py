"""What always holds of a leader's state, whatever happened."""

from __future__ import annotations

from chimera.swarm.leader.state import FLIGHT_TASKS_MAX, Shard, State


def check(state: State) -> None:
    """Raise AssertionError naming the first invariant that does not hold."""
    _check_flights(state)
    waiting = 0
    for _, _, _, queue in state.ready._queues():
        assert queue, "an empty queue is kept"
        for piece in queue:
            waiting += piece.count
            assert piece.count > 0, "an empty piece waits"
            assert piece.shard in state.shards, f"shard {piece.shard} is not ours"
    assert waiting == state.ready.tasks, f"{state.ready.tasks} tasks wait, {waiting} are there"
    pending_of = dict.fromkeys(state.shards, 0)
    for token, pending in state.pending.items():
        assert pending.shard in state.shards, f"settlement {token} of a shard that is not ours"
        pending_of[pending.shard] += 1
    for number, shard in state.shards.items():
        assert shard.pending == pending_of[number], f"shard {number}: pending is miscounted"
        check_keys(shard)


def _check_flights(state: State) -> None:
    """No flight is too big, and no task is in two of them."""
    placed: set[tuple[int, int]] = set()
    for worker in state.workers.values():
        for flight in worker.flights.values():
            assert flight.tasks <= FLIGHT_TASKS_MAX + 1, f"flight {flight.number} is too big"
            if flight.void:
                continue
            for piece in flight.rest(flight.done) if flight.done else flight.pieces:
                if piece.shard in state.shards:
                    tasks = {(piece.shard, p) for p in range(piece.first, piece.stop)}
                    twice = placed & tasks
                    assert not twice, f"in two flights at once: {sorted(twice)[:5]}"
                    placed |= tasks


def check_keys(shard: Shard) -> None:
    """A key is busy exactly as often as tasks of it fly; whoever waits, waits for something."""
    keys = shard.keys
    flying = dict.fromkeys(keys.busy, 0)
    for key in keys.flying.values():
        flying[key] = flying.get(key, 0) + 1
    assert flying == keys.busy, f"shard {shard.number}: busy keys are miscounted"
    queued = 0
    for key, queue in keys.waiting.items():
        distinct = set(queue)
        assert distinct, f"nobody waits for {key!r}"
        assert distinct.isdisjoint(keys.flying), f"{key!r}: waits and flies at once"
        assert len(distinct) == len(queue), f"{key!r}: one task waits twice"
        queued += len(queue)
    aside = sum(keys.aside_tasks.values()) + len(keys.late)
    assert aside + len(keys.asleep) == queued, f"shard {shard.number}: {queued} wait, {aside} aside"
    for pieces in keys.held.values():
        for piece in pieces:
            taken = [p for p in range(piece.first, piece.stop) if p in keys.flying]
            assert not taken, f"shard {shard.number}: held back and in flight: {taken[:5]}"
    assert keys.starts == sorted(keys.aside), f"shard {shard.number}: frames set aside"
