"""Reports without known rosters: made whole, they are what would have been told in full."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Generic, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.errors import ImpossibleStep
from chimera.swarm import rosters
from chimera.swarm.reports import LeaderReport, Owner, RegionReport, WorkerInfo
from chimera.swarm.rosters import Known, Numbering, brief, known, whole

R = TypeVar("R", LeaderReport, RegionReport)


def owner(name: str, pid: int) -> Owner:
    return Owner(name, "boot", 1, pid, pid, "node")


class Leader:
    """Its workers come and go; an incarnation numbers its reports and rosters from 1 again."""

    def __init__(self, index: int) -> None:
        self.name, self.incarnation = f"leader/eu/{index}", 0
        self.begin()

    def begin(self) -> None:
        self.incarnation += 1
        self.numbering, self.number = Numbering(), 0
        self.workers: tuple[WorkerInfo, ...] = ()

    def change(self, dice: random.Random) -> None:
        pids = sorted(dice.sample(range(4), dice.randint(0, 3)))
        self.workers = tuple(WorkerInfo(f"worker/{pid}", owner("w", pid), None) for pid in pids)

    def report(self) -> LeaderReport:
        self.number += 1
        return LeaderReport(
            self.name, owner(self.name, self.incarnation), 1, True, (), self.workers, {},
            incarnation=self.incarnation, number=self.number,
            roster=self.numbering.number(self.workers),
        )  # fmt: skip


class Asker(Generic[R]):
    """Asks for reports; answers are lost, repeated and overtaken."""

    def __init__(self, look: Callable[[], R]) -> None:
        self.look = look
        self.begin()

    def begin(self) -> None:
        """Of its former incarnation nothing is left, and no answer to that is heard."""
        self.last: R | None = None
        self.asked: list[tuple[R | None, R, R]] = []  #: base, answer, what it is short for

    def ask(self) -> None:
        full = self.look()
        self.asked.append((self.last, brief(full, known(self.last)), full))

    def hear(self, dice: random.Random) -> None:
        if self.asked:
            base, answer, full = dice.choice(self.asked)
            self.last = whole(answer, base)
            assert self.last == full


class Swarm:
    """Two leaders, a coordinator that hears them, and an orchestrator that hears it."""

    def __init__(self) -> None:
        self.leaders = [Leader(0), Leader(1)]
        self.coordinator = [Asker(leader.report) for leader in self.leaders]
        self.orchestrator = Asker(self.region)

    def region(self) -> RegionReport:
        heard = tuple(one.last for one in self.coordinator if one.last is not None)
        return RegionReport("coordinator/eu", "eu", 1, owner("c", 9), 1, True, heard, {}, 0)

    def do(self, what: str, dice: random.Random) -> None:
        below = dice.randrange(2)
        asker = dice.choice([self.orchestrator, self.coordinator[below]])
        if what == "restart coordinator":
            for one in self.coordinator:
                one.begin()
        elif what == "restart orchestrator":
            self.orchestrator.begin()
        elif what == "restart leader":
            self.leaders[below].begin()
        elif what == "change":
            self.leaders[below].change(dice)
        elif what == "ask":
            asker.ask()
        else:
            asker.hear(dice)


WHAT = [
    *["change", "ask", "ask", "hear", "hear"],
    *["restart leader", "restart coordinator", "restart orchestrator"],
]


@given(st.lists(st.sampled_from(WHAT), min_size=10, max_size=80), st.randoms(use_true_random=False))
def test_whatever_is_lost_repeated_or_begun_anew_all_is_seen_as_told_in_full(
    done: list[str], dice: random.Random
) -> None:
    swarm = Swarm()
    for what in done:
        swarm.do(what, dice)
    for asker in (*swarm.coordinator, swarm.orchestrator):
        asker.asked.clear()  # once an answer to the newest request comes, it is the present
        asker.ask()
        asker.hear(dice)
    truth = tuple(leader.workers for leader in swarm.leaders)
    assert swarm.orchestrator.last is not None
    assert tuple(one.workers for one in swarm.orchestrator.last.leaders) == truth


@pytest.fixture
def leader() -> Leader:
    made = Leader(0)
    made.workers = (WorkerInfo("worker/1", owner("w", 1), None),)
    return made


def test_a_roster_that_is_known_is_left_out(leader: Leader) -> None:
    first = leader.report()
    again = brief(leader.report(), known(first))
    assert (again.workers, again.brief, again.number) == ((), True, 2)
    assert whole(again, first).workers is first.workers


def test_a_changed_roster_is_told(leader: Leader) -> None:
    first = leader.report()
    leader.workers = (replace(leader.workers[0], revision="new"),)
    assert brief(leader.report(), known(first)).workers == leader.workers
    leader.workers = ()
    gone = whole(brief(leader.report(), known(first)), first)
    assert (gone.workers, gone.brief) == ((), False)


def test_the_next_incarnation_tells_its_roster_though_it_counts_from_one_again(
    leader: Leader,
) -> None:
    leader.workers = ()
    first = leader.report()
    leader.begin()
    told = brief(leader.report(), known(first))
    assert (told.roster, told.brief) == (first.roster, False)


def test_a_leader_that_does_not_number_its_rosters_tells_them_always(leader: Leader) -> None:
    old = replace(leader.report(), roster=0)
    assert known(old) == {}
    assert brief(old, {leader.name: (old.incarnation, 0)}) is old


def test_nobody_is_told_less_who_knows_nothing(leader: Leader) -> None:
    nothing: Known = known(None)
    report = leader.report()
    assert nothing == {}
    assert brief(report, nothing) is whole(report, None) is report


def test_an_answer_to_another_request_is_not_taken_for_one_without_workers(leader: Leader) -> None:
    answer = brief(leader.report(), known(leader.report()))
    leader.begin()
    for other in (None, leader.report()):
        with pytest.raises(ImpossibleStep, match=r"leader/eu/0 leaves out a roster"):
            rosters.whole(answer, other)
