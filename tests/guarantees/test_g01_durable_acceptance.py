"""G1: when submit returns, the command survives the death of every process."""

from __future__ import annotations

import msgspec
import pytest

from tests.guarantees import chronicle
from tests.guarantees.kit import Lines, notes, open_gate, payloads, times_run, until

pytestmark = pytest.mark.cluster


def test_what_was_accepted_survives_the_death_of_every_process(make_swarm):
    world = make_swarm()
    log, gate = world.dir / "log", world.dir / "gate"
    bulk = world.client.submit_many("work", payloads(4000, log, gate=str(gate)))
    until(lambda: Lines(log)() >= 2)  # both workers are in the middle of something
    before = world.status()
    world.kill_all()
    open_gate(gate)

    assert list(bulk.results(timeout_s=100)) == list(range(4000))
    after = world.settle()
    assert after.uuid == before.uuid
    assert not {p.pid for p in after.processes()} & {p.pid for p in before.processes()}
    again = [task for task, times in times_run(notes(log)).items() if times > 1]
    assert len(again) <= 2  # what was in hand
    world.check_one_outcome_each(4000)
    assert chronicle.violations(world.kept(), [bulk], [log]) == []
    _check_that_a_loss_would_show(world, bulk)


def _check_that_a_loss_would_show(world, bulk):
    """What the journals hold of some tasks is withheld, or doubled: the checker says so."""
    kept = list(world.kept())
    lost, doubled, *others = kept
    doubled = msgspec.structs.replace(doubled, outcomes=2)
    found = chronicle.violations([doubled, *others], [bulk])
    assert {(one.guarantee, one.task) for one in found} == {
        ("G1", lost.task), ("G2", doubled.task),
    }  # fmt: skip


def test_what_was_queued_at_the_end_goes_on_when_the_swarm_is_up_again(make_swarm):
    world = make_swarm(leaders=1)
    log, gate = world.dir / "log", world.dir / "gate"
    bulk = world.client.submit_many("work", payloads(2000, log, gate=str(gate)))
    done = world.client.submit("echo", "of old", key="k")
    ids = list(bulk.ids())
    until(Lines(log))
    world.down()
    open_gate(gate)
    world.up()

    assert sorted(world.client.handle(one).result(timeout_s=100) for one in ids[::50]) == list(
        range(0, 2000, 50)
    )
    assert world.client.handle(done.id).result(timeout_s=100) == "of old"
    until(lambda: all(record.state == "succeeded" for record in world.client.list()))
    world.check_one_outcome_each(2001)
