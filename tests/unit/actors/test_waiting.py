"""What a leader says of tasks that wait or run, and how it cancels them: on a real machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import pytest

from chimera.actors.waiters import Waiters
from chimera.actors.waiting import Cancels, list_tasks, told
from chimera.errors import Unavailable
from chimera.frames import command, outcome
from chimera.store import opened
from chimera.store.memory import MemoryJournal
from chimera.store.memory_disk import MemoryDisk
from chimera.store.protocol import Filter, Journal
from chimera.swarm.leader import LeaderMachine, effects, events
from chimera.swarm.leader.events import Instant
from chimera.swarm.policy import TaskPolicy
from tests.conformance.journal_kit import NOW, SHARD, frame
from tests.unit.swarm.leader.world import EPOCH

T = TypeVar("T")
AT = Instant(100.0, NOW)
TASKS = 300


class Leader:
    """A shard's journal and a machine with one worker, whose flights go on until a test ends them.

    It is also what `Cancels` knows of shards and of the loop.
    """

    def __init__(self, former: tuple[str, ...] = ()) -> None:
        self.store: Any = MemoryJournal(MemoryDisk(), SHARD)
        self.store.take(0, None)
        self.machine = LeaderMachine("leader/r/0", "w", workers=1, ring=SHARD + 1, checked=True)
        self.is_stuck = False
        self.is_full = False  #: no outcome can be written
        self.flights: list[effects.Send] = []
        self.before: Callable[[], None] = lambda: None  #: what happens before a cancel is looked at
        self.waiters = Waiters(self)  # type: ignore[arg-type]
        self.cancels = Cancels(self, self, self.waiters)  # type: ignore[arg-type]
        self.step(events.Tick({}))
        self.step(events.Taken(SHARD, EPOCH, (), (), (), 0, None, former))
        self.machine.state.type("t").learn(1_000_000, 1000)  # a millisecond each

    def step(self, event: events.Event, at: Instant = AT) -> None:
        for effect in self.machine.step(event, at):
            match effect:
                case effects.Spawn(worker):
                    self.step(events.WorkerReady(worker, (TaskPolicy(type="t"),)))
                case effects.Send():
                    self.flights.append(effect)
                case effects.Record(shard, token) if self.is_full:
                    self.step(events.RecordRefused(shard, token))
                case effects.Record(shard, token, settlement):
                    done = self.store.settle(settlement, NOW)
                    self.step(events.Recorded(shard, token, done.recorded))

    def submit(self, first: int, count: int, **columns: Any) -> None:
        blob = frame(first, count, **columns)
        (receipt,) = self.store.append([blob], NOW, 10**6)
        new = opened.new_frame(blob, command.head(blob), receipt)
        frames = (new,) if new.ranges else ()
        self.step(events.Appended(SHARD, frames, count, opened.earliest(blob, receipt)))

    def due(self, position: int) -> None:
        """A parked task is due: it is read from the schedule, where it stays."""
        (parked,) = self.store.parked([position])
        new = opened.parked(parked, self.store.read(position, parked=True)[1])
        self.step(events.Due(SHARD, (new,), None))

    @property
    def running(self) -> list[int]:
        """Positions in the worker's hands, newest first."""
        items = [item for flight in self.flights for item in flight.items]
        return sorted({p for i in items for p in range(i.first, i.stop)}, reverse=True)

    def finish(self) -> None:
        """The worker ends its first flight well."""
        flight = self.flights.pop(0)
        ends = [(item.first, item.stop - item.first) for item in flight.items]
        arrived = tuple(
            events.Arrived(serial, outcome.pack(SHARD, EPOCH, first, b"\1" * count, [b"1"] * count))
            for serial, (first, count) in enumerate(ends, 1)
        )
        self.step(events.Replied(flight.worker, flight.flight, arrived, ()))

    # as shards

    def journal(self, shard: int) -> Journal:
        return self.store  # type: ignore[no-any-return]

    def readable(self, shard: int, read: Callable[[Journal], T]) -> T:
        return read(self.store)

    # as the loop

    def ask(self, question: Callable[[Any], T], otherwise: T) -> T:
        return otherwise if self.is_stuck else question(self.machine.state)

    def cancel(self, shard: int, position: int, reason: str, *, only_waiting: bool = False) -> None:
        self.before()
        self.step(events.CancelAsked(shard, position, reason, only_waiting))

    # what tests ask

    def list(self, state: str | None = None, limit: int = 1000, **where: Any) -> list[Any]:
        found: list[Any] = []
        cursor = None
        while page := list_tasks(self.store, self, Filter(state=state, **where), cursor, limit):
            found += page
            cursor = page[-1].position
            if len(page) < limit:  # clients take that for the end
                break
        return found

    def positions(self, state: str, **more: Any) -> list[int]:
        return [record.position for record in self.list(state, **more)]

    def state(self, position: int) -> str:
        return told(self.store.find("default", 7, position), self, SHARD).state

    def purge(self, position: int) -> str:
        return self.cancels.cancel_waiting(SHARD, ("default", 7, position), "purged")


