"""The leader's helpers without Ray: what the machine is told, what waiters see, what is written."""

from __future__ import annotations

import queue
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chimera import names
from chimera.actors import processes
from chimera.actors.clock import unix_ms
from chimera.actors.leader_loop import Loop
from chimera.actors.recorder import Recorder
from chimera.actors.shards import Shards, open_journal
from chimera.actors.waiters import Waiters
from chimera.errors import ChimeraError, CorruptFrame, NotOwner, StaleEpoch, Unavailable
from chimera.frames import command, outcome
from chimera.store.protocol import Receipt
from chimera.swarm.facts import Settlement, Single
from chimera.swarm.leader.effects import ReadDue, Record
from chimera.swarm.leader.events import (
    Appended,
    Due,
    NewFrame,
    Quarantined,
    Recorded,
    ShardLost,
    Taken,
)
from chimera.swarm.policy import TASK_OPTIONS, TaskPolicy
from chimera.swarm.reports import LeaderConfig, TakeOrder

AT = unix_ms()


def imported(*names: str) -> set[str]:
    """All that is imported with these modules of actors, in a process of its own."""
    code = f"import sys, {', '.join(f'chimera.actors.{name}' for name in names)}"
    command = [sys.executable, "-c", f"{code}; print(*sys.modules)"]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    return set(found.stdout.split())


def test_a_workers_handle_of_its_leader_brings_none_of_the_leaders_parts() -> None:
    found = imported("worker", "leader")
    assert "ray" in found
    parts = {"actors.shards", "actors.traffic", "swarm.leader", "store.journal", "client"}
    assert found.isdisjoint(f"chimera.{part}" for part in parts)


def test_what_only_a_broker_needs_is_not_imported_without_one() -> None:
    found = imported("coordinator", "house", "leader_loop", "traffic")
    assert found.isdisjoint({"fastavro", "httpx2", "chimera.contracts", "chimera.bus.connect"})


@pytest.fixture
def told() -> queue.SimpleQueue[Any]:
    return queue.SimpleQueue()


@pytest.fixture
def shards(tmp_path: Path, told: queue.SimpleQueue[Any]) -> Iterator[Shards]:
    config = LeaderConfig(
        swarm="t", region="r", generation=1, data_dir=str(tmp_path), fsync=False, handlers=(),
        workers=0, worker_lease_s=30, queue_bound=10_000, objects_url="", outcome_retention_s=60,
        idempotency_retention_s=60, resend_window_s=86_400, accept_lost_tail=False, shards=1,
    )  # fmt: skip
    made = Shards(config, processes.identity("leader/r/0"), told.put)
    made.types["t"] = TaskPolicy(type="t")
    order = TakeOrder(term=1, shard=0, epoch=0)
    journal = made.check_order(order)
    assert journal is not None
    made.take(journal, order)
    yield made
    made.close()


def frame(first: int, count: int, **columns: Any) -> bytes:
    given = command.Columns(**columns) if columns else None
    payloads = [b"1"] * count
    return command.pack(7, 0, first, command.Head("t", at=AT), payloads, given)


def unexpected(shard: int, fault: ChimeraError) -> None:
    pytest.fail(f"shard {shard}: {fault}")


def outcomes(position: int, count: int) -> Settlement:
    blob = outcome.pack(0, 1, position, b"\1" * count, [b"1"] * count)
    return Settlement(frames=(blob,))


