"""What a region in virtual time is made of: a plan, and leaders as a coordinator sees them."""

from __future__ import annotations

from dataclasses import dataclass, field

from chimera.swarm.coordinator import RegionPlan
from chimera.swarm.reports import LeaderConfig, LeaderReport, Owner, ShardInfo, WorkerInfo


def plan(
    leaders: int = 2, shards: int = 8, workers: int = 1, generation: int = 1, region: str = "local"
) -> RegionPlan:
    template = LeaderConfig(
        swarm="test",
        region=region,
        generation=generation,
        data_dir="",
        fsync=False,
        handlers=(),
        workers=workers,
        worker_lease_s=30.0,
        queue_bound=1000,
        objects_url="",
        outcome_retention_s=60.0,
        idempotency_retention_s=60.0,
        resend_window_s=60.0,
        accept_lost_tail=False,
        shards=shards,
    )
    return RegionPlan(region, generation, tuple(range(shards)), leaders, template)


@dataclass
class FakeLeader:
    """One incarnation of a leader."""

    name: str
    pid: int
    config: LeaderConfig
    paused: bool = False
    dead: bool = False
    ready: bool = True
    ever_paused: bool = False
    term: int = 0
    watcher: int = 0  #: serial of the watch on it
    surplus_since: float = 0.0
    shards: dict[int, tuple[int, str]] = field(default_factory=dict)
    workers: dict[str, WorkerInfo] = field(default_factory=dict)

    @property
    def process(self) -> Owner:
        return Owner(self.name, "boot", 1, self.pid, self.pid, "node")

    def report(self) -> LeaderReport:
        return LeaderReport(
            leader=self.name,
            process=self.process,
            generation=self.config.generation,
            ready=self.ready,
            shards=tuple(ShardInfo(s, e, st, 0) for s, (e, st) in sorted(self.shards.items())),
            workers=tuple(self.workers.values()),
            counters={},
            revision=self.config.revision,
        )
