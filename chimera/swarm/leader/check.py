"""What always holds of a leader's state, whatever happened."""

from __future__ import annotations

from collections import Counter

from chimera.swarm.leader.state import FLIGHT_TASKS_MAX, Shard, State


def check(state: State) -> None:
    """Raise AssertionError naming the first invariant that does not hold."""
    placed: Counter[tuple[int, int]] = Counter()
    for worker in state.workers.values():
        for flight in worker.flights.values():
            assert flight.tasks <= FLIGHT_TASKS_MAX + 1, f"flight {flight.number} is too big"
            if flight.void:
                continue
            for piece in flight.rest(flight.done):
                if piece.shard in state.shards:
                    placed.update((piece.shard, p) for p in range(piece.first, piece.stop))
    twice = [task for task, times in placed.items() if times > 1]
    assert not twice, f"in two flights at once: {twice[:5]}"
    waiting = 0
    for _, _, _, queue in state.ready._queues():
        assert queue, "an empty queue is kept"
        for piece in queue:
            waiting += piece.count
            assert piece.count > 0, "an empty piece waits"
            assert piece.shard in state.shards, f"shard {piece.shard} is not ours"
    assert waiting == state.ready.tasks, f"{state.ready.tasks} tasks wait, {waiting} are there"
    for token, pending in state.pending.items():
        assert pending.shard in state.shards, f"settlement {token} of a shard that is not ours"
    for shard in state.shards.values():
        pending_here = sum(p.shard == shard.number for p in state.pending.values())
        assert shard.pending == pending_here, f"shard {shard.number}: pending is miscounted"
        check_keys(shard)


def check_keys(shard: Shard) -> None:
    """A key is busy exactly as often as tasks of it fly; whoever waits, waits for something."""
    keys = shard.keys
    flying = Counter(keys.flying.values())
    assert flying == Counter(keys.busy), f"shard {shard.number}: busy keys are miscounted"
    for key, queue in keys.waiting.items():
        assert queue, f"nobody waits for {key!r}"
        assert not set(queue) & keys.flying.keys(), f"{key!r}: waits and flies at once"
        assert len(set(queue)) == len(queue), f"{key!r}: one task waits twice"
    aside = sum(keys.aside_tasks.values()) + len(keys.late)
    queued = sum(len(queue) for queue in keys.waiting.values())
    assert aside + len(keys.asleep) == queued, f"shard {shard.number}: {queued} wait, {aside} aside"
    for pieces in keys.held.values():
        for piece in pieces:
            taken = [p for p in range(piece.first, piece.stop) if p in keys.flying]
            assert not taken, f"shard {shard.number}: held back and in flight: {taken[:5]}"
    assert keys.starts == sorted(keys.aside), f"shard {shard.number}: frames set aside"
