"""A simulated swarm of a given size, with every message counted by the tiers that it is between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from chimera import names
from chimera.sim.coordinator import CoordinatorProcess
from chimera.sim.kernel import Kernel, Process, Reply
from chimera.sim.leader import LeaderProcess
from chimera.sim.orchestrator import OrchestratorProcess
from chimera.sim.world import Plan, World

#: a request's share of a heartbeat: a name, a term, for how long to wait
REQUEST_BYTES = 64
#: of messages of the same kind, one in so many is measured; the rest count as much
SAMPLE = 10
#: between two looks at what is served while something fails over, virtual seconds
LOOK_S = 0.005
#: virtual seconds that a swarm may take to start, or to have its shards served again
PATIENCE_S = 60.0
#: a leader looks at its clocks so often: rarer than in life, and no message follows from it
TICK_S = 0.2
_ENCODER = msgspec.msgpack.Encoder(enc_hook=str)


class Meter:
    """What was sent and done between two moments of virtual time."""

    def __init__(self) -> None:
        self.messages: Counter[tuple[str, str]] = Counter()  #: (from tier, to tier)
        self.bytes: Counter[tuple[str, str]] = Counter()
        self.steps: Counter[str] = Counter()  #: tier → events that its machines took in
        self._size: dict[tuple[str, ...], int] = {}
        self._seen: Counter[tuple[str, ...]] = Counter()

    def clear(self) -> None:
        """Count from here on."""
        for counts in (self.messages, self.bytes, self.steps, self._seen):
            counts.clear()

    def sent(self, route: tuple[str, str], size: int) -> None:
        self.messages[route] += 1
        self.bytes[route] += size

    def asked(self, route: tuple[str, str], value: Any) -> None:
        """A request went this way, with something to say."""
        self.sent(route, REQUEST_BYTES + (0 if value is None else self._long("?", route, value)))

    def answered(self, route: tuple[str, str], value: Any) -> None:
        """An answer went this way."""
        self.sent(route, self._long("!", route, value))

    def _long(self, kind: str, route: tuple[str, str], value: Any) -> int:
        """Bytes of a value; some of a kind and way are encoded to see how long they are."""
        key = kind, *route
        if self._seen[key] % SAMPLE == 0:
            self._size[key] = len(_ENCODER.encode(value))
        self._seen[key] += 1
        return self._size[key]

    def load(self, tier: str) -> tuple[int, int]:
        """Messages to and from a tier, and their bytes."""
        return (
            sum(n for route, n in self.messages.items() if tier in route),
            sum(n for route, n in self.bytes.items() if tier in route),
        )


class MeteredKernel(Kernel):
    """A kernel that counts what passes between tiers."""

    def __init__(self, seed: int, keep_trace: bool = False) -> None:
        super().__init__(seed, keep_trace)
        self.meter = Meter()

    def born(self, process: Process) -> None:
        super().born(process)
        if isinstance(process, (CoordinatorProcess, OrchestratorProcess)):
            # an attribute of this one process: its own calls to `step` find it, too
            process.step = self._counted(process)  # type: ignore[method-assign, assignment]

    def _counted(self, process: Any) -> Callable[[Any], None]:
        step, tier, meter = process.step, names.tier(process.name), self.meter

        def counted(event: Any) -> None:
            step(event)
            meter.steps[tier] += 1

        return counted

    def call(self, source: Process, target: Process | None, do: Callable[[Reply], None],
             done: Reply, asked: object = None) -> None:  # fmt: skip
        if target is None:
            super().call(source, target, do, done)
            return
        up, down = names.tier(target.name), names.tier(source.name)
        self.meter.asked((down, up), asked)

        def counted(value: Any) -> None:
            if not isinstance(value, BaseException):
                self.meter.answered((up, down), value)
            done(value)

        super().call(source, target, do, counted)


class ScaleWorld(World):
    """A world in which nothing goes wrong but what is asked for, and that looks at itself less."""

    kernel_type = MeteredKernel

    def _watch_counts(self) -> None:
        """Counters are not what is tested here."""

    def owners(self, host: str) -> dict[int, str]:
        return {
            shard.number: shard.owner
            for process in self.coordinators()
            if (process.host, host) not in self.kernel.cut
            for shard in process.machine.state.shards.values()
            if shard.owner
        }

    def coordinators(self) -> Iterator[CoordinatorProcess]:
        for host in self.hosts:
            process = self.kernel.names.get(names.coordinator(host))
            if isinstance(process, CoordinatorProcess):
                yield process

    def leaders(self, host: str) -> Iterator[LeaderProcess]:
        for index in range(self.plan.leaders):
            process = self.kernel.names.get(names.leader(host, index))
            if isinstance(process, LeaderProcess) and process.alive:
                yield process

    def unserved(self, shards: set[int]) -> set[int]:
        """Of these shards, those that no living leader serves."""
        return {shard for shard in shards if not self._is_served(shard)}

    def _is_served(self, shard: int) -> bool:
        taker = self.disks[shard].taker
        if not isinstance(taker, LeaderProcess) or not taker.alive or taker.paused:
            return False
        hosted = taker.hosted.get(shard)
        return hosted is not None and hosted.state == "serving"


@dataclass(frozen=True, slots=True)
class Size:
    """How many of what."""

    regions: int
    leaders: int  #: of each region
    workers: int  #: of each leader

    @property
    def all_workers(self) -> int:
        return self.regions * self.leaders * self.workers

    @property
    def ring(self) -> int:
        """Shards: one for each leader."""
        return self.regions * self.leaders

    def __str__(self) -> str:
        return f"{self.regions} × {self.leaders} × {self.workers}"


class Unserved(RuntimeError):
    """The swarm did not come to serve every shard."""


class Run:
    """One swarm, from its start on. Raises Unserved when it does not get well."""

    def __init__(self, size: Size, seed: int = 1) -> None:
        self.size = size
        plan = Plan(
            seed, size.regions, size.leaders, size.workers, size.ring, tasks=size.ring, keys=8,
            fsync=True, span_s=12.0, lease_s=30.0, region_timeout_s=5.0, shared=True,
            leader_tick_s=TICK_S, checked=False,
        )  # fmt: skip
        self.world = ScaleWorld(plan, [])
        self.kernel = self.world.kernel

    @property
    def meter(self) -> Meter:
        kernel = self.kernel
        assert isinstance(kernel, MeteredKernel)
        return kernel.meter

    def start(self) -> float:
        """Until every leader has its workers and every shard is served, in virtual seconds."""
        every = set(range(self.size.ring))
        workers = self.size.workers

        def up() -> bool:
            found = [one for host in self.world.hosts for one in self.world.leaders(host)]
            return (
                len(found) == self.size.regions * self.size.leaders
                and all(
                    sum(link.watched for link in one.links.values()) == workers for one in found
                )
                and not self.world.unserved(every)
            )

        return self._until(up, 0.1)

    def advance(self, seconds: float) -> None:
        """Let virtual time pass."""
        until = self.kernel.now + seconds
        while self.kernel.next_at() <= until and self.kernel.run_one():
            pass
        self.kernel.now = until

    def watch(self, seconds: float) -> Meter:
        """What is sent in that time, from now on."""
        self.meter.clear()
        self.advance(seconds)
        return self.meter

    def lose_leader(self, host: int, index: int, *, paused: bool = False) -> float:
        """Until what a leader that is killed or stopped had is served again, virtual seconds."""
        name = names.leader(self.world.hosts[host], index)
        process = self.kernel.names[name]
        assert isinstance(process, LeaderProcess)
        shards = set(process.hosted)
        if paused:
            self.kernel.pause(process)
        else:
            self.kernel.kill(process, "asked for")
        return self._until(lambda: not self.world.unserved(shards), LOOK_S)

    def lose_region(self, host: int) -> float:
        """Until all that a region had is served by others after its power failed."""
        name = self.world.hosts[host]
        shards = {shard for one in self.world.leaders(name) for shard in one.hosted}
        self.world.crash(name)
        return self._until(lambda: not self.world.unserved(shards), LOOK_S)

    def _until(self, holds: Callable[[], bool], look_s: float) -> float:
        began = self.kernel.now
        while not holds():
            if self.kernel.now - began > PATIENCE_S:
                raise Unserved(f"{self.size}: not within {PATIENCE_S:.0f} s of virtual time")
            self.advance(look_s)
        return self.kernel.now - began
