"""The pool's size and make-up: workers made, replaced by newer ones, and let go without a loss.

A worker goes only when it has nothing in hand: it is given no more work first. One of an older
revision goes when a new one is ready in its place, one at a time, so that handlers that do not load
never cost a worker that works.
"""

from __future__ import annotations

from chimera.swarm.leader.effects import Effect, Retire, Spawn
from chimera.swarm.leader.events import Instant
from chimera.swarm.leader.ready import Piece
from chimera.swarm.leader.state import State, Worker

#: how long a worker above the target must have been idle before it is let go
SURPLUS_S = 2.0
#: how long a busy one stays: until a dead leader, whose worker it may have been, is there again
BUSY_SURPLUS_S = 10.0


def keep_pool(state: State, now: Instant) -> list[Effect]:
    """As many workers as there should be, all of the newest revision."""
    _retarget(state, now)
    staying = [worker for worker in state.workers.values() if not worker.retiring]
    drained = [worker for worker in staying if worker.name in state.drained]
    serving = [worker for worker in staying if worker.name not in state.drained]
    # one that loads a model is no replacement, and one of an older revision goes before a newer
    serving.sort(key=lambda worker: (not worker.ready, _is_stale(state, worker)))
    wanted, surplus = serving[: state.worker_target], serving[state.worker_target :]
    out = _make(state, serving, now)
    for worker in wanted:
        worker.leaving = False
    if not surplus:
        state.surplus_since = None
    elif state.surplus_since is None:
        state.surplus_since = now.mono
    for worker in drained:
        worker.leaving = True
    replaced = any(not _is_stale(state, worker) for worker in wanted if worker.ready)
    for worker in surplus:
        if state.worker_target == 0 or (replaced and _is_stale(state, worker)):
            worker.leaving = True
    return out + [e for worker in (*drained, *surplus) for e in _let_go(state, worker, now)]


def _retarget(state: State, now: Instant) -> None:
    """Follow the load, within what the spec allows."""
    bounds = state.bounds
    if bounds.most <= bounds.least:
        state.worker_target = bounds.least
    elif state.scaler.is_due(now.mono):
        waiting_s = state.ready.work_s(lambda piece: _cost_s(state, piece))
        busy = sum(bool(worker.flights) for worker in state.workers.values())
        state.worker_target = state.scaler.target(
            state.worker_target, waiting_s, busy, bounds, now.mono
        )


def _cost_s(state: State, piece: Piece) -> float:
    """Expected seconds a task; none for what may not run now, whoever there is to run it."""
    if state.is_paused(piece):
        return 0.0
    return state.type(piece.policy.type).cost_s / piece.policy.concurrency


def _is_stale(state: State, worker: Worker) -> bool:
    return worker.revision != state.revision


def _make(state: State, serving: list[Worker], now: Instant) -> list[Effect]:
    """Make what lacks; one more than that while another is to be replaced."""
    lacking = state.worker_target - len(serving)
    if lacking == 0 and any(_is_stale(state, worker) for worker in serving):
        lacking = 1
    if lacking <= 0 or now.mono < state.spawn_at:
        return []
    out: list[Effect] = []
    for _ in range(lacking):
        state.spawned += 1
        name = f"{state.incarnation}-{state.spawned}"
        state.workers[name] = Worker(name, revision=state.revision)
        out.append(Spawn(name))
    return out


def _let_go(state: State, worker: Worker, now: Instant) -> list[Effect]:
    """A worker too many goes when it is idle; under a load that never ends it gets no more work."""
    if state.surplus_since is not None and now.mono - state.surplus_since > BUSY_SURPLUS_S:
        worker.leaving = True
    idle = worker.ready and not worker.flights and not worker.recorded
    rested = worker.leaving or now.mono - worker.idle_since > SURPLUS_S
    if not (idle and rested) or _is_away(state, worker.name):
        return []
    worker.retiring = True
    return [Retire(worker.name)]


def _is_away(state: State, name: str) -> bool:
    return any(name in shard.abroad() | shard.asking for shard in state.shards.values())
