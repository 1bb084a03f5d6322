"""Service level objectives: what share of tasks shall be good, and what share of them was.

The words are those of OpenSLO and of Google's SRE workbook: an indicator says which tasks are good,
an objective how large their share shall be within a sliding window; the others are the error
budget, and the burn rate says how many times faster it is spent than the objective allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

#: indicators that leaders measure by task type too
BY_TYPE = ("success", "run")


class SloSpec(msgspec.Struct, frozen=True, kw_only=True):
    """An objective, as it is declared."""

    name: str
    #: which tasks are good: those that ended well (`success`), or that took no longer than
    #: `within_s` to their dispatch (`queue`), in their handler (`run`) or to a result (`total`)
    indicator: Literal["success", "queue", "run", "total"]
    objective: float  #: the share that shall be good, below 1
    within_s: float | None = None  #: None: it is about `success`
    window_s: float = 3600.0
    type: str = ""  #: tasks of this type only; empty: of every type


@dataclass(frozen=True, slots=True)
class SloReport:
    """How well an objective was met of late; None: there is no data."""

    slo: SloSpec
    seen_s: float  #: how much of the window was observed: less than all of it after a start
    good: int  #: tasks
    tasks: int  #: all that the indicator is about
    current: float | None  #: the share that was good
    budget_left: float | None  #: share of the error budget; below 0: more than that was spent
    burn_rate: float | None  #: in the last twelfth of the window; at 1 the budget is just spent
    met: bool | None


def words(report: SloReport) -> str:
    """The report for a person: what was seen, and what is asked for."""
    slo = report.slo
    span = f"in the last {_span(report.seen_s)}"
    tasks = f"tasks of {slo.type}" if slo.type else "tasks"
    asked = f"{_percent(slo.objective)} are asked for"
    if report.current is None or report.budget_left is None:
        return f"no {tasks} {span}; {asked}"
    if report.budget_left < 0:
        budget = f"the error budget is overspent by {_percent(-report.budget_left)}"
    else:
        budget = f"{_percent(report.budget_left)} of the error budget is left"
    seen = f"{_percent(report.current)} of {report.tasks:,} {tasks} {_good(slo)} {span}"
    return f"{seen}; {asked}, {budget}"


def _good(slo: SloSpec) -> str:
    within = _span(slo.within_s or 0.0)
    return {
        "success": "ended well",
        "queue": f"were dispatched within {within}",
        "run": f"ran for {within} at most",
        "total": f"had their result within {within}",
    }[slo.indicator]


def _percent(share: float) -> str:
    return f"{100 * share:.6g} %"


def _span(seconds: float) -> str:
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
