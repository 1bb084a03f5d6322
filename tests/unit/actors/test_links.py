"""What a parent hears of a child: reports in full, though the child leaves out what is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from chimera.actors.cluster import Cluster
from chimera.actors.links import Links
from chimera.swarm import rosters
from chimera.swarm.reports import LeaderReport, Owner, WorkerInfo
from chimera.swarm.rosters import Known

OWNER = Owner("leader/eu/0", "boot", 1, 7, 7, "node")


class FakeCluster:
    """Answers come when the test says so."""

    def __init__(self) -> None:
        self.pending: list[tuple[Any, Callable[[Any], None]]] = []

    def on_done(self, ref: Any, done: Callable[[Any], None]) -> None:
        self.pending.append((ref, done))

    def answer(self) -> None:
        ref, done = self.pending.pop()
        done(ref())


class Heard:
    """The news, and what children were asked with."""

    def __init__(self) -> None:
        self.workers: list[tuple[WorkerInfo, ...]] = []
        self.asked: list[Known] = []

    def spoke(self, key: str, serial: int, report: LeaderReport) -> None:
        assert not report.brief
        self.workers.append(report.workers)

    def lost(self, key: str, serial: int, reason: str, dead: bool) -> None:
        raise AssertionError(reason)

    def deposed(self, fault: Any) -> None:
        raise AssertionError(fault)


def leader(incarnation: int) -> LeaderReport:
    workers = (WorkerInfo(f"worker/eu/0/{incarnation}", OWNER, None),)
    return LeaderReport(
        "leader/eu/0", OWNER, 1, True, (), workers, {}, incarnation=incarnation, roster=1
    )


def test_children_are_asked_for_what_is_not_known_and_heard_in_full() -> None:
    cluster, heard = FakeCluster(), Heard()

    def poll(report: LeaderReport, known: Known) -> Callable[[], LeaderReport]:
        heard.asked.append(known)
        return lambda: rosters.brief(report, known)

    links = Links(cast("Cluster", cluster), heard, poll)
    links.watch("leader/eu/0", 1, leader(1))
    cluster.answer()
    cluster.answer()
    links.watch("leader/eu/0", 2, leader(2))  # the next one, of which nothing is known
    cluster.answer()
    cluster.answer()
    links.stop()
    first, second = {"leader/eu/0": (1, 1)}, {"leader/eu/0": (2, 1)}
    assert heard.asked == [{}, first, first, {}, second, second]
    one, other = leader(1).workers, leader(2).workers
    assert heard.workers == [one, one, other, other]
