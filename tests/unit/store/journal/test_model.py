"""G2 by random histories: the SQLite journal and the one in memory tell the same story."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from chimera.errors import ChimeraError, NotFound
from chimera.frames import command, ids
from chimera.store.journal import SqliteJournal
from chimera.store.memory import MemoryJournal
from chimera.store.memory_disk import MemoryDisk
from chimera.store.protocol import Filter, Park, Receipt, Settlement
from tests.conformance.journal_kit import ME, NOW, OPEN, SHARD, ended, frame, single, states

#: thousands of small syncs: in memory they cost nothing
FAST = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
RETENTION = {"outcome_retention_s": 60, "idempotency_retention_s": 90, "resend_window_s": 600}
BOUND = 40
FINAL = [1, 2, 3, 4]
COLUMNS = {
    "keys": st.sampled_from([None, "a", "b"]),
    "idempotency": st.sampled_from([None, "x", "y", "z"]),
    "not_before": st.sampled_from([0, 1, 20_000]),
    "tags": st.sampled_from([[], ["t"], ["t", "u"]]),
}


class TwoJournals(RuleBasedStateMachine):
    """Each rule does the same to both and compares what they answer."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="journal-model-", dir=FAST))
        self.disk = MemoryDisk()
        self.now = NOW
        self.counters = {1: 0, 2: 0}
        self.sent: list[bytes] = []
        self.settled: dict[int, int] = {}  #: state by position, once it was seen
        self.real: Any = None
        self.take_over()

    def both(self, verb: str, *arguments: Any) -> Any:
        """The answer of both, which must be the same."""
        answers = []
        for journal in (self.real, self.fake):
            try:
                answers.append(plain(getattr(journal, verb)(*arguments)))
            except ChimeraError as error:
                answers.append(type(error).__name__)
        assert answers[0] == answers[1]
        return answers[0]

    @rule()
    def take_over(self) -> None:
        if self.real is not None:
            self.real.close()
        path = str(self.folder / "shard.sqlite")
        self.real = SqliteJournal(path, SHARD, fsync=False, ballast_bytes=0, **RETENTION)
        self.fake = MemoryJournal(self.disk, SHARD, **RETENTION)
        self.both("take", self.disk.epoch, ME)

    @rule(
        session=st.sampled_from([1, 2]),
        count=st.integers(1, 5),
        names=st.sets(st.sampled_from(sorted(COLUMNS))),
        draw=st.data(),
        tenant=st.sampled_from(["default", "acme"]),
    )
    def append(self, session: int, count: int, names: Any, draw: Any, tenant: str) -> None:
        columns = {name: [draw.draw(COLUMNS[name]) for _ in range(count)] for name in sorted(names)}
        if "not_before" in columns:
            columns["not_before"] = [at and self.now + at for at in columns["not_before"]]
        payloads = [b"%d" % draw.draw(st.integers(0, 1)) for _ in range(count)]
        first = self.counters[session]
        head = command.Head("t", tenant, at=self.now)
        self.sent.append(
            frame(first, count, session=session, head=head, payloads=payloads, **columns)
        )
        (answer,) = self.both("append", self.sent[-1:], self.now, BOUND)
        if isinstance(answer, tuple):
            self.counters[session] += count

    @rule(draw=st.data())
    def send_again(self, draw: Any) -> None:
        if self.sent:
            old = draw.draw(st.lists(st.sampled_from(self.sent), min_size=1, max_size=3))
            self.both("append", old, self.now, BOUND)

    @rule(
        start=st.integers(0, 60),
        frames=st.lists(
            st.lists(st.sampled_from([0, 0, *FINAL]), min_size=1, max_size=7), max_size=3
        ),
        singles=st.lists(st.tuples(st.integers(0, 60), st.sampled_from(FINAL)), max_size=3),
        parks=st.lists(st.integers(0, 60), max_size=3, unique=True),
    )
    def settle(self, start: int, frames: Any, singles: Any, parks: Any) -> None:
        last = len(self.disk.tasks)
        settlement = Settlement(
            tuple(ended((start + 2 * at) % (last + 2), found) for at, found in enumerate(frames)),
            tuple(single(position % (last + 1), state) for position, state in singles),
            tuple(Park(at % last, self.now + at, 2, at % 2 == 0) for at in parks if last),
        )
        self.both("settle", settlement, self.now)

    @rule(position=st.integers(0, 60))
    def cancel(self, position: int) -> None:
        self.both("cancel", position, "", self.now)

    @rule(position=st.integers(0, 60), step=st.sampled_from("pq"), value=st.binary(max_size=2))
    def memoise(self, position: int, step: str, value: bytes) -> None:
        self.both("memoise", position, step, value)

    @rule(position=st.integers(0, 60))
    def replay(self, position: int) -> None:
        answers = []
        for journal in (self.real, self.fake):
            try:
                task_id, receipt, blob = journal.replay(position, self.now)
                answers.append((plain(receipt), command.payloads(blob), command.columns(blob)))
                assert journal.read(receipt.position) == (receipt.position, blob)
                of = command.header(blob)
                assert task_id == ids.format_id(of.session, SHARD, of.first)
            except NotFound:
                answers.append(())
        assert answers[0] == answers[1]

    @rule(position=st.integers(0, 60))
    def discard(self, position: int) -> None:
        self.both("discard", position)

    @rule(seconds=st.integers(1, 50))
    def wait_and_sweep(self, seconds: int) -> None:
        self.now += seconds * 1000
        self.both("sweep", self.now, 10_000)

    @invariant()
    def they_tell_the_same(self) -> None:
        last = len(self.disk.tasks)
        self.both("list", Filter(), None, 999)
        for state in ("failed", "queued", "cancelling"):
            self.both("list", Filter(state=state), 30, 9)
        for where in (Filter(tag="t"), Filter(dead_letters=True), Filter(since=self.now)):
            self.both("list", where, 30, 9)
        self.both("recover")
        self.both("due", 0, self.now + 99_000, 99)
        found = states(self.real, 0, last)
        for name in ("open", "tasks", "schedule", "dead"):
            assert self.real.stats()[name] == self.fake.stats()[name]
        for position, state in enumerate(found):
            if state != OPEN:  # recorded once, never changed
                assert self.settled.setdefault(position, state) == state

    @invariant()
    def every_accepted_task_is_open_or_has_one_outcome(self) -> None:
        found = self.real.recover()
        waiting = {position for one in found.open for position in positions(one)}
        waiting |= {one.position for one in self.real.due(0, 1 << 60, 999)} | {*found.cancelling}
        assert len(waiting) == found.open_tasks
        told = states(self.real, 0, len(self.disk.tasks))
        for record in self.real.list(Filter(), None, 999):
            is_open = record.state in ("queued", "scheduled", "cancelling")
            assert (record.position in waiting) is is_open
            assert bool(told[record.position]) is not is_open

    def teardown(self) -> None:
        self.real.close()
        shutil.rmtree(self.folder)


def positions(one: Any) -> list[int]:
    return [one.position + index for start, stop in one.open for index in range(start, stop)]


def plain(answer: Any) -> Any:
    """An answer as data; of replays without the ids, which each journal draws for itself."""
    if isinstance(answer, list):
        return [plain(item) for item in answer]
    if isinstance(answer, ChimeraError):
        return type(answer).__name__
    if isinstance(answer, Receipt):
        skipped = tuple((s.index, s.task_id is None, type(s.error)) for s in answer.skipped)
        return (answer.position, answer.count, answer.duplicate, skipped, answer.parked)
    if hasattr(answer, "replay_of"):
        return tuple(
            bool(value) if "repla" in name or (name == "task_id" and answer.replay_of) else value
            for name in answer.__slots__
            for value in [getattr(answer, name)]
        )
    return answer


TestTwoJournals = TwoJournals.TestCase
TestTwoJournals.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
