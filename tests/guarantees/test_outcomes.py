"""What may become of a task: cancelled, expired, delayed, retried, dead-lettered and replayed."""

from __future__ import annotations

import time

import pytest

from chimera.errors import NotFound, TaskCancelled, TaskExpired, TaskFailed
from tests.guarantees.kit import Lines, World, notes, open_gate, until

pytestmark = pytest.mark.cluster


def _occupy(world: World, each: int = 3) -> None:
    """Give every worker tasks that wait for the gate, and more of them than it is given at once."""
    log, gate = world.dir / "gates", world.dir / "gate"
    for leader in world.leaders():
        for key in world.keys_of(leader, each):
            world.client.submit(
                "work", {"log": str(log), "gate": str(gate)}, key=key, priority="critical"
            )
    until(lambda: len({one.pid for one in notes(log)}) == len(world.workers()))


def test_a_queued_task_is_cancelled_at_once(swarm):
    log = swarm.dir / "log"
    _occupy(swarm)
    task = swarm.client.submit("work", {"log": str(log)})
    assert task.cancel("changed my mind") == "cancelled"
    with pytest.raises(TaskCancelled):
        task.result(timeout_s=60)
    open_gate(swarm.dir / "gate")
    assert task.cancel() == "cancelled"
    assert swarm.client.call("echo", 1, timeout_s=60) == 1
    assert not notes(log)


def test_a_running_task_sees_that_it_is_cancelled(swarm):
    log = swarm.dir / "log"
    task = swarm.client.submit("patient", {"log": str(log)})
    until(Lines(log))
    assert task.status().state == "running"
    assert task.cancel() == "cancelling"
    assert task.wait(timeout_s=60) == "cancelled"
    assert [one.event for one in notes(log)] == ["ran", "cancelled"]
    with pytest.raises(TaskCancelled, match="cleaned up"):
        task.result(timeout_s=60)


def test_lists_tell_what_runs_and_a_purge_leaves_it_alone(swarm):
    log, gate = swarm.dir / "log", swarm.dir / "gate"
    client = swarm.client
    body = {"log": str(log), "gate": str(gate)}
    runs, waits = (client.submit("work", body, key="k", tags=["listed"]) for _ in range(2))
    until(Lines(log))

    def found(state):
        return [one.task_id for one in client.list(state=state, tag="listed")]

    assert (found("running"), found("queued")) == ([runs.id], [waits.id])
    assert {one.state for one in client.list(tag="listed")} == {"running", "queued"}
    done = [one.cancel("purged", only_waiting=True) for one in (runs, waits)]
    assert done == ["running", "cancelled"]
    with pytest.raises(TaskCancelled, match="before it ran: purged"):
        waits.result(timeout_s=60)
    open_gate(gate)
    assert runs.wait(timeout_s=60) == "succeeded"
    assert found("running") == found("queued") == found("cancelling") == []


def test_a_task_that_has_ended_cannot_be_cancelled(swarm):
    task = swarm.client.submit("echo", 1)
    assert task.result(timeout_s=60) == 1
    assert task.cancel() == "succeeded"
    assert task.result(timeout_s=60) == 1


def test_a_task_expires_if_it_could_not_run_before_its_deadline(swarm):
    log = swarm.dir / "log"
    _occupy(swarm)
    late = swarm.client.submit("work", {"log": str(log), "n": 1}, deadline=time.time() + 0.5)
    keyed = swarm.client.submit(
        "work", {"log": str(log), "n": 2}, deadline=time.time() + 0.5, key="k"
    )
    soon = swarm.client.submit("work", {"log": str(log), "n": 3}, deadline=time.time() + 600)
    for task in (late, keyed):  # though nobody is free to look at them
        with pytest.raises(TaskExpired):
            task.result(timeout_s=60)
    open_gate(swarm.dir / "gate")
    assert soon.result(timeout_s=60) == 3
    assert [one.n for one in notes(log)] == ["3"]


def test_a_delayed_task_waits_for_its_time_and_holds_nobody_up(swarm):
    log = swarm.dir / "log"
    begun = time.monotonic()
    delayed = swarm.client.submit("work", {"log": str(log), "n": 1}, delay_s=1.0, key="k")
    assert delayed.status().state == "scheduled"
    assert swarm.client.call("echo", "at once", key="k", timeout_s=60) == "at once"
    far = swarm.client.submit("echo", 1, not_before=time.time() + 3600)
    assert delayed.result(timeout_s=60) == 1
    (ran,) = notes(log)
    assert ran.at / 1e9 >= begun + 1.0
    assert far.status().state == "scheduled"
    assert far.cancel() == "cancelled"


