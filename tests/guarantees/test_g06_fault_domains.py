"""G6: a worker's death costs its in-flight batch one retry. A leader's death does not kill its
workers, and work they finished is not run again. The death of coordinators and of the orchestrator
does not slow the data plane."""

from __future__ import annotations

import signal

import pytest

from tests.guarantees import chronicle
from tests.guarantees.kit import Lines, notes, payloads, times_run, until

pytestmark = pytest.mark.cluster


def test_a_killed_workers_death_repeats_what_was_in_its_hands_and_nothing_else(swarm):
    log = swarm.dir / "log"
    bulk = swarm.client.submit_many("work", payloads(3000, log, ms=1))
    until(lambda: Lines(log)() > 500)
    victim = next(iter(swarm.workers().values())).process
    swarm.kill(victim)

    assert list(bulk.results(timeout_s=100)) == list(range(3000))
    ran = notes(log)
    again = {task for task, times in times_run(ran).items() if times > 1}
    assert max(times_run(ran).values()) <= 2
    # what was repeated is the end of what the dead worker did: its last dispatches
    by_victim = [one.task_id for one in ran if one.pid == victim.pid]
    assert again <= set(by_victim[len(by_victim) - len(again) :])
    assert len(again) < 500
    # only the task in hand has lost an attempt
    attempts = [record.attempts for record in swarm.client.list(type="work")]
    assert len(attempts) == 3000
    assert sum(attempts) - 3000 <= 1


def test_a_killed_leaders_workers_go_on_and_nothing_finished_is_run_again(make_swarm):
    world = make_swarm()
    log = world.dir / "log"
    bulk = world.client.submit_many("work", payloads(4000, log, ms=1))
    until(lambda: Lines(log)() > 500)
    victim = world.region().leaders[0]
    (worker,) = victim.workers
    world.kill(victim.process)
    killed_at = Lines(log)()

    assert list(bulk.results(timeout_s=100)) == list(range(4000))
    ran = notes(log)
    assert set(times_run(ran).values()) == {1}
    assert worker.process.pid in {one.pid for one in ran[killed_at:]}
    world.check_one_outcome_each(4000)
    assert chronicle.violations(world.kept(), [bulk], [log]) == []


@pytest.mark.parametrize("part", ["coordinator", "orchestrator"])
def test_tasks_run_on_while_nobody_is_in_control(swarm, part):
    status = swarm.settle()
    process = status.process if part == "orchestrator" else status.regions["local"].process
    swarm.signal(process, signal.SIGSTOP)
    try:
        bulk = swarm.client.submit_many("echo", range(20_000), timeout_s=60)
        assert list(bulk.results(timeout_s=60)) == list(range(20_000))
        assert swarm.client.call("echo", "one", timeout_s=60) == "one"
    finally:
        swarm.signal(process, signal.SIGCONT)
    swarm.settle()
