"""G2: every accepted task reaches exactly one recorded outcome. None is lost, none has two."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.guarantees import chronicle
from tests.guarantees.kit import Lines, World, notes, payloads, times_run, until

pytestmark = pytest.mark.cluster

TASKS = 30_000
CHUNK = 1_000
#: tasks that are submitted ahead of the workers, at most
AHEAD = 5_000
#: between two bulks, seconds: what was killed is made anew on the same cores
PACE_S = 0.2


class Flow:
    """Submits tasks, at least `TASKS` and as long as it is wanted, from a thread of its own."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.log = world.dir / "log"
        self.ran = Lines(self.log)
        self.bulks: list[Any] = []
        self.fault: BaseException | None = None
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        ran = Lines(self.log)
        try:
            while len(self.bulks) * CHUNK < TASKS or not self._enough.is_set():
                more = payloads(CHUNK, self.log, ms=0.02)
                self.bulks.append(self.world.client.submit_many("work", more, timeout_s=60))
                until(lambda: len(self.bulks) * CHUNK - ran() < AHEAD)
                self._enough.wait(PACE_S)
        except BaseException as fault:
            self.fault = fault

    def goes_on(self) -> None:
        """Some thousand more tasks run."""
        mark = self.ran() + CHUNK
        until(lambda: self.fault or self.ran() >= mark)
        assert self.fault is None

    def end(self) -> int:
        """Submit no more; how many tasks there were."""
        self._enough.set()
        self._thread.join(120)
        assert not self._thread.is_alive()
        assert self.fault is None
        return len(self.bulks) * CHUNK


def _is_served(world: World) -> bool:
    """Both leaders are there, and every shard is served; by which of them is G8's concern."""
    found = world.status()
    return found is not None and found.ready and len(world.leaders()) == 2


def test_every_part_but_workers_is_killed_in_turn_while_tasks_flow(make_swarm):
    world = make_swarm()
    flow = Flow(world)
    for part in (
        lambda: world.region().process,
        lambda: world.region().leaders[0].process,
        lambda: world.region().leaders[1].process,
        lambda: until(world.status).process,
    ):
        flow.goes_on()
        world.kill(part())
        flow.goes_on()
        until(lambda: _is_served(world), tell=world.tell)
    tasks = flow.end()

    for bulk in flow.bulks:
        assert list(bulk.results(timeout_s=100)) == list(range(CHUNK))
    world.check_one_outcome_each(tasks)
    assert chronicle.violations(world.kept(), flow.bulks, [flow.log]) == []
    # and no worker died: what they finished was never run again (G3, G6)
    times = times_run(notes(flow.log))
    assert len(times) == tasks
    assert set(times.values()) == {1}
