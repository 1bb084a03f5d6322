"""G6: a worker's death costs its in-flight batch one retry; what is to blame pays an attempt, its
neighbours pay none. A task that harms its worker each time ends as a dead letter, alone."""

from __future__ import annotations

from typing import Any

import pytest

from chimera.errors import TaskFailed
from tests.guarantees.kit import Lines, Note, World, notes, open_gate, payloads, until

pytestmark = pytest.mark.cluster

NEIGHBOURS = 300


def _among_neighbours(world: World, type: str, **bad: Any) -> Any:
    """A frame of tasks, one of which is special."""
    frame = payloads(NEIGHBOURS, world.dir / "log")
    frame[NEIGHBOURS // 2].update(bad)
    return world.client.submit_many(type, frame)


def _tried_again(world: World) -> dict[str, list[Note]]:
    """Tasks that needed more than one attempt, and what they noted."""
    again = {record.task_id for record in world.client.list() if record.attempts != 1}
    found = notes(world.dir / "log")
    return {task: [one for one in found if one.task_id == task] for task in again}


@pytest.mark.parametrize("how", ["hangs", "holds the GIL", "stops"])
def test_a_handler_that_never_ends_is_killed_and_only_its_attempt_counts(swarm, how):
    bulk = _among_neighbours(swarm, "deadly", how=how, until=2)

    assert list(bulk.results(timeout_s=100)) == list(range(NEIGHBOURS))
    again = _tried_again(swarm)
    assert list(again) == [bulk[NEIGHBOURS // 2].id], again
    assert bulk[NEIGHBOURS // 2].status().attempts == 2


def test_a_task_that_kills_its_worker_each_time_is_a_dead_letter_and_its_neighbours_are_well(swarm):
    bulk = _among_neighbours(swarm, "deadly", how="dies")

    found = list(bulk.results(timeout_s=100, return_exceptions=True))
    poison = found.pop(NEIGHBOURS // 2)
    assert isinstance(poison, TaskFailed)
    assert poison.details["type"] == "chimera.WorkerDied"
    assert found == [n for n in range(NEIGHBOURS) if n != NEIGHBOURS // 2]
    assert bulk[NEIGHBOURS // 2].status().state == "failed"
    again = _tried_again(swarm)
    assert list(again) == [bulk[NEIGHBOURS // 2].id], again


def test_a_handler_without_heartbeats_is_killed_and_one_with_them_is_not(swarm):
    log, gate = swarm.dir / "log", swarm.dir / "gate"
    silent = swarm.client.submit("beating", {"log": str(log), "gate": str(gate), "beats": False})
    until(Lines(log))
    # the silent one's second attempt has begun: the other has lived through more than a timeout
    lively = swarm.client.submit("beating", {"log": str(log), "gate": str(gate), "n": 7})
    until(lambda: {one.attempt for one in notes(log) if one.task_id == silent.id} == {1, 2})
    with pytest.raises(TaskFailed, match="heartbeat"):
        silent.result(timeout_s=100)
    open_gate(gate)
    assert lively.result(timeout_s=100) == 7
    assert lively.status().attempts == 1


def test_one_bad_task_of_a_thousand_fails_alone(swarm):
    frame = payloads(1000, swarm.dir / "log")
    frame[617]["raises"] = "value"
    bulk = swarm.client.submit_many("picky", frame)

    found = list(bulk.results(timeout_s=100, return_exceptions=True))
    bad = found.pop(617)
    assert found == [n for n in range(1000) if n != 617]
    assert isinstance(bad, TaskFailed)
    assert bad.details["type"] == "builtins.ValueError"
    assert "bad luck" in str(bad)
    assert "in picky" in bad.details["traceback"]
    assert bulk[617].status().attempts == 3
    assert bulk.counts().succeeded == 999
    (letter,) = swarm.client.list(state="failed")
    assert letter.task_id == bulk[617].id


def test_a_long_task_holds_up_none_of_the_short_ones_in_its_frame(make_swarm):
    world = make_swarm(leaders=1, workers=2)
    gate = world.dir / "gate"
    frame: list[dict[str, Any]] = payloads(901, world.dir / "log")
    frame[300]["gate"] = str(gate)
    bulk = world.client.submit_many("work", frame)

    ended = bulk.as_completed(timeout_s=100)
    first = dict(next(ended) for _ in range(900))
    assert first == {n: n for n in range(901) if n != 300}
    assert bulk[300].status().state == "running"
    open_gate(gate)
    assert list(ended) == [(300, 300)]
