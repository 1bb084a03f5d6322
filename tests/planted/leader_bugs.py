"""Bugs in a leader's machine: adoption, order, retries, blame, cancelling."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chimera.swarm.leader import adoption, dispatch, intake, overstay, takeover
from chimera.swarm.leader import workers as pool
from chimera.swarm.leader.drafts import Draft
from chimera.swarm.leader.state import Shard
from tests.planted.planting import after, before, bug


def _handler(patch: pytest.MonkeyPatch, module: Any, name: str, change: Any) -> None:
    """Change a handler of events: machines look them up when they are made."""
    real = getattr(module, name)
    patch.setattr(module, name, lambda state, event, now: change(real, state, event, now))


@bug("P6", "a new owner does not ask the former owner's workers: what they have is run again")
def adoption_forgotten(patch: pytest.MonkeyPatch) -> None:
    def change(real: Any, state: Any, event: Any, now: Any) -> Any:
        return real(state, replace(event, former_workers=()), now)

    _handler(patch, takeover, "on_taken", change)


@bug("P5", "what a former owner's worker has finished is not taken over")
def held_outcomes_ignored(patch: pytest.MonkeyPatch) -> None:
    def change(real: Any, state: Any, event: Any, now: Any) -> Any:
        return real(state, replace(event, arrived=()), now)

    _handler(patch, adoption, "on_held", change)


@bug("P6", "what a former owner's worker runs is given to another one as well")
def running_tasks_ignored(patch: pytest.MonkeyPatch) -> None:
    def change(real: Any, state: Any, event: Any, now: Any) -> Any:
        return real(state, replace(event, running=()), now)

    _handler(patch, adoption, "on_held", change)


@bug("P15", "keyed tasks do not wait for a worker that is silent, and may run")
def silent_worker_not_waited_for(patch: pytest.MonkeyPatch) -> None:
    def change(real: Any, state: Any, event: Any, now: Any) -> Any:
        if event.silent:
            event = replace(event, silent=False)
        return real(state, event, now)

    _handler(patch, adoption, "on_held", change)


@bug("P15", "a key is free when its task ends, before the outcome is recorded")
def key_freed_before_the_record(patch: pytest.MonkeyPatch) -> None:
    real = pool.take_in

    def early(state: Any, drafts: Any, *more: Any) -> Any:
        again = real(state, drafts, *more)
        for draft in drafts.by_shard.values():
            for piece in reversed(draft.shard.keys.settle(draft.final)):
                state.ready.push(piece, front=True)
        return again

    patch.setattr(pool, "take_in", early)


@bug("G5", "tasks wait in the order of arrival, whatever their keys")
def keys_ignored(patch: pytest.MonkeyPatch) -> None:
    def change(real: Any, state: Any, event: Any, now: Any) -> Any:
        frames = tuple(replace(frame, keys=None) for frame in event.frames)
        return real(state, replace(event, frames=frames), now)

    _handler(patch, intake, "on_appended", change)


@bug("P16", "a new owner does not put retries back into their keys' order")
def waiting_retries_not_restored(patch: pytest.MonkeyPatch) -> None:
    def change(real: Any, state: Any, event: Any, now: Any) -> Any:
        return real(state, replace(event, holding=()), now)

    _handler(patch, takeover, "on_taken", change)


@bug("P16", "a retry in wait lets later tasks of its key go first")
def retry_does_not_hold_its_key(patch: pytest.MonkeyPatch) -> None:
    real = Draft.failed_attempt

    def changed(self: Any, position: int, *more: Any) -> None:
        real(self, position, *more)
        if position in self.shard.keys.asleep:
            self.shard.keys.drop_waiting(position)
        self.parks[:] = [replace(park, holds_key=False) for park in self.parks]

    patch.setattr(Draft, "failed_attempt", changed)


@bug("P16", "a parked task is started before its time")
def delay_cut_short(patch: pytest.MonkeyPatch) -> None:
    real = intake.ask_due

    def changed(state: Any, now: Any) -> Any:
        ahead = now._replace(unix_ms=now.unix_ms + 5000)
        return real(state, ahead)

    patch.setattr(intake, "ask_due", changed)


@bug("P16", "a parked task that is loaded twice runs twice")
def due_task_loaded_twice(patch: pytest.MonkeyPatch) -> None:
    def change(real: Any, state: Any, event: Any, now: Any) -> Any:
        shard = state.shards.get(event.shard)
        out = real(state, event, now)
        if shard is not None:
            shard.loaded.clear()
            shard.next_due = now.unix_ms if event.tasks else shard.next_due
        return out

    _handler(patch, intake, "on_due", change)


@bug("P9", "a queued task that is cancelled waits on, and runs")
def cancel_of_a_queued_task_ignored(patch: pytest.MonkeyPatch) -> None:
    _handler(patch, intake, "on_cancel", lambda *_: [])


@bug("P9", "a cancel that is only for what waits reaches what runs")
def running_task_cancelled_as_a_waiting_one(patch: pytest.MonkeyPatch) -> None:
    def change(real: Any, state: Any, event: Any, now: Any) -> Any:
        return real(state, replace(event, only_waiting=False), now)

    _handler(patch, intake, "on_cancel", change)


@bug("P9", "what a silent former worker runs is taken for waiting: it is cancelled as such")
def silence_taken_for_idleness(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Shard, "is_unheard", lambda shard: shard.phase == "adopting")


@bug("P9", "a cancel overtakes an outcome that the full disk has refused")
def refused_outcome_overtaken(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(intake, "is_ending", lambda *_: False)


@bug("P9", "a new owner does not know what was to be cancelled")
def intent_forgotten_in_a_takeover(patch: pytest.MonkeyPatch) -> None:
    def change(real: Any, state: Any, event: Any, now: Any) -> Any:
        return real(state, replace(event, cancelling=()), now)

    _handler(patch, takeover, "on_taken", change)


@bug("P9", "a task that was cancelled in flight and is given back unbegun is sent again")
def given_back_though_cancelled(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        dispatch, "reopen", lambda state, drafts, pieces: dispatch.give_back(state, pieces)
    )


@bug("P7", "a worker's death costs all that it had one attempt")
def all_are_blamed(patch: pytest.MonkeyPatch) -> None:
    from chimera.frames.outcome import Failure

    def changed(state: Any, drafts: Any, worker: Any, flight: Any, board: Any, now: Any) -> Any:
        for piece in flight.rest(flight.done):
            draft = drafts.of(piece.shard)
            for position in range(piece.first, piece.stop) if draft is not None else ():
                fault = Failure("chimera.WorkerDied")
                draft.failed_attempt(position, piece.policy, piece.attempt, fault, now)
        return []

    patch.setattr(pool, "_crashed", changed)


@bug("P7", "a task that kills its worker is not blamed: it kills them all, for ever")
def nobody_is_blamed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        pool, "_crashed",
        lambda state, drafts, worker, flight, board, now: flight.rest(flight.done),
    )  # fmt: skip


@bug("G2", "what a dead worker had in hand is forgotten")
def dead_workers_work_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pool, "_crashed", lambda *_: [])


@bug("P1", "a leader that was fenced out goes on with the shard")
def fenced_leader_goes_on(patch: pytest.MonkeyPatch) -> None:
    _handler(patch, takeover, "on_shard_lost", lambda *_: [])


@bug("G7", "a settlement that the full disk refused is not tried again")
def refused_settlement_dropped(patch: pytest.MonkeyPatch) -> None:
    from chimera.swarm.leader import settle

    def change(_: Any, state: Any, event: Any, now: Any) -> Any:
        pending = state.pending.pop(event.token, None)
        shard = state.shards.get(event.shard)
        if pending is not None and shard is not None:
            shard.pending -= 1
        return []

    _handler(patch, settle, "on_refused", change)


@bug("P5", "workers are let forget outcomes that are not recorded yet")
def recorded_said_too_early(patch: pytest.MonkeyPatch) -> None:
    def early(state: Any, event: Any, now: Any) -> None:
        worker = state.workers.get(event.worker)
        if worker is not None:
            worker.recorded += [item.serial for item in event.arrived]

    before(patch, pool, "on_replied", early)


@bug("P6", "a new owner dispatches before the former owner's workers have answered")
def dispatched_while_adopting(patch: pytest.MonkeyPatch) -> None:
    def eager(out: Any, state: Any, event: Any, now: Any) -> Any:
        shard = state.shards[event.shard]
        if shard.phase == "adopting":
            shard.asking.clear()
            out += takeover.serve(state, shard, now)
        return out

    after(patch, takeover, "on_taken", eager)


@bug("P7", "a retry is dispatched before the journal knows of it")
def retry_not_recorded(patch: pytest.MonkeyPatch) -> None:
    def unsaid(_: Any, self: Any, position: int, *__: Any) -> None:
        self.parks = [
            replace(park, attempt=park.attempt - 1) if park.position == position else park
            for park in self.parks
        ]

    after(patch, Draft, "failed_attempt", unsaid)


@bug(
    "P3", "nobody counts the time of what a former owner's worker is at: it is waited for for ever"
)
def former_attempt_never_too_long(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(overstay, "watch", lambda *_: [])
    patch.setattr(overstay, "is_lost", lambda *_: False)


@bug("P15", "the key of a cancelled task is free, though a former owner's worker still runs it")
def cancelled_key_not_held(patch: pytest.MonkeyPatch) -> None:
    def forget(state: Any, shard: Any, event: Any) -> None:
        shard.holding = list(event.holding)

    patch.setattr(takeover, "_hold_cancelled", forget)


@bug("P9", "a task that is cancelled at a former owner's worker is sent again when that dies")
def cancelled_abroad_and_sent_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        adoption, "_give_back", lambda state, _, __, pieces: dispatch.give_back(state, pieces)
    )
