"""Commands through a broker: each is in the journal once, or told of with its reason."""

from __future__ import annotations

import pytest

from chimera.contracts.events import Command, Result
from chimera.errors import BusUnavailable, NotOwner, Overloaded
from chimera.frames import command, ids
from chimera.store.protocol import Receipt
from tests.unit.traffic.kit import SHARD, World, frame

SENDER = ("default", 7, 0)


@pytest.fixture(params=[True, False], ids=["log", "queues"])
def world(request: pytest.FixtureRequest) -> World:
    return World(seeks=request.param)


def test_a_frame_of_ours_is_taken_in_as_it_is_and_its_receipt_kept(world: World) -> None:
    world.send(frame())
    world.turn()
    (answer,) = world.receipts.wait(SHARD, [SENDER], 0.0).answers
    assert isinstance(answer, Receipt)
    assert (answer.position, answer.count, answer.duplicate) == (0, 3, False)
    assert [one.task_id for one in world.tasks()] == [ids.format_id(7, SHARD, n) for n in range(3)]


def test_a_frame_that_was_sent_twice_is_in_the_journal_once(world: World) -> None:
    data = frame()
    world.send(data)
    world.send(data)
    world.turn()
    assert len(world.tasks()) == 3
    world.take_over()
    world.send(data)
    world.turn()
    (answer,) = world.receipts.wait(SHARD, [SENDER], 0.0).answers
    assert isinstance(answer, Receipt)
    assert answer.duplicate
    assert len(world.tasks()) == 3


def test_commands_of_others_share_frames_and_those_of_a_key_keep_their_order(world: World) -> None:
    for n in range(6):
        world.command(b"%d" % n, f"a{n}", key="k" if n % 2 else None)
    world.command(b"7", "s", type="slow")
    world.command(b"8", "a8", key="k", tags=("x",))
    world.turn()
    tasks = world.tasks()
    assert len(tasks) == 8
    bodies = {one.position: world.journal.find("default", *_key(one.task_id)) for one in tasks}
    keyed = [bodies[at].payload for at in sorted(bodies) if bodies[at].key == "k"]
    assert keyed == [b"1", b"3", b"5", b"8"]
    assert {one.type: one.priority for one in tasks} == {"echo": 1, "slow": 2}
    assert len(world.disk.frames) == 3


def _key(task_id: str) -> tuple[int, int]:
    key = ids.parse_id(task_id)
    return key.session, key.counter


def test_a_command_that_is_handed_out_twice_is_one_task(world: World) -> None:
    world.command(id="once")
    world.command(id="once")
    world.command(id="twice")
    world.turn()
    world.take_over()
    world.command(id="once")
    world.turn()
    assert sorted(one.key or "" for one in world.tasks()) == ["", ""]
    columns = command.columns(world.disk.frames[0].arrival.frame)
    assert columns.events == ["once", "once", "twice"]
    assert command.head(world.disk.frames[0].arrival.frame).source == "/shop"


def test_a_command_may_bring_an_id_of_its_shard(world: World) -> None:
    mine, elsewhere = ids.format_id(9, SHARD, 5), ids.format_id(9, SHARD + 1, 5)
    world.command(id="a")
    for event_id, task_id in (("b", mine), ("c", elsewhere)):
        world.publish(Command(type="echo", payload=b"1", id=task_id), event_id)
    world.turn()
    assert mine in [one.task_id for one in world.tasks()]
    ((letter, _),) = world.letters()
    assert "of shard 2, not 1" in letter.error.message


def test_what_cannot_be_a_task_is_told_of_with_its_reason_and_origin(world: World) -> None:
    world.raw(b"no avro")
    world.raw(b"\0\0\0\xff\xff1")
    world.publish(Result(task_id="x", type="t", state="failed", recorded_at=1), "r")
    world.command(b"{", id="json")
    world.command(b"-1", id="contract")
    world.command(id="type", type="nobody")
    world.command(id="fine")
    world.turn()
    assert len(world.tasks()) == 1
    found = world.letters()
    assert [letter.reason for letter, _ in found] == [
        "bad_record", "unknown_schema", "bad_record", "invalid_payload", "invalid_payload",
        "unknown_task_type",
    ]  # fmt: skip
    first = found[0][0]
    assert first.record == b"no avro"
    assert first.origin is not None
    assert (first.origin.topic, first.origin.partition) == ("chimera.t.commands", SHARD)
    world.take_over()
    world.turn()
    assert len(world.letters()) == 6, "what was refused is not read again"


def test_one_that_the_journal_refuses_spoils_no_other(world: World) -> None:
    for n, key in enumerate(["a", "nul\0", "b"]):
        world.command(b"%d" % n, f"c{n}", key=key)
    world.turn()
    assert [one.key for one in world.tasks()] == ["a", "b"]
    ((letter, _),) = world.letters()
    assert "NUL" in letter.error.message


def test_whatever_a_record_makes_a_library_raise_it_is_told_of(world: World) -> None:
    world.command(b"[" * 100_000 + b"]" * 100_000, "deep")
    world.command(b"1", "fine")
    world.turn()
    assert len(world.tasks()) == 1
    assert [letter.reason for letter, _ in world.letters()] == ["bad_record"]


def test_a_full_shard_leaves_the_records_where_they_are(world: World) -> None:
    world.bound = 4
    world.send(frame(0))
    world.send(frame(3))
    for _ in range(2):
        with pytest.raises(Overloaded):
            world.turn()
    told = world.receipts.wait(SHARD, [SENDER, ("default", 7, 3)], 5.0)
    assert told.stalled is not None
    assert told.stalled["code"] == Overloaded.code
    assert [answer is None for answer in told.answers] == [False, True]
    world.bound = 100
    world.turn()
    assert len(world.tasks()) == 6
    assert world.receipts.wait(SHARD, [SENDER], 0.0).stalled is None


def test_a_broker_that_dies_before_the_dead_letters_are_out_loses_none(world: World) -> None:
    world.raw(b"broken")
    world.command(id="fine")
    publish = world.bus.publish
    world.bus.publish = lambda records, timeout: [BusUnavailable()] * len(records)
    with pytest.raises(BusUnavailable):
        world.turn()
    world.bus.publish = publish
    world.turn()
    assert (len(world.letters()), len(world.tasks())) == (1, 1)


def test_a_former_owner_takes_nothing_in(world: World) -> None:
    former = world.intake
    assert former is not None
    world.disk.epoch += 1
    world.send(frame())
    with pytest.raises(NotOwner):
        former.turn(0.01)
    world.take_over()
    world.turn()
    assert len(world.tasks()) == 3


def test_an_idempotency_key_with_another_payload_is_told_of(world: World) -> None:
    world.command(b"1", "a", idempotency_key="order-7")
    world.command(b"1", "b", idempotency_key="order-7")
    world.command(b"2", "c", idempotency_key="order-7")
    world.turn()
    ((letter, _),) = world.letters()
    assert letter.reason == "idempotency_conflict"
    assert len(world.tasks()) == 1
