"""A coordinator that is ready at once and has nobody below it: for tests of orchestrators."""

from __future__ import annotations

import threading
from typing import Any

import ray

from chimera.actors import processes
from chimera.actors.cluster import own_name
from chimera.errors import StaleTerm
from chimera.swarm.reports import (
    CoordinatorConfig,
    LeaderReport,
    Placement,
    RegionReport,
    ShardInfo,
)
from chimera.swarm.rosters import Known
from chimera.swarm.spec import from_dict, region_shards


@ray.remote(concurrency_groups={"watch": 2, "ctl": 2})
class FakeCoordinator:
    """Obeys the highest term, and works by the spec it was told last."""

    def __init__(self, config: CoordinatorConfig) -> None:
        if "broken" in config.spec["handlers"]:
            raise OSError("no disk")
        self._config = config
        self._generation = config.generation
        self._term = 0
        self._process = processes.identity(own_name())

    @ray.method(concurrency_group="watch")
    def watch(
        self, orchestrator: str, term: int, hold_s: float, known: Known | None = None
    ) -> RegionReport:
        if term < self._term:
            raise StaleTerm(f"term {term} is below {self._term}", term=self._term)
        self._term = term
        threading.Event().wait(hold_s)
        return self._report()

    @ray.method(concurrency_group="ctl")
    def configure(self, term: int, spec: dict[str, Any], generation: int) -> None:
        self._generation = max(generation, self._generation)

    @ray.method(concurrency_group="ctl")
    def heed(self, term: int) -> None:
        """Hear of an orchestrator of that term."""
        self._term = term

    @ray.method(concurrency_group="ctl")
    def placement(self) -> Placement:
        return Placement(term=7, shards=dict.fromkeys(self._shards(), "leader/x/0"), handles={})

    @ray.method(concurrency_group="ctl")
    def status(self) -> RegionReport:
        return self._report()

    @ray.method(concurrency_group="ctl")
    def retire(self, term: int) -> None:
        return

    def _shards(self) -> tuple[int, ...]:
        return region_shards(from_dict(self._config.spec), self._config.region)

    def _report(self) -> RegionReport:
        shards = tuple(ShardInfo(shard, 1, "serving", 0) for shard in self._shards())
        name = f"leader/{self._config.region}/0"
        leader = LeaderReport(name, self._process, self._generation, True, shards, (), {})
        return RegionReport(
            own_name(), self._config.region, 1, self._process, self._generation, True,
            (leader,), {}, 0,
        )  # fmt: skip


@ray.remote
class FakeResults:
    """There, and no more."""

    def __init__(self, swarm: str) -> None:
        self.swarm = swarm


@ray.remote
class SilentOrchestrator:
    """Lives, and says nothing."""

    def __init__(self, *args: Any) -> None:
        return

    def status(self) -> None:
        threading.Event().wait(60)
