"""The leader: runs the tasks of the shards it owns on its workers, and has each outcome recorded.

Holds G2, G3 (an outcome is recorded once, what is recorded is not run again), G5 (order by key), G6
(a worker's death costs its batch one retry) and G7 (what it keeps is bounded by what the journals
accept). It never assumes that a former owner has stopped, never acts on what is not recorded, and
never sees a payload.
"""

from __future__ import annotations

from typing import Any

from chimera.errors import ImpossibleStep
from chimera.swarm.leader import adoption, dispatch, intake, settle, takeover
from chimera.swarm.leader import workers as pool
from chimera.swarm.leader.check import check
from chimera.swarm.leader.effects import Effect
from chimera.swarm.leader.events import (
    Appended,
    CancelAsked,
    CollectFailed,
    Configured,
    Due,
    Event,
    Held,
    Instant,
    Quarantined,
    Recorded,
    RecordRefused,
    ReleaseAsked,
    Replied,
    ShardLost,
    Taken,
    Tick,
    WorkerFailed,
    WorkerLost,
    WorkerReady,
)
from chimera.swarm.leader.scaling import Bounds
from chimera.swarm.leader.staff import keep_pool
from chimera.swarm.leader.state import HOLD_S, State


class LeaderMachine:
    """Events in, effects out. `checked`: state all invariants after each step."""

    def __init__(
        self,
        name: str,
        incarnation: str,
        *,
        workers: int,
        ring: int,
        policies: dict[str, dict[str, Any]] | None = None,
        tenant_weights: dict[str, int] | None = None,
        checked: bool = False,
    ) -> None:
        self.state = State(name, incarnation, workers, ring, bounds=Bounds(workers, workers))
        self.state.policies.override(policies or {})
        self.state.ready.weights = tenant_weights or {}
        self._checked = checked
        self._handlers: dict[type, Any] = {
            Appended: intake.on_appended,
            Replied: pool.on_replied,
            Recorded: settle.on_recorded,
            Tick: _on_tick,
            CancelAsked: intake.on_cancel,
            CollectFailed: pool.on_collect_failed,
            Configured: _on_configured,
            Due: intake.on_due,
            Held: adoption.on_held,
            Quarantined: intake.on_quarantined,
            RecordRefused: settle.on_refused,
            ReleaseAsked: takeover.on_release,
            ShardLost: takeover.on_shard_lost,
            Taken: takeover.on_taken,
            WorkerFailed: pool.on_failed,
            WorkerLost: pool.on_lost,
            WorkerReady: pool.on_ready,
        }

    def step(self, event: Event, now: Instant) -> list[Effect]:
        """Take one event; returns what is to be done, in order."""
        handler = self._handlers.get(type(event))
        if handler is None:
            raise ImpossibleStep(f"a leader is never told {event!r}")
        effects: list[Effect] = handler(self.state, event, now)
        if self._checked:
            check(self.state)
        return effects


def _on_tick(state: State, event: Tick, now: Instant) -> list[Effect]:
    for shard in state.shards.values():
        dispatch.unhold(state, shard, now, HOLD_S)
    intake.look_for_oldest(state, now)
    return [
        *pool.watch_boards(state, event.boards, now),
        *keep_pool(state, now),
        *pool.tell_recorded(state, now),
        *adoption.poll_held(state, now),
        *intake.expire(state, now),
        *intake.ask_due(state, now),
        *settle.retry_refused(state, now),
        *takeover.finish(state),
        *dispatch.fill(state, now),
    ]


def _on_configured(state: State, event: Configured, now: Instant) -> list[Effect]:
    config = event.config
    most = max(config.workers, config.workers_max)
    state.bounds = Bounds(config.workers, most, config.grow_wait_s, config.shrink_after_s)
    state.worker_target = min(max(state.worker_target, config.workers), most)
    state.revision = config.revision
    state.drained = frozenset(config.drained)
    state.paused_types = frozenset(config.paused_types)
    state.paused_tenants = frozenset(config.paused_tenants)
    state.ring = config.shards
    state.ready.weights = config.tenant_weights
    state.policies.override(config.policies)
    return keep_pool(state, now) + dispatch.fill(state, now)
