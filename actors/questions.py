"""What other threads ask of a leader's machine, in the thread of its loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chimera.swarm.leader.state import State


def is_running(shard: int, position: int) -> Callable[[State], bool | None]:
    """Whether a task is in somebody's hands; None while the leader does not know."""

    def ask(state: State) -> bool | None:
        from chimera.swarm.leader import intake

        return intake.is_running(state, shard, position)

    return ask


def running(shard: int) -> Callable[[State], list[tuple[int, int]]]:
    """The [start, stop) positions of a shard that are in somebody's hands, in order; each range is
    within a frame."""

    def ask(state: State) -> list[tuple[int, int]]:
        from chimera.swarm.leader.intake import in_hands

        return in_hands(state, shard) if shard in state.shards else []

    return ask
