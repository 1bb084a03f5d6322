"""The coordinator's actor: its machine in a loop, its store, and the calls of those above it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import ray

from chimera import names
from chimera.actors import processes
from chimera.actors.broker import open_broker
from chimera.actors.cluster import Cluster, myself, own_name
from chimera.actors.coordinator_hands import Hands
from chimera.actors.coordinator_loop import Loop
from chimera.actors.guard import Guard
from chimera.actors.teardown import end_region
from chimera.errors import StaleTerm
from chimera.store.control import ControlStore, Term
from chimera.swarm import rosters
from chimera.swarm.coordinator import Coordinator as Machine
from chimera.swarm.coordinator.effects import Audit
from chimera.swarm.coordinator.events import Planned
from chimera.swarm.reports import CoordinatorConfig, Placement, RegionReport
from chimera.swarm.rosters import Known
from chimera.swarm.spec import from_dict, region_plan

if TYPE_CHECKING:
    from chimera.actors.newsroom import Newsroom

#: for the loop to take in a new spec and make it durable, seconds
CONFIGURE_S = 10.0
#: for the loop to end what it is doing, seconds
STOP_S = 10.0


@ray.remote(  # type: ignore[call-overload]  # Ray's stubs know neither option for classes
    concurrency_groups={"watch": 4, "ctl": 4, "read": 4}, enable_task_events=False
)
class Coordinator:
    """Places a region's shards on its leaders and fails them over (G6, G8).

    When `configure` returns, the change is durable here and will be brought about even if this
    process dies. Orders of an orchestrator of a lower term than ever heard raise StaleTerm.
    """

    def __init__(
        self, config: CoordinatorConfig, leader_class: str = "chimera.actors.leader:Leader"
    ) -> None:
        self._name = own_name()
        self._region = config.region
        self._listens = bool(config.listen)
        self._lock = threading.Lock()
        self._heeded = 0
        self._cluster = Cluster(names.namespace(config.swarm))
        store = from_dict(config.spec).store
        part = f"coordinator-{config.region}"
        self._store = ControlStore.of(store, config.swarm, part, config.data_dir)
        self._term = self._store.draw_term(self._name)
        body, generation = self._told(config)
        self._spec = from_dict(body)
        plan = region_plan(self._spec, config.region, generation)
        machine = Machine(plan, self._term, self._store.load_placement(config.region))
        self._loop = Loop(
            machine,
            self._store,
            Term(self._name, self._term),
            processes.identity(self._name),
            lambda tell: Hands(
                self._cluster, self._name, self._region, self._term, tell, leader_class
            ),
        )
        self._loop.start()
        self._guard = self._guarded(config)
        self._newsroom = self._news()
        if config.listen:
            from chimera.actors.control.server import LinkServer  # gRPC: only where it is used

            served: Any = self  # Ray's types know methods of an actor as remote ones only
            LinkServer(served, config.listen, self._leave)

    def _told(self, config: CoordinatorConfig) -> tuple[dict[str, Any], int]:
        """The spec to begin with, and its generation.

        Without an orchestrator at hand it is what was told last: this process is restarted by Ray,
        with the arguments of its first incarnation, and perhaps while the link is cut.
        """
        stored = self._store.spec() if config.listen else None
        if stored is not None and stored.generation > config.generation:
            return stored.body, stored.generation
        return config.spec, config.generation

    def _guarded(self, config: CoordinatorConfig) -> Guard | None:
        """Watch the orchestrator, if it is in this Ray cluster (P19)."""
        if not config.orchestrator:
            return None
        coordinators = sorted(names.coordinator(region.name) for region in self._spec.regions)
        guard = Guard(
            self._cluster, self._name, config.orchestrator, coordinators.index(self._name),
            lambda reason: self._note("end", config.orchestrator, reason=reason),
        )  # fmt: skip
        guard.start()
        return guard

    def _news(self) -> Newsroom | None:
        """Tell others of the region, if there is a broker."""
        spec = self._spec
        if not spec.bus:
            return None
        from chimera.actors.newsroom import Newsroom

        return Newsroom(
            open_broker(
                spec.bus, spec.name, spec.shards, spec.readers, self._name, registry=spec.registry
            ),
            self._name, self._store, self._loop.report,
            lambda: self._spec.region(self._region).leaders,
        )  # fmt: skip

    def _leave(self) -> None:
        """End for good: the region has retired, and nobody in this Ray cluster is above it."""
        self._cluster.kill(myself())

    @ray.method(concurrency_group="watch")
    def watch(
        self, orchestrator: str, term: int, hold_s: float, known: Known | None = None
    ) -> RegionReport:
        """The region's report, at once when it changes and after `hold_s` at the latest.

        It leaves the rosters out that are `known`. Raises StaleTerm.
        """
        self._heed(orchestrator, term)
        report = self._loop.wait_for_change(self._loop.report(), hold_s)
        return rosters.brief(report, known or {})

    @ray.method(concurrency_group="ctl")
    def configure(self, term: int, spec: dict[str, Any], generation: int) -> None:
        """Bring about a new spec; one of an older generation is ignored. Raises StaleTerm."""
        self._heed(names.ORCHESTRATOR, term)
        changed = from_dict(spec)
        plan = region_plan(changed, self._region, generation)
        self._loop.tell_and_wait(Planned(plan), CONFIGURE_S)
        if self._loop.report().generation == generation:
            self._spec = changed
            if self._listens:
                self._store.keep_spec(generation, spec, names.ORCHESTRATOR, _unix_ms())

    @ray.method(concurrency_group="read")
    def placement(self) -> Placement:
        """Who has which shard of the region: a hint (P2)."""
        report = self._loop.report()
        handles = self._loop.hands.handles()
        shards = {shard: leader for shard, leader in report.placement.items() if leader in handles}
        return Placement(
            term=self._term,
            shards=shards,
            handles={leader: handles[leader] for leader in set(shards.values())},
            ring=self._spec.shards,
            objects_url=self._spec.objects,
            payload_max_bytes=self._spec.payload_max_bytes,
            bus=self._spec.bus,
            registry=self._spec.registry,
            epochs={
                s.shard: s.epoch
                for leader in report.leaders
                for s in leader.shards
                if shards.get(s.shard) == leader.leader
            },
        )

    @ray.method(concurrency_group="read")
    def status(self) -> RegionReport:
        """The region as it is seen now."""
        return self._loop.report()

    @ray.method(concurrency_group="ctl")
    def retire(self, term: int) -> None:
        """End every leader and worker of the region; the caller ends this process.

        Returns when none of their processes is left. Raises StaleTerm, and Unavailable with the
        names of what could not be ended.
        """
        self._heed(names.ORCHESTRATOR, term)
        if self._guard is not None:
            self._guard.stop()
        self._note("retire", self._region)
        self._loop.stop(STOP_S)
        if self._newsroom is not None:
            self._newsroom.stop()
        leaders = self._loop.report().leaders
        end_region(self._cluster, self._region, leaders, self._name, self._term)

    def _heed(self, orchestrator: str, term: int) -> None:
        """Refuse an orchestrator that has a successor; remembered across incarnations."""
        with self._lock:
            if term < self._heeded:
                raise StaleTerm(f"{orchestrator}: term {term} is below {self._heeded}")
            if term > self._heeded:
                self._store.heed_term(orchestrator, term)
                self._heeded = term

    def _note(self, action: str, subject: str, **detail: Any) -> None:
        """Write an audit entry before what it tells is done."""
        self._store.record(
            _unix_ms(),
            writer=Term(self._name, self._term),
            notes=(Audit(action, subject, {"term": self._term, **detail}),),
        )


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000
