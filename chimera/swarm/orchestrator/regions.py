"""A region as a whole: what it lacks, and whether it is lost: nobody of it is heard.

No client waits for this: unsent work goes to the shards of other regions as soon as one does not
answer (P13). Embedded journals wait for their machine, and so a loss is for people and for the
audit log; on shared storage the shards of a lost region are given to others (`rehome`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from chimera import names
from chimera.swarm import spec as specs
from chimera.swarm.health import Health
from chimera.swarm.orchestrator.effects import Attach, Knock
from chimera.swarm.orchestrator.state import Child, ChildState, Patience
from chimera.swarm.reports import ChildInfo
from chimera.swarm.spec import Spec


def heard(child: Child, now: float) -> bool:
    """Its coordinator or a leader spoke; returns whether it was lost until now."""
    child.heard_at = now
    was, child.lost = child.lost, False
    return was


def knock(child: Child, now: float, spec: Spec, patience: Patience) -> Knock | None:
    """Ask its leaders, if its coordinator is silent; None: not now, or they cannot be asked."""
    asked = now - child.knocked_at < patience.knock_s
    if child.state in (ChildState.UP, ChildState.AWAY) or asked or child.heard_at is None:
        return None
    child.knocked_at = now
    leaders = spec.region(child.region).leaders
    return Knock(child.region, tuple(names.leader(child.region, i) for i in range(leaders)))


def attach(child: Child, spec: Spec) -> Attach:
    """Watch its coordinator over its link."""
    return Attach(child.region, child.serial, spec.region(child.region).link)


def mute(children: Iterable[Child], spec: Spec, health: Health, now: float) -> list[str]:
    """Regions behind a link that were not heard for as long as makes one lost.

    That may be sooner than a coordinator counts as silent: nobody ends this one, so that there is
    less need to be sure. What the observer itself has lost is no silence.
    """
    return [
        child.region
        for child in children
        if child.state is ChildState.UP
        and spec.region(child.region).link
        and child.heard_at is not None
        and now - child.heard_at >= spec.region_timeout_s + health.lost(child.heard_at, now)
    ]


def is_lost(child: Child, now: float, timeout_s: float) -> bool:
    """Whether it is lost from now on."""
    if child.heard_at is None:
        child.heard_at = now  # nobody can be missed before there was time to speak
    if child.lost or child.state is ChildState.UP or now - child.heard_at < timeout_s:
        return False
    child.lost = True
    return True


def faults(children: Iterable[Child], shared: bool) -> tuple[str, ...]:
    """What a person should see of regions; `shared`: each can open the journals of all."""
    return tuple(one for child in children for one in _faults(child, shared))


def info(child: Child, shared: bool, now: float) -> ChildInfo:
    """What is to be said of its coordinator."""
    return ChildInfo(
        child.state.value,
        child.state is ChildState.UP,
        tuple(_of_it(child, shared)),
        None if child.report is None else now - child.reported_at,
    )


def _of_it(child: Child, shared: bool) -> Iterator[str]:
    """Faults that the orchestrator itself sees."""
    if child.fault:
        yield f"{names.coordinator(child.region)}: {child.fault}"
    if child.lost:
        accepted = "its shards go to them too" if shared else "what it has accepted waits there"
        yield (
            f"region {child.region} is lost: neither its coordinator nor a leader answers;"
            f" new work goes to the other regions, {accepted}"
        )


def _faults(child: Child, shared: bool) -> list[str]:
    found = list(_of_it(child, shared))
    if child.report is not None and child.state is not ChildState.MISSING:
        found += child.report.faults
        for leader in child.report.leaders:
            found += [f"{leader.leader}: {fault}" for fault in leader.faults]
    return found


def missing(spec: Spec, child: Child, generation: int) -> str:
    """What it lacks to be ready by the spec's generation; empty: nothing.

    It is asked after each event, and looks at every worker: only at what is new.
    """
    of = spec, generation, child.state, child.report
    if child.lacks is None or any(a is not b for a, b in zip(of, child.lacks[0], strict=True)):
        child.lacks = of, _missing(spec, child, generation)
    return child.lacks[1]


def _missing(spec: Spec, child: Child, generation: int) -> str:
    report = child.report
    if child.state is not ChildState.UP or report is None:
        return f"its coordinator, which is {child.state.value}"
    if report.generation < generation:
        return "its coordinator to take in the new spec"
    shards = len(specs.region_shards(spec, child.region))
    serving = sum(shard.state == "serving" for leader in report.leaders for shard in leader.shards)
    if not any(leader.ready for leader in report.leaders):
        return "workers to load their handlers"
    if serving < shards or not report.ready:
        return f"{serving} of {shards} shards are served"
    revision = specs.worker_revision(spec)
    workers = [worker for leader in report.leaders for worker in leader.workers]
    if old := sum(worker.revision not in ("", revision) for worker in workers):
        return f"{old} of {len(workers)} workers to be replaced by newer ones"
    return ""
