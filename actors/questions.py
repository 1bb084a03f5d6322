"""What other threads ask of a leader's machine, in the thread of its loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chimera.swarm.leader.state import State


def is_running(shard: int, position: int) -> Callable[[State], bool | None]:
    """Whether a task is in somebody's hands, as far as this leader knows; None while it does not,
    because the shard is not its own, or some former worker has not said what it runs."""

    def ask(state: State) -> bool | None:
        from chimera.swarm.leader.intake import in_flight

        found = state.shards.get(shard)
        if found is None:
            return None
        running = in_flight(state, shard, position) is not None
        return None if found.is_unheard() and not running else running

    return ask


def running(shard: int) -> Callable[[State], list[tuple[int, int]]]:
    """The [start, stop) positions of a shard that are in somebody's hands, in order; each range is
    within a frame."""

    def ask(state: State) -> list[tuple[int, int]]:
        from chimera.swarm.leader.intake import in_hands

        return in_hands(state, shard) if shard in state.shards else []

    return ask