def test_the_urgent_go_first(swarm):
    log = swarm.dir / "log"
    _occupy(swarm)
    # each task has a key of its own: within a key, order goes before urgency
    tasks = [
        swarm.client.submit("work", {"log": str(log), "n": priority}, key=key, priority=priority)
        for turn, priority in enumerate(("batch", "normal", "critical"))
        for leader in swarm.leaders()
        for key in swarm.keys_of(leader, 18)[6 * turn : 6 * turn + 6]
    ]
    open_gate(swarm.dir / "gate")
    for task in tasks:
        task.result(timeout_s=60)
    found = notes(log)
    for pid in {one.pid for one in found}:
        order = [one.n for one in found if one.pid == pid]
        # every eighth turn the lowest class goes first, so that it never starves
        mean = {
            n: sum(at for at, m in enumerate(order) if m == n) / order.count(n) for n in set(order)
        }
        assert mean["critical"] < mean["normal"] < mean["batch"], order


def test_a_failed_attempt_is_tried_again_up_to_its_last(swarm):
    log = swarm.dir / "log"
    well = swarm.client.submit("flaky", {"log": str(log), "n": 1, "fails": 2}, max_attempts=3)
    assert well.result(timeout_s=60) == 1
    assert well.status().attempts == 3
    ill = swarm.client.submit("flaky", {"log": str(log), "n": 2, "fails": 9}, max_attempts=3)
    with pytest.raises(TaskFailed, match="attempt 3 is to fail"):
        ill.result(timeout_s=60)
    assert ill.status().attempts == 3
    assert [one.attempt for one in notes(log, "ran") if one.n == "2"] == [1, 2, 3]


def test_a_handler_says_when_to_try_again(swarm):
    log = swarm.dir / "log"
    task = swarm.client.submit("flaky", {"log": str(log), "n": 1, "fails": 1, "after_s": 0.7})
    assert task.result(timeout_s=60) == 1
    first, second = notes(log, "ran")
    assert second.at - first.at >= 0.7e9


def test_a_dead_letter_is_replayed_as_a_new_task_and_only_once(swarm):
    log = swarm.dir / "log"
    payload = {"log": str(log), "raises": "permanent"}
    dead = swarm.client.submit("picky", payload, idempotency_key="i", tags=["red"])
    with pytest.raises(TaskFailed):
        dead.result(timeout_s=60)
    new = dead.replay()
    assert new.id != dead.id
    assert dead.replay().id == new.id
    with pytest.raises(TaskFailed):
        new.result(timeout_s=60)
    assert swarm.client.get(new.id).replay_of == dead.id
    assert swarm.client.get(dead.id).replayed_as == new.id
    assert swarm.client.get(dead.id).state == "failed"
    assert len(notes(log)) == 2
    # the key means the replay from now on
    assert swarm.client.submit("picky", payload, idempotency_key="i").id == new.id
    assert {record.task_id for record in swarm.client.list(tag="red")} >= {dead.id}
    with pytest.raises(NotFound):
        swarm.client.submit("echo", 1, key="k").replay()


def test_what_was_said_at_submit_holds_after_a_failover(make_swarm):
    world = make_swarm()
    log, gate = world.dir / "log", world.dir / "gate"
    leader = world.region().leaders[0]
    keys = world.keys_of(leader.leader, 6)
    for key in keys[:3]:  # its only worker is occupied: what follows waits in its journals
        world.client.submit("work", {"log": str(log), "gate": str(gate)}, key=key)
    until(Lines(log))
    client, flaky = world.client, {"log": str(world.dir / "flaky"), "fails": 9}
    twice = [
        client.submit("flaky", {**flaky, "n": n}, idempotency_key=keys[n], max_attempts=2)
        for n in range(3)
    ]
    never = client.submit("flaky", flaky, idempotency_key=keys[3], no_retry=["ValueError"])
    later = client.submit("echo", "late", key=keys[4], delay_s=1.0, tags=["late"])
    expired = client.submit("echo", "x", key=keys[0], deadline=time.time() + 0.3)
    cancelled = client.submit("echo", "x", key=keys[1])
    assert cancelled.cancel() == "cancelled"
    world.kill(leader.process)

    assert expired.wait(timeout_s=100) == "expired"  # by its new owner: its key is busy
    open_gate(gate)
    for task in (*twice, never):
        with pytest.raises(TaskFailed):
            task.result(timeout_s=100)
    assert [task.status().attempts for task in (*twice, never)] == [2, 2, 2, 1]
    assert later.result(timeout_s=100) == "late"
    assert [one.task_id for one in client.list(tag="late")] == [later.id]
    assert cancelled.wait(timeout_s=100) == "cancelled"
    until(lambda: {one.state for one in client.list(type="work")} == {"succeeded"})
    world.check_one_outcome_each()
