"""What goes wrong, and when: drawn from the seed before the run, so that a schedule can be cut.

Swarm testing: each seed enables a random subset of the kinds, so that rare combinations come up.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from chimera import names
from chimera.sim.coordinator import CoordinatorProcess
from chimera.sim.kernel import STORE, Process
from chimera.sim.leader import LeaderProcess
from chimera.sim.orchestrator import OrchestratorProcess
from chimera.swarm.orchestrator.events import Operate
from chimera.swarm.orders import Drain, Order, Pause, Resume, Scale

if TYPE_CHECKING:
    from chimera.sim.world import World


class Fault(msgspec.Struct, frozen=True):
    """One thing that goes wrong for a while."""

    at: float  #: virtual seconds
    kind: str
    pick: int  #: which of those that may be meant
    span_s: float  #: for how long


#: within which all faults of some seeds come: what heals one meets the next, seconds
CROWDED_S = 1.5
#: share of seeds in which handlers hang
HANGS = 0.3
#: how many of the attempts that begin next do, at most
HANGS_MAX = 3
#: share of seeds in which nobody adopts a dead leader's workers, which cannot end themselves
STRANDS = 0.1
TIERS = ("worker", "leader", "coordinator", "orchestrator")
#: those of which each seed enables some
_DRAWN = (
    *(f"kill_{tier}" for tier in TIERS),
    *(f"pause_{tier}" for tier in TIERS),
    *(f"slow_{tier}" for tier in TIERS[:3]),
    "host_crash", "cut", "cut_one_way", "slow_link", "flap", "skew", "disk_full", "disk_stall",
    "commit_unknown", "duplicate", "spawn_fails", "drain", "scale", "pause_type", "ghost",
    "drain_region", "store_cut", "kill_at_commit", "pause_taker",
)  # fmt: skip
KINDS = (*_DRAWN, "hang", "strand")
#: kinds that come more often than the others
_OFTEN = ("kill_worker", "kill_leader", "pause_leader", "pause_worker")


def draw(dice: random.Random, span_s: float, shared: bool = False) -> list[Fault]:
    """A schedule of faults within the safety phase, in order.

    On `shared` storage a region is cut off for long enough to be lost.
    """
    enabled = [kind for kind in _DRAWN if dice.random() < 0.35]
    enabled += [kind for kind in _OFTEN if dice.random() < 0.5]
    lost = Fault(round(dice.uniform(2.0, 4.0), 3), "cut", dice.randrange(1 << 16), 6.0)
    found = [lost] if shared else []
    if not enabled:
        return found
    crowded = dice.random() < 0.3
    centre = dice.uniform(2.0, span_s - CROWDED_S)
    earliest, latest = (centre, centre + CROWDED_S) if crowded else (2.0, span_s)
    found += [
        Fault(
            round(dice.uniform(earliest, latest), 3),
            dice.choice(enabled),
            dice.randrange(1 << 16),
            round(dice.choice((0.1, 0.5, 1.0, 3.0, 6.0)) * dice.uniform(0.5, 1.5), 3),
        )
        for _ in range(dice.randrange(2, 14))
    ]
    return sorted(found, key=lambda fault: fault.at)


def draw_apart(seed: int, span_s: float) -> list[Fault]:
    """What few seeds have, each by dice of its own: where it is off, nothing else changes."""
    found: list[Fault] = []
    dice = random.Random(f"hang {seed}")
    if dice.random() < HANGS:
        found += [
            Fault(round(dice.uniform(2.0, span_s), 3), "hang", dice.randrange(1 << 16), 0.0)
            for _ in range(dice.randrange(1, 4))
        ]
    dice = random.Random(f"strand {seed}")
    if dice.random() < STRANDS:
        at = round(dice.uniform(2.0, 2.5), 3)
        found.append(Fault(at, "strand", dice.randrange(1 << 16), 9.0))
    return found


def strike(world: World, fault: Fault) -> None:
    """Let it happen, and heal by itself after its time."""
    kernel = world.kernel
    verb, _, tier = fault.kind.partition("_")
    if verb in ("kill", "pause", "slow") and tier in TIERS:
        target = _pick(world, tier, fault.pick)
        if target is None:
            return
        kernel.note("fault", f"{fault.kind} {target.name} {target.pid} for {fault.span_s}")
        _on_process(world, verb, target, fault.span_s)
    else:
        kernel.note("fault", f"{fault.kind} {fault.pick} for {fault.span_s}")
        _STRIKES[fault.kind](world, fault)
    kernel.counters[f"fault_{fault.kind}"] += 1


def _pick(world: World, tier: str, pick: int) -> Process | None:
    found = [p for p in world.kernel.processes.values() if names.tier(p.name) == tier]
    return found[pick % len(found)] if found else None


def _on_process(world: World, verb: str, target: Process, span_s: float) -> None:
    kernel = world.kernel
    if verb == "kill":
        kernel.kill(target, "kill -9")
    elif verb == "pause":
        kernel.pause(target)
        kernel.after(span_s, lambda: kernel.resume(target))
    else:
        target.lag_s, target.troubled_at = min(span_s, 2.0) / 4, kernel.now

        def faster() -> None:
            target.lag_s, target.troubled_at = 0.0, kernel.now

        kernel.after(span_s, faster)


def _host_crash(world: World, fault: Fault) -> None:
    host = world.hosts[fault.pick % len(world.hosts)]
    world.crash(host)
    world.kernel.after(fault.span_s, lambda: world.kernel.down.discard(host))


def _cut(world: World, fault: Fault, both: bool = True) -> None:
    host = world.hosts[fault.pick % len(world.hosts)]
    routes = [(world.head, host), (host, world.head)]
    for route in routes if both else [routes[fault.pick // 7 % 2]]:
        world.kernel.cut_off(*route)
        world.kernel.after(fault.span_s, partial(world.kernel.heal, *route))


def _flap(world: World, fault: Fault) -> None:
    short = Fault(0.0, "cut", fault.pick, fault.span_s / 12)
    for turn in range(5):
        world.kernel.after(turn * fault.span_s / 5, lambda: _cut(world, short))


def _slow_link(world: World, fault: Fault) -> None:
    host = world.hosts[fault.pick % len(world.hosts)]
    world.kernel.slow[host] = min(fault.span_s / 10, 0.3)

    def faster() -> None:
        world.kernel.slow.pop(host, None)

    world.kernel.after(fault.span_s, faster)


def _skew(world: World, fault: Fault) -> None:
    host = world.hosts[fault.pick % len(world.hosts)]
    world.kernel.skew_ms[host] = fault.pick % (2 * world.plan.skew_ms_max) - world.plan.skew_ms_max


def _disk(world: World, fault: Fault, name: str, value: float | bool) -> None:
    disk = world.disks[fault.pick % len(world.disks)]
    before = type(value)(0)
    setattr(disk, name, value)
    world.kernel.after(fault.span_s, lambda: setattr(disk, name, before))


def _hang(world: World, fault: Fault) -> None:
    """The next handlers to begin never return; of some, no thread of their worker goes on."""
    world.hangs += [bool(fault.pick >> 8 & 1)] * (1 + fault.pick % HANGS_MAX)


def _strand(world: World, fault: Fault) -> None:
    """A leader dies while its workers are stopped; one without shards, for nobody adopts those."""
    leaders = [p for p in world.kernel.processes.values() if isinstance(p, LeaderProcess)]
    leader = min(leaders, key=lambda one: (len(one.hosted), one.name), default=None)
    if leader is None:
        return
    workers = [link.process for link in leader.links.values() if link.own]
    world.kernel.kill(leader, "kill -9")
    for worker in workers:
        _on_process(world, "pause", worker, fault.span_s)


def _duplicate(world: World, fault: Fault) -> None:
    world.duplicates = 0.5
    world.kernel.after(fault.span_s, lambda: setattr(world, "duplicates", 0.0))


def _spawn_fails(world: World, fault: Fault) -> None:
    world.spawn_fails = True
    world.kernel.after(fault.span_s, lambda: setattr(world, "spawn_fails", False))


def _pause_taker(world: World, fault: Fault) -> None:
    """The next leader that agrees to take a shard is stopped before it does."""
    world.pause_taker_s = fault.span_s


def operate(world: World, order: Order) -> None:
    """An operator orders something, if there is an orchestrator that listens."""
    process = world.kernel.names.get(names.ORCHESTRATOR)
    if isinstance(process, OrchestratorProcess):
        process.deliver(lambda: process.step(Operate(-1, order, "operator")))


def _drain(world: World, fault: Fault) -> None:
    region = world.hosts[fault.pick % len(world.hosts)]
    target = names.leader(region, fault.pick // 3 % world.plan.leaders)
    operate(world, Drain(target))
    world.undo.append(Drain(target, undo=True))


def _drain_region(world: World, fault: Fault) -> None:
    target = names.coordinator(world.hosts[fault.pick % len(world.hosts)])
    operate(world, Drain(target))
    world.undo.append(Drain(target, undo=True))


def _store_cut(world: World, fault: Fault) -> None:
    """A region does not reach what keeps the journals."""
    route = (world.hosts[fault.pick % len(world.hosts)], STORE)
    world.kernel.cut_off(*route)
    world.kernel.after(fault.span_s, lambda: world.kernel.heal(*route))


def _scale(world: World, fault: Fault) -> None:
    region = world.hosts[fault.pick % len(world.hosts)]
    operate(world, Scale(region, leaders=1 + fault.pick // 3 % 4, workers=1 + fault.pick // 5 % 3))
    world.undo.append(Scale(region, leaders=world.plan.leaders, workers=world.plan.workers))


def _pause_type(world: World, fault: Fault) -> None:
    operate(world, Pause(types=("t",)))
    world.undo.append(Resume(types=("t",)))


def _ghost(world: World, fault: Fault) -> None:
    """A coordinator is stopped and loses its name, but dies only later (ray.kill takes 5 s)."""
    target = _pick(world, "coordinator", fault.pick)
    if not isinstance(target, CoordinatorProcess):
        return
    kernel = world.kernel
    kernel.pause(target)
    if kernel.names.get(target.name) is target:
        del kernel.names[target.name]
    for end in list(target.pending.values()):
        kernel.after(0.01, end)
    target.pending.clear()
    kernel.after(min(fault.span_s, 4.0), lambda: kernel.resume(target))
    kernel.after(5.0, lambda: kernel.kill(target, "at last"))


_STRIKES: dict[str, Callable[[World, Fault], None]] = {
    "host_crash": _host_crash,
    "cut": _cut,
    "cut_one_way": lambda world, fault: _cut(world, fault, both=False),
    "slow_link": _slow_link,
    "flap": _flap,
    "skew": _skew,
    "disk_full": lambda world, fault: _disk(world, fault, "full", True),
    "disk_stall": lambda world, fault: _disk(world, fault, "stall_s", 0.4),
    "commit_unknown": lambda world, fault: _disk(world, fault, "unsure", 0.3),
    "duplicate": _duplicate,
    "hang": _hang,
    "strand": _strand,
    "spawn_fails": _spawn_fails,
    "kill_at_commit": lambda world, fault: _disk(world, fault, "deadly", True),
    "pause_taker": _pause_taker,
    "drain": _drain,
    "drain_region": _drain_region,
    "store_cut": _store_cut,
    "scale": _scale,
    "pause_type": _pause_type,
    "ghost": _ghost,
}
