"""How the load of each tier grows with a swarm, by simulation: the real machines, virtual time.

All of it follows from the sizes alone: two runs on any machine find the same.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.common import Document, Settings
from benchmarks.scale_world import Meter, Run, Size

#: virtual seconds that are counted: as long as a worker's leader waits for its word
WINDOW_S = 5.0
#: virtual seconds after a start, or after a failover, for the rest of it to settle
SETTLE_S = 1.0
#: leaders that are killed, and that are stopped, one after the other
STRIKES = 3
#: workers of each leader, at each of which everything is measured, failover too
GROWTH = [Size(10, 10, workers) for workers in (1, 10, 100)]
LARGEST = [Size(10, 100, 100)]
#: regions of the same size each, of which only the load is measured
REGIONS = [Size(regions, 5, 10) for regions in (1, 2, 5, 10)]
QUICK = [Size(2, 3, workers) for workers in (1, 4)]
QUICK_REGIONS = [Size(regions, 2, 2) for regions in (1, 2)]

PARTS = ("growth", "largest", "regions")
ORCHESTRATOR, COORDINATOR, LEADER = "the orchestrator", "each coordinator", "each leader"
_TIERS = ((ORCHESTRATOR, "orchestrator"), (COORDINATOR, "coordinator"), (LEADER, "leader"))


def parts(size: Size) -> dict[str, int]:
    """How many processes of a tier there are."""
    leaders = size.regions * size.leaders
    return {"orchestrator": 1, "coordinator": size.regions, "leader": leaders}


def run(document: Document, settings: Settings) -> None:
    """Workers grow a hundredfold, with what fails; then regions grow tenfold."""
    full = GROWTH * settings.has("growth") + LARGEST * settings.has("largest")
    for size in QUICK if settings.quick else full:
        made = _start(document, size)
        _loads(document, size, made.watch(WINDOW_S))
        _failures(document, made, settings.pick(STRIKES, 1))
    for size in QUICK_REGIONS if settings.quick else REGIONS * settings.has("regions"):
        _loads(document, size, _start(document, size).watch(WINDOW_S))
    document.note("Virtual time: all figures follow from the sizes alone, on any machine.")


def _start(document: Document, size: Size) -> Run:
    made = Run(size)
    document.add(f"until every shard is served, {size}", "s", [made.start()])
    made.advance(SETTLE_S)
    return made


def _loads(document: Document, size: Size, meter: Meter) -> None:
    """What passes between tiers, and what each of their processes has to do."""
    for (source, target), count in sorted(meter.messages.items()):
        if "client" not in (source, target):
            route = f"{source} → {target}, {size}"
            document.add(f"messages, {route}", "/s", [count / WINDOW_S])
            rate = meter.bytes[source, target] / WINDOW_S
            document.add(f"bytes, {route}", "B/s", [rate])
    for who, tier in _TIERS:
        messages, size_b = (found / parts(size)[tier] / WINDOW_S for found in meter.load(tier))
        document.add(f"messages of {who}, {size}", "/s", [messages])
        document.add(f"bytes of {who}, {size}", "B/s", [size_b])
        if tier in meter.steps:
            share = WINDOW_S * parts(size)[tier]
            document.add(f"steps of {who}, {size}", "/s", [meter.steps[tier] / share])


def _failures(document: Document, made: Run, strikes: int) -> None:
    """Leaders are killed and stopped, each in a region of its own; then a region loses power."""
    size = made.size
    for paused, what in ((False, "leader killed"), (True, "leader stopped")):
        took = []
        for number_ in range(strikes):
            took.append(made.lose_leader(number_ % (size.regions - 1), int(paused), paused=paused))
            made.advance(SETTLE_S / 2)
        document.add(f"{what}, {size}", "s", took)
    document.add(f"region lost, {size}", "s", [made.lose_region(size.regions - 1)])


def of(document: Document, what: str) -> dict[str, float]:
    """What was found of something, by size as text: the median."""
    start = f"{what}, "
    return {
        one.name.removeprefix(start): one.p50
        for one in document.series
        if one.name.startswith(start)
    }


def plot(document: Document, path: Path) -> None:
    """Draw what was found."""
    from benchmarks.scale_plot import draw

    draw(document, path)
    print(f"drawn in {path}")
