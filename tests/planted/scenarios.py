"""Scripts for the planted bugs that hardly any seed shows, as they need several things in a row.

Each comes to its end with the rules in place, and breaks one of them with its bug planted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from chimera.sim.kernel import STORE
from chimera.sim.world import Plan
from tests.planted.stage import Scenario, Script, Stage, Until, small

#: by the name of the bug
SCENARIOS: dict[str, Scenario] = {}


def shows(bug: str, says: str, plan: Plan) -> Callable[[Script], Script]:
    """Register a script under the bug that it shows, with the rule that is broken then."""

    def register(script: Script) -> Script:
        assert bug not in SCENARIOS, bug
        SCENARIOS[bug] = Scenario(plan, script, says)
        return script

    return register


@shows("former-leader-obeyed", "P6", small())
def a_dispatch_is_in_line_when_its_leader_dies(
    stage: Stage, took_s: float = 0.5
) -> Iterator[Until]:
    leader = stage.leader(0)
    mine, other = stage.shards(leader)
    worker = stage.worker(leader)
    yield from stage.warm_up(mine)
    # two dispatches: the second one waits at the worker
    (first,) = stage.offer(mine, took_s)
    yield lambda: stage.is_running(first, worker)
    (second,) = stage.offer(other, took_s)
    yield lambda: bool(worker.calls)
    # another leader takes the first one's shard, and the worker with it, before the second one's
    stage.disks[other].stall_s = 3 * took_s
    stage.kill(leader)
    yield lambda: stage.epoch(mine) > 1
    stage.disks[other].stall_s = 0.0
    assert stage.is_running(first, worker)
    yield lambda: stage.has_run(first)
    yield lambda: stage.is_recorded(second)


@shows("leaders-known-by-their-names", "P6", small(leaders=1))
def a_dispatch_is_in_line_when_its_leader_dies_and_is_made_again(stage: Stage) -> Iterator[Until]:
    yield from a_dispatch_is_in_line_when_its_leader_dies(stage, 2.0)


@shows("new-worker-unknown", "P6", small())
def a_leader_that_is_behind_has_a_new_worker_and_dies(stage: Stage) -> Iterator[Until]:
    leader = stage.leader(0)
    stage.slow(leader, 0.5, 20.0)
    stage.kill(stage.worker(leader))
    yield stage.later(0.1)
    (task,) = stage.offer(0, 4.0)
    yield lambda: stage.is_running(task)
    stage.kill(leader)
    yield lambda: stage.is_recorded(task)


@shows("busy-leader-condemned", "P3", small())
def a_leader_speaks_late(stage: Stage) -> Iterator[Until]:
    leader = stage.leader(0)
    yield stage.later(1.0)
    stage.slow(leader, 0.4, 1.5)
    yield stage.later(4.0)
    assert leader.alive


@shows("intent-forgotten-in-a-takeover", "G8", small())
def a_leader_and_its_worker_die_at_a_cancelled_task(stage: Stage) -> Iterator[Until]:
    leader = stage.leader(0)
    worker = stage.worker(leader)
    (task,) = stage.offer(0, 1.0)
    yield lambda: stage.is_running(task, worker)
    stage.cancel(task)
    yield lambda: task[1] in stage.disks[0].cancelled_at
    yield stage.later(0.1)
    stage.kill(leader, worker)
    yield lambda: stage.is_recorded(task)


@shows("silent-worker-not-waited-for", "G5", small())
def a_leader_dies_and_its_worker_is_stopped_at_a_keyed_task(stage: Stage) -> Iterator[Until]:
    leader = stage.leader(0)
    worker = stage.worker(leader)
    (task,) = stage.offer(0, 1.0, key="k0")
    yield lambda: stage.is_running(task, worker)
    stage.kill(leader)
    stage.kernel.pause(worker)
    yield lambda: stage.is_recorded(task)


@shows("settled-part-refuses-the-frame", "P8", small())
def a_silent_worker_hands_in_what_was_partly_run_again(stage: Stage) -> Iterator[Until]:
    leader = stage.leader(0)
    worker = stage.worker(leader)
    yield from stage.warm_up(0)
    # one dispatch of four is over when its leader dies: the worker has one frame of outcomes
    tasks = stage.offer(0, *(0.02,) * 4)
    yield lambda: stage.has_run(tasks[-1])
    stage.kill(leader)
    stage.kernel.pause(worker)
    assert not stage.is_recorded(tasks[0])
    # the next leader learns that they are slow: it runs them one by one when the frame comes
    yield lambda: stage.is_recorded(tasks[0])
    stage.kernel.resume(worker)
    yield lambda: all(stage.is_recorded(task) for task in tasks)


@shows("strays-not-asked", "P6", small(lease_s=20.0))
def a_coordinator_dies_beside_a_stopped_leader(stage: Stage) -> Iterator[Until]:
    leader = stage.leader(0)
    worker = stage.worker(leader)
    (task,) = stage.offer(0, 8.0)
    yield lambda: stage.is_running(task, worker)
    # the next coordinator never hears the leader, and its name is in use: by itself
    stage.kill(stage.coordinator(leader))
    stage.kernel.pause(leader)
    yield lambda: stage.epoch(0) > 1
    assert stage.is_running(task, worker)
    yield lambda: stage.is_recorded(task)


@shows("memoise-without-a-fence", "G4", small(regions=2, leaders=1))
def a_region_is_lost_while_a_step_is_to_be_written(stage: Stage) -> Iterator[Until]:
    leader = stage.leader(0)
    worker = stage.worker(leader)
    away = next(host for host in stage.hosts if host != leader.host)
    (task,) = stage.offer(0, 6.0, once=True)
    # it is at work, and its step has no value yet
    yield lambda: stage.is_running(task, worker)
    stage.kernel.cut_off(leader.host, STORE)
    for host in (stage.head, away):
        stage.cut(leader.host, host)
    # the other region runs it again; the worker goes on asking its own leader
    yield lambda: stage.epoch(0) > 1
    yield lambda: (task[1], "step") in stage.disks[0].memos
    assert worker.alive
    stage.kernel.heal(leader.host, STORE)
    yield stage.later(0.5)
    for host in (stage.head, away):
        stage.mend(leader.host, host)
    yield lambda: stage.is_recorded(task)


@shows("cancelled-abroad-and-sent-again", "P9", small())
def a_task_is_cancelled_at_a_former_worker_which_dies(stage: Stage) -> Iterator[Until]:
    leader = stage.leader(0)
    worker = stage.worker(leader)
    (task,) = stage.offer(0, 8.0)
    yield lambda: stage.is_running(task, worker)
    stage.kill(leader)
    yield lambda: stage.epoch(0) > 1
    # its new owner has asked, and waits for it
    yield stage.later(0.5)
    assert stage.is_running(task, worker)
    stage.cancel(task)
    yield lambda: task[1] in stage.disks[0].cancelled_at
    yield stage.later(1.0)
    stage.kill(worker)
    yield lambda: stage.is_recorded(task)


@shows("cancelled-key-not-held", "G5", small())
def a_leader_dies_while_its_worker_is_at_a_cancelled_task(stage: Stage) -> Iterator[Until]:
    leader = stage.leader(0)
    worker = stage.worker(leader)
    (task,) = stage.offer(0, 4.0, key="k0")
    yield lambda: stage.is_running(task, worker)
    stage.cancel(task)
    yield lambda: task[1] in stage.disks[0].cancelled_at
    (behind,) = stage.offer(0, 0.01, key="k0")
    yield lambda: len(stage.disks[0].memory.tasks) > behind[1]
    stage.kill(leader)
    yield lambda: stage.is_recorded(behind)


@shows("silence-taken-for-idleness", "P9", small())
def what_a_stopped_former_worker_runs_is_to_end_if_it_waits(stage: Stage) -> Iterator[Until]:
    leader = stage.leader(0)
    worker = stage.worker(leader)
    (task,) = stage.offer(0, 1.0, key="k0")
    yield lambda: stage.is_running(task, worker)
    stage.kill(leader)
    stage.kernel.pause(worker)
    yield lambda: stage.epoch(0) > 1
    # its new owner has asked each shard's former worker, in vain
    yield lambda: stage.kernel.counters["former_worker_silent"] >= 2
    yield stage.later(0.1)
    stage.cancel_waiting(task)
    yield lambda: stage.is_recorded(task)


@shows("refused-outcome-overtaken", "P9", small())
def what_the_full_disk_has_refused_is_to_end_if_it_waits(stage: Stage) -> Iterator[Until]:
    (task,) = stage.offer(0, 0.2)
    yield lambda: stage.is_running(task)
    stage.disks[0].full = True
    yield lambda: stage.kernel.counters["disk_full_settle"] > 0
    yield stage.later(0.05)
    stage.disks[0].full = False
    stage.cancel_waiting(task)
    yield lambda: stage.is_recorded(task)
