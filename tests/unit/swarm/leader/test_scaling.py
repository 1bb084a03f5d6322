"""How many workers the load asks for: hysteresis, cool-down and bounds."""

from __future__ import annotations

from chimera.swarm.leader.scaling import COOL_DOWN_S, GROW_AFTER_S, LOOK_S, Bounds, Scaler

BOUNDS = Bounds(least=1, most=8, grow_wait_s=1.0, shrink_after_s=10.0)


class Pool:
    """A pool that always has what its scaler says."""

    def __init__(self, target: int = 1) -> None:
        self.scaler, self.target, self.now = Scaler(), target, 50.0

    def load(self, waiting_s: float, busy: int, seconds: float) -> list[int]:
        """The targets of so many seconds."""
        found = []
        for _ in range(round(seconds / LOOK_S)):
            self.now += LOOK_S
            self.target = self.scaler.target(self.target, waiting_s, busy, BOUNDS, self.now)
            found.append(self.target)
        return found


def test_a_moment_of_load_starts_nobody() -> None:
    pool = Pool()
    pool.load(0.0, 0, 2.0)
    assert set(pool.load(100.0, 1, GROW_AFTER_S - LOOK_S)) == {1}
    assert set(pool.load(0.0, 0, 5.0)) == {1}


def test_it_grows_step_by_step_to_what_the_waiting_work_needs() -> None:
    pool = Pool()
    targets = pool.load(5.0, 1, 10.0)
    steps = [n for i, n in enumerate(targets) if i == 0 or targets[i - 1] != n]
    assert steps == [1, 2, 4, 5]
    assert targets.count(2) * LOOK_S >= COOL_DOWN_S


def test_it_never_grows_over_its_most() -> None:
    assert max(Pool().load(1000.0, 8, 30.0)) == BOUNDS.most


def test_workers_that_are_always_busy_get_company_though_little_waits() -> None:
    assert Pool().load(0.2, 1, 30.0)[-1] == 2


def test_it_shrinks_only_when_less_was_enough_for_the_whole_window() -> None:
    pool = Pool(target=6)
    pool.load(6.0, 0, 1.0)
    calm = pool.load(0.0, 0, 9.0)
    assert set(calm) == {6}
    pool.load(6.0, 0, LOOK_S)  # once more: the window begins again
    assert set(pool.load(0.0, 0, 9.0)) == {6}
    assert pool.load(0.0, 0, 5.0)[-1] == BOUNDS.least


def test_a_load_that_swings_does_not_make_the_pool_swing() -> None:
    pool = Pool()
    pool.load(4.0, 1, 10.0)
    swings = [t for _ in range(20) for t in pool.load(0.0, 0, 2.0) + pool.load(4.0, 1, 2.0)]
    assert set(swings) == {4}


def test_new_bounds_hold_at_once() -> None:
    pool = Pool(target=8)
    narrow = Bounds(least=2, most=3)
    assert pool.scaler.target(8, 0.0, 0, narrow, 50.0) == 3
    assert pool.scaler.target(1, 0.0, 0, narrow, 50.1) == 2
