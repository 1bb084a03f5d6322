"""What a run has to reach: each fault, and each way in which something recovers from one.

A counter that stays at zero over many seeds tells of a path that nothing has tested.
"""

from __future__ import annotations

from collections.abc import Mapping

from chimera.sim import faults

#: seeds from which on a counter at zero is a failure: fewer may miss what is rare by chance
SEEDS_ENOUGH = 500

#: counters of what goes wrong: those that a schedule strikes, and what comes of them
FAULTS = (
    *(f"fault_{kind}" for kind in faults.KINDS),
    "died_at_commit", "taker_paused", "spawn_failed",
    "message_held", "message_overtaken", "frame_duplicated",
    "task_killed_worker", "handler_hung", "interpreter_held", "torn_tail",
    "commit_unknown", "disk_full_append", "disk_full_settle", "store_out_of_reach",
)  # fmt: skip
#: counters of what machines do about it
RECOVERIES = (
    "act_end", "act_make", "act_reap", "act_release", "act_retire", "act_take",
    "append_fenced", "cancel_intent", "cancel_waiting_ended", "cancel_waiting_let_be",
    "cancel_waiting_undecided", "collected", "coordinator_made", "coordinator_unheard",
    "deposed", "due", "due_fenced", "ended", "expired_by_worker", "former_worker_silent",
    "frame_recognised",
    "leader_made", "lease_lapsed", "once", "orchestrator_ended", "orchestrator_made",
    "outcome_handed_over", "outcome_masked", "release_finishes", "roster_changed",
    "roster_known", "running_handed_over", "settle_fenced",
    "stale_generation_refused", "stale_orchestrator_refused", "stale_order_refused",
    "stale_term_refused", "stopped_worker_ended", "take_lost", "taken_from_another_region",
    "takeover", "worker_adopted", "worker_killed", "worker_reaped", "worker_retired",
)  # fmt: skip


def unreached(counters: Mapping[str, int]) -> list[str]:
    """The counters that are still at zero, faults first."""
    return [name for name in (*FAULTS, *RECOVERIES) if not counters.get(name)]