@pytest.fixture
def leader() -> Leader:
    made = Leader()
    made.submit(0, TASKS)
    assert 1 < len(made.running) < TASKS - 10
    return made


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_what_runs_is_listed_as_such_and_is_not_queued(leader: Leader, limit: int) -> None:
    waits = sorted({*range(TASKS)} - {*leader.running}, reverse=True)
    assert leader.positions("running", limit=limit) == leader.running
    assert leader.positions("queued", limit=limit) == waits
    assert [one.position for one in leader.list(limit=limit)] == [*reversed(range(TASKS))]
    assert {one.state for one in leader.list("running")} == {"running"}
    states = {one.position: one.state for one in leader.list(limit=limit)}
    for position in (leader.running[0], leader.running[-1], waits[0], waits[-1]):
        assert states[position] == leader.state(position)
    assert [p for p, state in states.items() if state == "running"] == leader.running


@pytest.mark.parametrize("state", [None, "running"])
def test_no_more_is_read_than_is_told_where_everything_read_is(
    leader: Leader, state: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = 0
    of_store = leader.store.list

    def counted(*args: Any) -> Any:
        nonlocal read
        page = of_store(*args)
        read += len(page)
        return page

    monkeypatch.setattr(leader.store, "list", counted)
    assert len(list_tasks(leader.store, leader, Filter(state=state), None, 1)) == 1
    assert read == 1


def test_filters_hold_for_what_runs() -> None:
    leader = Leader()
    leader.submit(0, 4, tags=[["x"], [], ["x"], []])
    assert leader.running == [3, 2, 1, 0]
    assert leader.positions("running", tag="x") == [2, 0]
    assert leader.positions("running", type="u") == leader.positions("queued") == []
    assert leader.positions("running", since=NOW, until=NOW + 1) == [3, 2, 1, 0]
    assert leader.positions("running", since=NOW + 1) == []


def test_what_has_ended_runs_no_more(leader: Leader) -> None:
    before = leader.running
    leader.finish()
    assert leader.positions("running") == leader.running
    ended = {*before} - {*leader.running}
    assert ended
    assert {*leader.positions("succeeded")} == ended


def test_a_retry_that_runs_is_not_scheduled() -> None:
    leader = Leader()
    leader.submit(0, 2, not_before=[NOW + 5, NOW + 5])
    leader.due(0)
    assert leader.running == [0]
    assert (leader.positions("running"), leader.positions("scheduled")) == ([0], [1])
    assert (leader.state(0), leader.state(1)) == ("running", "scheduled")
    assert leader.purge(0) == "running"
    assert leader.purge(1) == "cancelled"


def test_what_runs_and_is_cancelled_is_cancelling(leader: Leader) -> None:
    position = leader.running[0]
    assert leader.cancels.cancel(SHARD, ("default", 7, position), "") == "cancelling"
    assert leader.positions("cancelling") == [position]
    assert leader.positions("running") == leader.running[1:]
    assert leader.state(position) == "cancelling"
    assert leader.purge(position) == "cancelling"


def test_the_attempt_that_runs_counts(leader: Leader) -> None:
    first, last = leader.running[0], TASKS - 1
    leader.cancels.cancel(SHARD, ("default", 7, leader.running[1]), "")
    for state in (None, "running", "cancelling"):
        assert {one.attempts for one in leader.list(state) if one.position in leader.running} == {1}
    assert {one.attempts for one in leader.list("queued")} == {0}
    found = leader.store.find("default", 7, first)
    assert told(found, leader, SHARD).attempts == 1
    assert told(leader.store.find("default", 7, last), leader, SHARD).attempts == 0


def test_a_purge_ends_what_waits_and_leaves_alone_what_runs(leader: Leader) -> None:
    assert [leader.purge(position) for position in (TASKS - 1, leader.running[0])] == [
        "cancelled", "running",
    ]  # fmt: skip
    gone = leader.store.find("default", 7, TASKS - 1)
    assert (gone.state, leader.purge(TASKS - 1)) == ("cancelled", "cancelled")
    assert msgspec.json.decode(gone.body)["message"] == "cancelled before it ran: purged"
    while leader.flights:
        leader.finish()
    kept = [leader.store.find("default", 7, position) for position in range(TASKS)]
    assert [one.state for one in kept] == [*["succeeded"] * (TASKS - 1), "cancelled"]
    assert not any(one.cancel_requested for one in kept)


def test_the_reason_of_a_cancel_is_told_whenever_its_task_did_not_run() -> None:
    leader = Leader(former=("former",))
    leader.submit(0, 2)
    task = ("default", 7, 0)
    assert leader.cancels.cancel(SHARD, task, "while it is taken over") == "cancelling"
    leader.step(events.Held("former", SHARD))
    assert leader.running == [1]
    assert leader.cancels.cancel(SHARD, ("default", 7, 1), "in flight") == "cancelling"
    (flight,) = leader.flights
    leader.step(events.Replied(flight.worker, flight.flight, (), ((SHARD, 1, 1),)))
    told = [leader.store.find("default", 7, position) for position in (0, 1)]
    assert [msgspec.json.decode(one.body)["message"] for one in told] == [
        "cancelled before it ran: while it is taken over", "cancelled before it ran: in flight",
    ]  # fmt: skip


def test_a_task_that_is_started_since_it_was_listed_is_left_alone(leader: Leader) -> None:
    position = min({*range(TASKS)} - {*leader.running})
    assert position in leader.positions("queued")
    leader.before = leader.finish  # makes room for it
    assert leader.purge(position) == "running"
    assert position in leader.running


def test_until_former_workers_have_said_what_they_run_nobody_is_let_go() -> None:
    leader = Leader(former=("former",))
    leader.submit(0, 2)
    assert leader.machine.state.shards[SHARD].phase == "adopting"
    with pytest.raises(Unavailable):
        leader.purge(0)
    assert leader.store.find("default", 7, 0).state == "queued"
    leader.step(events.Held("former", SHARD))
    assert leader.positions("running") == [1, 0]


@pytest.mark.parametrize("keys", [{}, {"keys": ["k"] * TASKS}])
def test_what_a_silent_former_worker_may_run_is_not_ended(keys: dict[str, Any]) -> None:
    leader = Leader(former=("former",))
    leader.submit(0, TASKS, **keys)
    leader.step(events.Held("former", SHARD, silent=True))
    position = TASKS - 1
    assert leader.machine.state.shards[SHARD].phase == "serving"
    assert position not in leader.running
    with pytest.raises(Unavailable):
        leader.purge(position)
    leader.step(events.Held("former", SHARD, running=((position, 1),)))
    assert leader.purge(position) == leader.state(position) == "running"
    done = outcome.pack(SHARD, EPOCH, position, b"\1", [b"1"])
    leader.step(events.Held("former", SHARD, arrived=(events.Arrived(1, done),)))
    assert leader.purge(position) == leader.state(position) == "succeeded"
    assert leader.purge(position - 1) == "cancelled"


@pytest.mark.parametrize("is_purge", [True, False])
def test_an_outcome_that_waits_for_room_on_disk_stands(
    leader: Leader, is_purge: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chimera.actors.waiting.CANCEL_S", 0.01)
    position = leader.running[-1]
    leader.is_full = True
    leader.finish()
    assert position not in leader.running
    leader.is_full = False
    if is_purge:
        with pytest.raises(Unavailable):
            leader.purge(position)
    else:
        task = ("default", 7, position)
        assert leader.cancels.cancel(SHARD, task, "") == "cancelling"
    leader.step(events.Tick({}), Instant(AT.mono + 1.0, AT.unix_ms + 1000))
    assert leader.purge(position) == leader.state(position) == "succeeded"


def test_a_machine_that_does_not_answer_is_not_guessed_for(leader: Leader) -> None:
    leader.is_stuck = True
    for state in ("running", "queued"):
        with pytest.raises(Unavailable):
            leader.list(state)
    with pytest.raises(Unavailable):
        leader.purge(leader.running[0])
    assert len(leader.list()) == TASKS
