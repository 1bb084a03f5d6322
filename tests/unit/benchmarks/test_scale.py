"""A simulated swarm that grows: what must not grow with it, and that a run is the same twice."""

from __future__ import annotations

from benchmarks.scale_world import Run, Size


def loads(*sizes: Size) -> list[tuple[int, ...]]:
    """Messages and bytes to and from the orchestrator, steps of its machine, and bytes to and from
    coordinators, in two seconds each."""
    found = []
    for size in sizes:
        run = Run(size)
        run.start()
        run.advance(1.0)
        meter = run.watch(2.0)
        found.append(
            (*meter.load("orchestrator"), meter.steps["orchestrator"], meter.load("coordinator")[1])
        )
    return found


def test_orchestrator_and_coordinators_hear_as_much_of_many_workers_as_of_few():
    few, many = loads(Size(2, 2, 1), Size(2, 2, 20))
    assert few[0] > 0
    for one, other in zip(few, many, strict=True):
        assert other <= 1.3 * one  # counters have more digits


def test_the_orchestrator_hears_of_each_region_once():
    one, two = loads(Size(1, 2, 2), Size(2, 2, 2))
    assert 1.8 * one[0] <= two[0] <= 2.2 * one[0]


def test_what_leaders_and_a_region_had_is_served_again_and_always_alike():
    found = []
    for _ in range(2):
        run = Run(Size(2, 3, 2))
        run.start()
        run.advance(1.0)
        times = [run.lose_leader(0, 0), run.lose_leader(0, 1, paused=True), run.lose_region(1)]
        found.append((times, run.kernel.digest()))
    assert found[0] == found[1]
    killed, paused, region = found[0][0]
    assert 0 < killed < paused < region
