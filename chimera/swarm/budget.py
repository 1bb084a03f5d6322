"""Error budgets: what was good within the window of each objective, from what leaders counted.

Counters and sketches only grow, so that a window is a sum of differences between readings. Each is
put into the slot of its time; the slots of one window are all that is remembered. What leaders had
counted before they were first heard of belongs to no window of ours.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from chimera.swarm import merge, sketch
from chimera.swarm.reports import Reading, RegionReport
from chimera.swarm.slo import SloReport, SloSpec

#: of a window
SLOTS = 60
#: of them, those that the burn rate is about
RECENT_SLOTS = SLOTS // 12
#: between two looks, seconds: sketches are read each time
LOOK_S = 2.0


class Counts(NamedTuple):
    """Tasks that an objective is about."""

    good: int
    all: int

    def since(self, before: Counts) -> Counts:
        """What came on top of what was there before."""
        return Counts(max(self.good - before.good, 0), max(self.all - before.all, 0))

    def plus(self, more: Counts) -> Counts:
        """Both together."""
        return Counts(self.good + more.good, self.all + more.all)


NOTHING = Counts(0, 0)


def counted(slo: SloSpec, reading: Reading) -> Counts:
    """What one incarnation of a leader saw of it, ever; times are within 1 %."""
    tail = f"/{slo.type}" if slo.type else ""
    if slo.indicator == "success":
        good, *bad = (
            reading.counters.get(name + tail, 0) for name in ("succeeded", "failed", "expired")
        )
        return Counts(good, good + sum(bad))
    part = reading.latency.get(slo.indicator + tail)
    if part is None or slo.within_s is None:
        return NOTHING
    (good, every), _ = sketch.cumulated([part], [slo.within_s])
    return Counts(good, every)


def evaluated(slo: SloSpec, window: Counts, recent: Counts, seen_s: float) -> SloReport:
    """What follows from what was counted in the window, and in the last part of it."""
    burnt, burning = _burnt(slo, window), _burnt(slo, recent)
    if burnt is None:
        return SloReport(slo, seen_s, 0, 0, None, None, None, None)
    share = window.good / window.all
    met = share >= slo.objective
    return SloReport(slo, seen_s, window.good, window.all, share, 1.0 - burnt, burning, met)


def _burnt(slo: SloSpec, found: Counts) -> float | None:
    """The share of the error budget that it takes."""
    if not found.all:
        return None
    return (1.0 - found.good / found.all) / (1.0 - slo.objective)


@dataclass(slots=True)
class Ledger:
    """One objective's window."""

    slo: SloSpec
    began: float  #: seconds, monotonic
    #: (leader, incarnation) → the number of its last reading, and what that said
    known: dict[tuple[str, int], tuple[int, Counts]] = field(default_factory=dict)
    slots: deque[tuple[int, Counts]] = field(default_factory=deque)  #: by number, oldest first

    def take_in(self, tally: Iterable[Reading], now: float) -> None:
        """Note what is new in a joined tally."""
        newest: dict[str, int] = {}
        for leader, incarnation in self.known:
            newest[leader] = max(incarnation, newest.get(leader, 0))
        kept = {
            source: found for source, found in self.known.items() if newest[source[0]] == source[1]
        }
        fresh = NOTHING
        for reading in tally:
            source = reading.leader, reading.incarnation
            number, before = self.known.get(source, (0, NOTHING))
            after = before
            if reading.number > number:
                after = counted(self.slo, reading)
                # a leader that is made again counts anew, one not heard of before may be old
                born_since = newest.get(reading.leader, reading.incarnation) < reading.incarnation
                if number or born_since:
                    fresh = fresh.plus(after.since(before))
            kept[source] = max(number, reading.number), after
        self.known = kept
        self._note(fresh, now)

    def _note(self, fresh: Counts, now: float) -> None:
        slot = self._slot(now)
        while self.slots and self.slots[0][0] <= slot - SLOTS:
            self.slots.popleft()
        if not fresh.all:
            return
        if self.slots and self.slots[-1][0] == slot:
            fresh = fresh.plus(self.slots.pop()[1])
        self.slots.append((slot, fresh))

    def told(self, now: float) -> SloReport:
        """How well it was met until now."""
        slot = self._slot(now)
        window = recent = NOTHING
        for number, found in self.slots:
            if number > slot - SLOTS:
                window = window.plus(found)
            if number > slot - RECENT_SLOTS:
                recent = recent.plus(found)
        return evaluated(self.slo, window, recent, min(now - self.began, self.slo.window_s))

    def _slot(self, now: float) -> int:
        return int(now * SLOTS / self.slo.window_s)


@dataclass(slots=True)
class Budgets:
    """A ledger for each objective of the spec."""

    _ledgers: dict[SloSpec, Ledger] = field(default_factory=dict)
    _looked_at: float = float("-inf")

    def look(
        self, slos: Iterable[SloSpec], reports: Iterable[RegionReport | None], now: float
    ) -> None:
        """Take in what regions reported last; an objective that is changed begins anew."""
        known = self._ledgers
        self._ledgers = {slo: known.get(slo) or Ledger(slo, now) for slo in slos}
        is_due = now - self._looked_at >= LOOK_S or self._ledgers.keys() != known.keys()
        if not self._ledgers or not is_due:
            return
        self._looked_at = now
        tally = merge.join(*(one.tally for one in reports if one is not None))
        for ledger in self._ledgers.values():
            ledger.take_in(tally, now)

    def told(self, now: float) -> tuple[SloReport, ...]:
        """All of them, in the order of the spec."""
        return tuple(ledger.told(now) for ledger in self._ledgers.values())