def test_the_machine_is_told_of_positions_in_order_whatever_thread_is_first(
    shards: Shards, told: queue.SimpleQueue[Any]
) -> None:
    def append(start: int) -> None:
        for first in range(start, start + 100, 5):
            shards.append(0, (frame(first, 5),))

    threads = [threading.Thread(target=append, args=(1000 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    positions: list[int] = []
    while not told.empty():
        event = told.get()
        assert isinstance(event, Appended)
        positions += [new.position for new in event.frames]
    assert positions == sorted(positions)
    assert len(positions) == 80


def test_a_frame_sent_again_is_answered_alike_and_told_once(
    shards: Shards, told: queue.SimpleQueue[Any]
) -> None:
    first, again = (shards.append(0, (frame(0, 3),))[0] for _ in range(2))
    assert isinstance(first, Receipt)
    assert isinstance(again, Receipt)
    assert (again.position, again.duplicate) == (first.position, True)
    assert isinstance(told.get(), Appended)
    assert told.empty()


def test_duplicates_inside_a_frame_are_not_to_be_run(
    shards: Shards, told: queue.SimpleQueue[Any]
) -> None:
    shards.append(0, (frame(0, 3, idempotency=["a", "a", None]),))
    (new,) = told.get().frames
    assert isinstance(new, NewFrame)
    assert new.ranges == ((0, 1), (2, 3))


def test_what_cannot_be_run_is_refused_before_it_is_written(shards: Shards) -> None:
    head = command.Head("nobody", at=AT)
    odd = command.Head("t", at=AT, options={"max_attempts": "many"})
    strange = command.Head("t", at=AT, options={"is_async": True})
    answers = shards.append(
        0, [command.pack(7, 0, i, h, [b"1"]) for i, h in enumerate((head, odd, strange))]
    )
    codes = [answer["code"] for answer in answers if isinstance(answer, dict)]
    assert codes == ["unknown_task_type", "invalid_request", "invalid_request"]
    assert shards.journal(0).stats()["tasks"] == 0


def test_a_shard_that_is_not_served_here_is_refused_by_name(shards: Shards) -> None:
    (answer,) = shards.append(3, (frame(0, 1),))
    assert isinstance(answer, dict)
    assert answer["code"] == NotOwner.code


def test_an_order_with_another_epoch_is_refused_with_the_true_one(shards: Shards) -> None:
    shards.drop(0)
    with pytest.raises(StaleEpoch) as refused:
        shards.check_order(TakeOrder(term=1, shard=0, epoch=0))
    assert refused.value.details["epoch"] == 1


def test_after_a_commit_of_unknown_fate_the_shard_is_read_again(
    shards: Shards, told: queue.SimpleQueue[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = shards.journal(0)
    real = journal.append

    def cut_off(*args: Any) -> Any:
        real(*args)
        raise Unavailable("the server went away in the middle of COMMIT")

    monkeypatch.setattr(type(journal), "append", lambda _, *args: cut_off(*args))
    (answer,) = shards.append(0, (frame(0, 3),))
    monkeypatch.undo()
    assert answer["code"] == Unavailable.code  # type: ignore[index]
    assert told.get_nowait() == ShardLost(0), "else nobody runs what was committed"
    again = shards.check_order(TakeOrder(term=1, shard=0, epoch=1))
    assert again is not None
    taken = shards.take(again, TakeOrder(term=1, shard=0, epoch=1))
    assert [new.count for new in taken.frames] == [3]


def test_a_region_that_has_not_heard_of_the_newer_spec_cannot_take_a_shard_back(
    shards: Shards, told: queue.SimpleQueue[Any]
) -> None:
    elsewhere = processes.identity("leader/near/0")
    theirs = Shards(shards.config, elsewhere, told.put)
    newer = TakeOrder(term=1, shard=0, epoch=1, generation=8)
    with closing(theirs):
        journal = theirs.check_order(newer)
        assert journal is not None
        assert journal.take(1, replace(elsewhere, generation=8)) == 2
        assert shards.append(0, (frame(0, 1),))[0]["code"] == NotOwner.code  # type: ignore[index]
        with pytest.raises(NotOwner, match="given to leader/near/0 by a newer spec"):
            shards.check_order(TakeOrder(term=1, shard=0, epoch=2, generation=7))
        again = shards.check_order(TakeOrder(term=1, shard=0, epoch=2, generation=9))
        assert again is not None


def test_a_taker_that_was_stopped_does_not_end_who_took_the_shard_meanwhile(
    shards: Shards, told: queue.SimpleQueue[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    monkeypatch.setattr(processes, "end", lambda owner: ended.append(owner.name))
    slow = Shards(shards.config, processes.identity("leader/r/1"), told.put)
    order = TakeOrder(term=1, shard=0, epoch=1)
    with closing(slow):
        journal = slow.check_order(order)
        assert journal is not None
        with closing(open_journal(shards.config, 0)) as other:
            other.take(1, processes.identity("leader/r/2"))
        with pytest.raises(StaleEpoch):
            slow.take(journal, order)
    assert ended == []


def test_a_former_owner_starts_nothing_that_is_due(shards: Shards) -> None:
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    parts: Any = None
    loop = Loop("leader/r/0", "i", shards.config, inbox, shards, parts, parts, lambda: None)
    inbox.get_nowait()  # its configuration
    loop._read_due(ReadDue(0, AT + 10_000, 10))
    assert inbox.get_nowait() == Due(0, (), None)
    with closing(open_journal(shards.config, 0)) as other:
        other.take(1, processes.identity("leader/r/2"))
    loop._read_due(ReadDue(0, AT + 10_000, 10))
    assert inbox.get_nowait() == ShardLost(0)
    assert shards.recording(0) is None


def test_what_a_frame_says_of_its_tasks_is_known_to_a_new_owner(shards: Shards) -> None:
    options = {name: getattr(TaskPolicy(type="t"), name) for name in TASK_OPTIONS}
    options |= {"max_attempts": 2, "no_retry": ["KeyError"]}
    said = command.Head("t", at=AT, options=options)
    (answer,) = shards.append(0, (command.pack(7, 0, 0, said, [b"1"]),))
    assert isinstance(answer, Receipt)
    assert [new.options for new in retaken(shards).frames] == [options]


def test_a_corrupt_frame_ends_failed_and_does_not_keep_its_shard_from_a_new_owner(
    shards: Shards, tmp_path: Path
) -> None:
    shards.append(0, (frame(0, 2, keys=["torn", "torn"]), frame(2, 1, keys=["whole"])))
    with closing(sqlite3.connect(tmp_path / "journals" / names.journal(0))) as db, db:
        (stored,) = db.execute("SELECT frame FROM commands WHERE position = 0").fetchone()
        torn = stored.replace(b"torn", b"born")
        db.execute("UPDATE commands SET frame = ? WHERE position = 0", (torn,))
    assert [new.position for new in retaken(shards).frames] == [2]
    lost = shards.journal(0).find("default", 7, 0)
    assert (lost.state, b"corrupt" in (lost.body or b"")) == ("failed", True)


def retaken(shards: Shards) -> Taken:
    """What a new owner finds."""
    epoch = shards.journal(0).epoch
    shards.drop(0)
    order = TakeOrder(term=1, shard=0, epoch=epoch)
    journal = shards.check_order(order)
    assert journal is not None
    return shards.take(journal, order)


def test_a_waiter_returns_when_all_it_asked_for_is_recorded(shards: Shards) -> None:
    waiters = Waiters(shards)
    shards.append(0, (frame(0, 4),))
    found, complete = waiters.wait(0, [(0, 4)], 0.0)
    assert (found.frames, complete) == ((), False)
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(waiters.wait(0, [(0, 4)], 30.0)))
    thread.start()
    shards.journal(0).settle(outcomes(0, 2), 1)
    waiters.settled(0)
    shards.journal(0).settle(
        Settlement(singles=(Single(2, outcome.FAILED, 1, b"{}"), Single(3, 2, 1, b"{}"))), 1
    )
    waiters.settled(0)
    thread.join(30.0)
    ((found, complete),) = got
    assert complete
    assert len(found.frames) == 1
    assert [single.position for single in found.singles] == [2, 3]


def test_settlements_of_one_shard_share_a_transaction(
    shards: Shards, told: queue.SimpleQueue[Any]
) -> None:
    recorder = Recorder(shards, Waiters(shards), told.put, unexpected)
    shards.append(0, (frame(0, 10),))
    told.get()
    for token in range(10):
        recorder.put(Record(0, token, outcomes(token, 1)))
    events = [told.get(timeout=10) for _ in range(10)]
    assert events == [Recorded(0, token, 1) for token in range(10)]
    recorder.stop(5.0)


def test_what_has_an_outcome_already_is_not_counted_again(
    shards: Shards, told: queue.SimpleQueue[Any]
) -> None:
    recorder = Recorder(shards, Waiters(shards), told.put, unexpected)
    shards.append(0, (frame(0, 4),))
    told.get()
    assert recorder.write_now(Record(0, 1, outcomes(0, 3))) == [Recorded(0, 1, 3)]
    assert recorder.write_now(Record(0, 2, outcomes(0, 4))) == [Recorded(0, 2, 1)]
    recorder.stop(5.0)


def test_a_fenced_write_loses_the_shard(
    shards: Shards, told: queue.SimpleQueue[Any], tmp_path: Path
) -> None:
    recorder = Recorder(shards, Waiters(shards), told.put, unexpected)
    shards.append(0, (frame(0, 1),))
    told.get()
    usurper = open_journal(shards.config, 0)
    usurper.take(1, processes.identity("leader/r/1"))
    try:
        assert recorder.write_now(Record(0, 1, outcomes(0, 1))) == [ShardLost(0)]
        assert shards.owned() == {}
    finally:
        usurper.close()
        recorder.stop(5.0)


def test_a_corrupt_frame_is_put_aside_by_whoever_reads_it(
    shards: Shards, told: queue.SimpleQueue[Any], tmp_path: Path
) -> None:
    shards.append(0, (frame(0, 3),))
    told.get()
    with sqlite3.connect(tmp_path / "journals" / "shard-0000.sqlite") as db:
        (blob,) = db.execute("SELECT frame FROM commands").fetchone()
        db.execute("UPDATE commands SET frame = ?", (blob[:-1] + b"?",))
    db.close()
    found, complete = Waiters(shards).wait(0, [(0, 3)], 0.0)
    assert (found.singles, complete) == ((), False), "no outcome is made of what nobody read"
    assert shards.readable(0, lambda journal: journal.find("default", 7, 1)).state == "failed"
    assert told.get() == Quarantined(0, 0, 3, 3)
    assert len(Waiters(shards).wait(0, [(0, 3)], 0.0)[0].singles) == 3


def test_what_cannot_be_put_aside_is_not_read_for_ever(shards: Shards) -> None:
    def hopeless(_: Any) -> None:
        raise CorruptFrame("again", position=0)

    shards.append(0, (frame(0, 1),))
    with pytest.raises(CorruptFrame):
        shards.readable(0, hopeless)
