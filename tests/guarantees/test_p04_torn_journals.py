"""P4: a journal that lost its tail is noticed: with `durability: fsync` the shard waits for an
operator or an explicit setting, without it the loss is reported and counted. Frames carry
checksums; tasks of a quarantined frame end as `failed: corrupt`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks.ledger import journals
from chimera.actors import boot
from chimera.errors import NotFound, TaskFailed, WaitTimeout
from tests.guarantees.kit import Lines, World, notes, open_gate, payloads, until

pytestmark = pytest.mark.cluster

#: goes to the first shard, and to the second
FIRST, SECOND = 0, 1
EACH = 40


def _wal(world: World, shard: int) -> Path:
    path = journals(world.data_dir)[shard]
    return path.with_name(path.name + "-wal")


def _fill(world: World) -> dict[int, list[str]]:
    """Ids of accepted tasks by shard: each was acknowledged by itself, none has run."""
    log, gate = world.dir / "log", world.dir / "gate"
    keys = {world.shard_of(key): key for key in map(str, range(100))}
    ids: dict[int, list[str]] = {}
    for shard in (FIRST, SECOND):
        ids[shard] = [
            world.client.submit(
                "work", {"log": str(log), "gate": str(gate), "n": n}, key=keys[shard]
            ).id
            for n in range(EACH)
        ]
    until(Lines(log))
    return ids


def _append_garbage(wal: bytes) -> bytes:
    return wal + b"\xa5" * 5000


def _cut_off(wal: bytes) -> bytes:
    return wal[: len(wal) - len(wal) // 4]


def _flip(wal: bytes) -> bytes:
    at = len(wal) * 3 // 4
    return wal[:at] + bytes([wal[at] ^ 0x10]) + wal[at + 1 :]


def _tear(world: World, how: Callable[[bytes], bytes]) -> None:
    """Kill everything, and damage the first shard's WAL as a power loss might."""
    world.kill_all(for_good=True)
    world.client.close()
    wal = _wal(world, FIRST)
    data = wal.read_bytes()
    assert len(data) > 100_000
    wal.write_bytes(how(data))


def test_garbage_behind_the_wal_costs_nothing(make_swarm):
    world = make_swarm(leaders=1, shards=2, durability="fsync")
    ids = _fill(world)
    _tear(world, _append_garbage)
    open_gate(world.dir / "gate")
    world.up()

    for one in (*ids[FIRST], *ids[SECOND]):
        assert world.client.handle(one).wait(timeout_s=100) == "succeeded"
    assert world.counter("lost_tails") == 0
    world.check_one_outcome_each(2 * EACH)


@pytest.mark.parametrize("how", [_cut_off, _flip])
def test_with_fsync_a_shard_that_lost_its_tail_waits_for_a_word(make_swarm, how):
    world = make_swarm(leaders=1, shards=2, durability="fsync")
    ids = _fill(world)
    _tear(world, how)
    open_gate(world.dir / "gate")
    until(lambda: "lost commits" in _refusal(world))
    (leader,) = world.region().leaders
    assert {s.shard: s.state for s in leader.shards} == {FIRST: "lost_tail", SECOND: "serving"}

    world.spec = msgspec.structs.replace(world.spec, accept_lost_tail=True)
    world.up()
    assert world.counter("lost_tails") >= 1
    for one in ids[SECOND]:
        assert world.client.handle(one).wait(timeout_s=100) == "succeeded"
    _check_first(world, ids[FIRST])


def _refusal(world: World) -> str:
    """Why the swarm does not become ready."""
    with pytest.raises(WaitTimeout) as caught:
        boot.up(world.spec, timeout_s=3.0)
    return str(caught.value)


def test_without_fsync_a_lost_tail_is_counted_and_the_rest_goes_on(make_swarm):
    world = make_swarm(leaders=1, shards=2)
    ids = _fill(world)
    _tear(world, _cut_off)
    open_gate(world.dir / "gate")
    world.up()

    assert world.counter("lost_tails") == 1
    for one in ids[SECOND]:
        assert world.client.handle(one).wait(timeout_s=100) == "succeeded"
    _check_first(world, ids[FIRST])


def _check_first(world: World, ids: list[str]) -> None:
    """Some of the last ones are gone, and said to be; the others are done, new ones accepted."""
    states = []
    for one in ids:
        try:
            states.append(world.client.handle(one).wait(timeout_s=100))
        except NotFound:
            states.append("lost")
    kept = states.index("lost")
    assert 0 < kept < EACH
    assert states == ["succeeded"] * kept + ["lost"] * (EACH - kept)
    keys = {world.shard_of(key): key for key in map(str, range(100))}
    assert world.client.call("echo", "new", key=keys[FIRST], timeout_s=100) == "new"


def test_a_flipped_byte_in_a_stored_frame_fails_its_tasks_and_no_others(make_swarm):
    world = make_swarm(leaders=1, shards=2)
    log, gate = world.dir / "log", world.dir / "gate"
    world.client.submit("work", {"log": str(log), "gate": str(gate)}, priority="critical")
    until(Lines(log))
    marked: list[dict[str, Any]] = payloads(50, log, mark="q7Zp")
    torn = world.client.submit_many("work", marked, key="a")
    well = world.client.submit_many("work", payloads(50, log), key="a")
    keyed, plain = list(torn.ids()), list(well.ids())
    world.down()  # all is in the files now
    path = journals(world.data_dir)[world.shard_of("a")]
    data = bytearray(path.read_bytes())
    data[data.index(b"q7Zp")] ^= 1
    path.write_bytes(data)
    open_gate(gate)
    world.up()

    for one in plain:
        assert world.client.handle(one).wait(timeout_s=100) == "succeeded"
    for one in keyed:
        with pytest.raises(TaskFailed, match="corrupt"):
            world.client.handle(one).result(timeout_s=100)
    assert "q7Zp" not in {note.n for note in notes(log)}
    assert len([note for note in notes(log) if note.task_id in set(keyed)]) == 0
    world.check_one_outcome_each(101)
