"""Rosters: the workers in reports, told only to those who do not know them yet.

A leader numbers the workers that it reports anew whenever they change, so that its incarnation and
the number name one roster for ever. A request for a report says which rosters the asker has; the
answer leaves these out, and is made whole from what the asker had when it asked. Nothing is kept
where the answer is made: whatever was lost, repeated or overtaken, whoever began anew, an answer
made whole is what would have been told in full.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from chimera.errors import ImpossibleStep
from chimera.swarm.reports import LeaderReport, RegionReport, WorkerInfo

#: leader → incarnation and number of a roster that the asker has
Known = dict[str, tuple[int, int]]
R = TypeVar("R", LeaderReport, RegionReport)


class Numbering:
    """A leader's: counts how often its workers were others than before."""

    def __init__(self) -> None:
        self._number = 1
        self._last: tuple[WorkerInfo, ...] = ()
        self._since: dict[str, int] = {}  #: worker → the first of its rosters, until that is known

    def number(self, workers: tuple[WorkerInfo, ...]) -> int:
        """Of the roster of these workers."""
        if workers != self._last:
            before = {worker.name for worker in self._last}
            names = [worker.name for worker in workers]
            self._last = workers
            self._number += 1
            fresh = {name: self._number for name in names if name not in before}
            self._since = {n: self._since[n] for n in names if n in self._since} | fresh
        return self._number

    def heard(self, asked_with: tuple[int, int] | None, incarnation: int) -> tuple[str, ...]:
        """Somebody asks with this roster: the workers that are known by it and were not before.

        One of a former incarnation of this leader says nothing of its workers.
        """
        if asked_with is None or asked_with[0] != incarnation:
            return ()
        found = tuple(name for name, since in self._since.items() if since <= asked_with[1])
        for name in found:
            del self._since[name]
        return found


def known(report: LeaderReport | RegionReport | None) -> Known:
    """What to ask with, by the last report made whole; None: there was none."""
    return {one.leader: (one.incarnation, one.roster) for one in _leaders(report) if one.roster}


def brief(report: R, known: Known) -> R:
    """A report without the rosters that the asker knows."""
    if isinstance(report, RegionReport):
        return replace(report, leaders=tuple(brief(one, known) for one in report.leaders))
    if not report.roster or known.get(report.leader) != (report.incarnation, report.roster):
        return report
    return replace(report, workers=(), brief=True)


def whole(report: R, asked_with: LeaderReport | RegionReport | None) -> R:
    """A report with the rosters that it leaves out, from the report that it was asked with.

    Raises ImpossibleStep for an answer to another request.
    """
    rosters = {
        (one.leader, one.incarnation, one.roster): one.workers for one in _leaders(asked_with)
    }
    if isinstance(report, RegionReport):
        return replace(report, leaders=tuple(_filled(one, rosters) for one in report.leaders))
    return _filled(report, rosters)


def _leaders(report: LeaderReport | RegionReport | None) -> tuple[LeaderReport, ...]:
    if isinstance(report, RegionReport):
        return report.leaders
    return () if report is None else (report,)


def _filled(
    report: LeaderReport, rosters: dict[tuple[str, int, int], tuple[WorkerInfo, ...]]
) -> LeaderReport:
    if not report.brief:
        return report
    name = report.leader, report.incarnation, report.roster
    if name not in rosters:
        raise ImpossibleStep(f"{report.leader} leaves out a roster that nobody asked with: {name}")
    return replace(report, workers=rosters[name], brief=False)
