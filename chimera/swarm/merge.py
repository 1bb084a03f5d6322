"""Reports of many leaders as one: a join, so that repeated, late and reordered ones change nothing.

A reading is all that one incarnation of a leader has counted so far; it only grows, and is
numbered by its leader. A tally holds the newest reading of each incarnation. The join of tallies
is commutative, associative and idempotent: coordinators, the orchestrator and whoever holds an old
copy come to the same tally, whatever way reports took. Counters are added only when somebody reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from chimera.swarm import sketch
from chimera.swarm.reports import LeaderReport, Placement, Reading

#: incarnations of one leader that a tally keeps, the newest ones: it must not grow for ever
INCARNATIONS_MAX = 16

#: at most one reading of an incarnation, newest incarnation first, leader by leader
Tally = tuple[Reading, ...]


def owners(found: Iterable[Placement]) -> dict[int, str]:
    """Shard → leader, by what several regions say; the higher epoch has what two of them claim."""
    best: dict[int, tuple[int, str]] = {}
    for one in found:
        for shard, leader in one.shards.items():
            claim = (one.epochs.get(shard, 0), leader)
            if shard not in best or claim[0] >= best[shard][0]:
                best[shard] = claim
    return {shard: leader for shard, (_, leader) in best.items()}


def read(report: LeaderReport) -> Reading:
    """What one report says of what its leader counted."""
    return Reading(
        report.leader, report.incarnation, report.number, report.counters, report.latency
    )


def join(*tallies: Iterable[Reading]) -> Tally:
    """The newest reading of each incarnation in any of the tallies."""
    newest: dict[tuple[str, int], Reading] = {}
    for tally in tallies:
        for reading in tally:
            source = reading.leader, reading.incarnation
            known = newest.get(source)
            if known is None or known.number < reading.number:
                newest[source] = reading
    kept: Counter[str] = Counter()
    joined: list[Reading] = []
    for source in sorted(newest, reverse=True):
        kept[source[0]] += 1
        # the newest of the newest are the same in any order of joining
        if kept[source[0]] <= INCARNATIONS_MAX:
            joined.append(newest[source])
    return tuple(joined)


def renewed(tally: Tally, reading: Reading) -> Tally:
    """The join of a joined tally with one reading; fast where its incarnation is known."""
    leader, incarnation = reading.leader, reading.incarnation
    for index, known in enumerate(tally):
        if known.incarnation == incarnation and known.leader == leader:
            if known.number >= reading.number:
                return tally
            return (*tally[:index], reading, *tally[index + 1 :])
    return join(tally, (reading,))


def totals(tally: Iterable[Reading]) -> dict[str, int]:
    """Each counter, over all incarnations."""
    found: Counter[str] = Counter()
    for reading in tally:
        found.update(reading.counters)
    return dict(found)


def latency(
    tally: Iterable[Reading], what: str, shares: Sequence[float]
) -> tuple[float, ...] | None:
    """Quantiles in seconds of what was measured, over all incarnations; None: nothing was."""
    parts = [reading.latency[what] for reading in tally if what in reading.latency]
    return sketch.quantiles(parts, shares)
