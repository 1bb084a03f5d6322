"""Unsent work goes elsewhere, sent work never does, keyed work waits (P13)."""

from __future__ import annotations

import pytest

from chimera.client.ports import NoOwner
from chimera.client.publish import MISSING_S
from chimera.errors import JournalBroken, NotOwner
from tests.unit.client.fake import DIES_AFTER, LOST, MUTE
from tests.unit.client.test_publish import World


def test_shards_that_nobody_has_get_no_unsent_work_until_they_are_back():
    world = World(ring=4, leaders=2)
    for shard in (1, 3):  # a region is cut off
        world.leaders.move(shard, None)
    world.leaders.look()
    for value in range(8):
        world.accepted(world.offer(value))
    assert {call.shard for call in world.leaders.calls} == {0, 2}
    for shard in (1, 3):
        world.leaders.move(shard, "leader/far/0")
    world.engine.advance(MISSING_S + 0.1)
    for value in range(8):
        world.accepted(world.offer(value))
    assert {call.shard for call in world.leaders.calls} == {0, 1, 2, 3}, "nobody looked for them"


def test_a_frame_that_nobody_was_there_to_hear_goes_to_another_shard():
    world = World(ring=2, leaders=2)
    world.script(NoOwner("nobody has it"))
    sent = world.offer(1)
    world.engine.advance(1.0)
    first, again = (call for call in world.leaders.calls if call.verb == "append")
    assert first.shard != again.shard
    assert world.accepted(sent).shard == again.shard
    assert sent.placed.shard == again.shard


@pytest.mark.parametrize("fault", [LOST, DIES_AFTER, MUTE])
def test_a_frame_that_may_have_been_heard_never_goes_to_another_shard(fault):
    world = World(ring=2, leaders=2)
    world.script(fault, NoOwner("nobody"), NoOwner("nobody"))
    sent = world.offer(1)
    world.engine.advance(10.0)
    assert len({call.shard for call in world.leaders.calls if call.verb == "append"}) == 1
    assert world.accepted(sent)


def test_a_frame_whose_commit_is_of_unknown_fate_never_goes_to_another_shard():
    world = World(ring=2, leaders=2)
    world.script(MUTE)
    sent = world.offer(1)
    (lost,) = world.leaders.appends()
    # its journal wrote it, and could not say so; the leader gave the shard up (P22)
    lost.promise.keep([JournalBroken("the disk did not say whether it wrote").to_wire()])
    world.leaders.move(lost.shard, None)
    world.script(NotOwner("not served here"), NoOwner("nobody"))
    world.engine.advance(1.0)
    world.leaders.move(lost.shard, "leader/local/9")
    world.engine.advance(10.0)
    assert {call.shard for call in world.leaders.appends()} == {lost.shard}
    assert world.accepted(sent).shard == lost.shard
    assert sum(len(world.leaders.payloads(shard)) for shard in range(2)) == 1


def test_keyed_work_waits_for_its_shard():
    world = World(ring=2, leaders=2)
    world.script(NoOwner("nobody"), NoOwner("nobody"))
    sent = world.offer(1, shard=1)
    world.engine.advance(5.0)
    assert {call.shard for call in world.leaders.calls} == {1}
    assert world.accepted(sent).shard == 1
