"""What other threads ask of a leader's machine, in the thread of its loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from chimera.store.protocol import TaskRecord

if TYPE_CHECKING:
    from chimera.swarm.leader.state import State


def is_running(state: State, shard: int, position: int) -> bool:
    """Whether a task is in somebody's hands, as far as this leader knows."""
    from chimera.swarm.leader.intake import in_flight

    return shard not in state.shards or in_flight(state, shard, position) is not None


def with_running(record: TaskRecord, shard: int) -> Callable[[State], TaskRecord]:
    """The machine's word on a queued task: it may be running."""

    def ask(state: State) -> TaskRecord:
        from chimera.swarm.leader.intake import in_flight

        if record.state != "queued" or shard not in state.shards:
            return record
        running = in_flight(state, shard, record.position) is not None
        return replace(record, state="running") if running else record

    return ask
