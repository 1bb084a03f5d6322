"""What a region shall look like, and how patient its coordinator is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache

from chimera import names
from chimera.swarm.health import HealthPolicy, ScrutinyPolicy
from chimera.swarm.reports import LeaderConfig
from chimera.swarm.restart import RestartPolicy


@lru_cache(maxsize=64)
def _leader_names(region: str, leaders: int, drained: tuple[str, ...]) -> tuple[str, ...]:
    every = (names.leader(region, index) for index in range(leaders))
    return tuple(name for name in every if name not in drained)


@lru_cache(maxsize=64)
def _shard_set(shards: tuple[int, ...]) -> frozenset[int]:
    return frozenset(shards)


@lru_cache(maxsize=64)
def _leader_set(region: str, leaders: int, drained: tuple[str, ...]) -> frozenset[str]:
    return frozenset(_leader_names(region, leaders, drained))


@dataclass(frozen=True, slots=True)
class RegionPlan:
    """The declared state of one region."""

    region: str
    generation: int  #: of the spec
    shards: tuple[int, ...]  #: of the ring, those that this region serves
    leaders: int
    template: LeaderConfig  #: what every leader works by
    drained: tuple[str, ...] = ()  #: leaders that are to hand over and go, among other names

    def has_shard(self, number: int) -> bool:
        """Whether it is one of them: asked of each shard, many times a second."""
        return number in _shard_set(self.shards)

    def leader_names(self) -> tuple[str, ...]:
        """Those that shall serve."""
        return _leader_names(self.region, self.leaders, self.drained)

    def has_leader(self, name: str) -> bool:
        """Whether it is one of them: asked of each leader, many times a second."""
        return name in _leader_set(self.region, self.leaders, self.drained)

    def config(self, more_workers: int) -> LeaderConfig:
        """A leader's configuration, with that many workers more than its own."""
        if not more_workers:
            return self.template
        found = self.template
        most = max(found.workers, found.workers_max)
        return replace(found, workers=found.workers + more_workers, workers_max=most + more_workers)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the coordinator waits for what. All in seconds."""

    #: a leader that is being made, for its first word; longer: it hangs
    make_s: float = 30.0
    #: how often that doubles when it happens again
    make_doublings: int = 2
    #: a leader that was found, for its first word; longer: it is condemned
    found_s: float = 2.0
    #: at the first start of a region, for all leaders before shards are given to some
    gather_s: float = 10.0
    #: an order to take a shard, for a sign of it
    order_s: float = 5.0
    #: a leader that is taking a shard, before another one is asked
    taking_s: float = 30.0
    #: after the journal told another epoch, for its owner to report
    truth_s: float = 0.3
    #: the first wait after a shard could not be taken; doubles with each try
    retry_s: float = 0.1
    #: the longest of those waits
    retry_max_s: float = 5.0
    #: a condemned leader, for those who took its shards to end it
    hung_s: float = 5.0
    #: between two attempts to end the same process
    end_again_s: float = 10.0
    #: leaders unchanged, before shards are moved between them
    settled_s: float = 1.0
    #: a leader asked to retire
    retire_s: float = 30.0
    #: between two configurations of the same leader that was not acknowledged
    configure_s: float = 2.0
    #: one leader's change of generation, before the next leader's begins
    rolling_s: float = 10.0
    #: past the workers' lease, before one that nobody owns is ended
    reap_s: float = 2.0
    #: between two surveys
    survey_s: float = 10.0
    #: a survey for the workers of a leader that was lost before it said a word
    asking_s: float = 3.0
    health: HealthPolicy = field(default_factory=HealthPolicy)
    scrutiny: ScrutinyPolicy = field(default_factory=ScrutinyPolicy)
    restart: RestartPolicy = field(default_factory=RestartPolicy)
