"""The history checker: silent on a good history, and it names each planted violation."""

from __future__ import annotations

from dataclasses import dataclass, field

from chimera.frames import command, outcome
from chimera.sim import history
from chimera.sim.history import Acknowledged, Ended, Seen, Started, Stored, Submitted
from chimera.store.memory import MemoryJournal
from chimera.store.memory_disk import MemoryDisk
from chimera.swarm.facts import Settlement
from chimera.swarm.reports import Owner


@dataclass
class Run:
    """Two tasks of a key, run one after the other and seen by their client."""

    records: list[history.Record] = field(default_factory=list)
    store: dict[str, Stored] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, name in enumerate("ab"):
            at = float(number)
            self.records += [
                Submitted(name, number / 100, "client", "key"),
                Acknowledged(name, number / 100),
                Started(name, "w", at + 0.1),
                Ended(name, "w", at + 0.2),
                Seen(name, "succeeded", at + 0.4),
            ]
            self.store[name] = Stored(name, 0, number, "succeeded", at + 0.3, 1)

    def found(self, **options) -> set[tuple[str, str]]:
        records, store = history.loads(history.dumps([*self.records, *self.store.values()]))
        return {(v.guarantee, v.task) for v in history.violations(records, store, **options)}


def test_a_good_history_has_no_violation():
    assert Run().found() == set()


def test_an_acknowledged_task_that_is_not_stored_is_found():
    run = Run()
    run.records = [r for r in run.records if not isinstance(r, Seen)]
    del run.store["a"]
    assert run.found() == {("G1", "a")}


def test_a_task_that_never_ended_is_found():
    run = Run()
    run.records.append(Acknowledged("c", 0.5))
    run.store["c"] = Stored("c", 0, 2, "queued")
    assert run.found() == {("G2", "c")}
    assert run.found(finished=False) == set()


def test_two_outcomes_are_found():
    run = Run()
    run.store["a"] = Stored("a", 0, 0, "succeeded", 0.3, 2)
    assert run.found() == {("G2", "a")}


def test_an_outcome_that_changed_after_it_was_seen_is_found():
    run = Run()
    run.store["a"] = Stored("a", 0, 0, "failed", 0.3, 1)
    assert run.found() == {("G2", "a")}


def test_a_run_after_the_outcome_is_found_unless_its_worker_was_out_of_reach():
    run = Run()
    run.records.append(Started("b", "w2", 1.5))
    assert run.found() == {("G3", "b")}
    run.records[-1] = Started("b", "w2", 1.5, excused=True)
    assert run.found() == set()


def test_a_key_out_of_order_is_found():
    run = Run()
    run.records.append(Started("b", "w2", 0.05))
    assert run.found() == {("G5", "b")}


def test_two_tasks_of_a_key_at_once_are_found():
    run = Run()
    run.records += [Started("a", "w2", 0.21), Ended("a", "w2", 1.15)]
    run.records += [Started("b", "w3", 0.25), Ended("b", "w3", 0.26)]
    run.store["a"] = Stored("a", 0, 0, "succeeded", 1.3, 1)
    run.store["b"] = Stored("b", 0, 1, "succeeded", 1.3, 1)
    assert ("G5", "b") in run.found()


def test_a_chain_that_is_repeated_after_a_crash_is_no_violation():
    run = Run()
    run.records += [
        Started("a", "w2", 1.21), Ended("a", "w2", 1.22),
        Started("b", "w2", 1.23), Ended("b", "w2", 1.24),
    ]  # fmt: skip
    for name in "ab":
        run.store[name] = Stored(name, 0, 0, "succeeded", 1.3, 1)
    run.records = [r for r in run.records if not isinstance(r, Seen)]
    assert run.found() == set()


def test_it_reads_what_a_journal_holds():
    journal = MemoryJournal(MemoryDisk(), 3)
    journal.take(0, Owner("leader/r/0", "b", 1, 1, 1, "n"))
    frame = command.pack(7, 3, 0, command.Head("t"), [b"1", b"2", b"3"])
    journal.append([frame], 0, 100)
    done = outcome.pack(3, 1, 1, bytes([outcome.SUCCEEDED]), [b"1"])
    journal.settle(Settlement(frames=(done,)), 2500)
    rows = sorted(history.stored(journal), key=lambda row: row.position)
    assert [(row.state, row.settled_at, row.outcomes) for row in rows] == [
        ("queued", None, 0),
        ("succeeded", 2.5, 1),
        ("queued", None, 0),
    ]
