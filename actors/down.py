"""A swarm's end: nothing of it is left, and nothing that was accepted is lost."""

from __future__ import annotations

import time
from collections.abc import Iterable

from chimera import names
from chimera.actors import processes
from chimera.actors.access import CALL_S, LOOK_S, Progress, connect, quiet, status, who
from chimera.actors.cluster import Cluster
from chimera.errors import ChimeraError, Unavailable
from chimera.swarm import spec as specs
from chimera.swarm.reports import Owner, RegionReport, SwarmStatus

#: parents first, so that they do not make again what was ended
_ORDER = ("orchestrator", "coordinator", "leader", "worker", "gate", "results")


def down(swarm: str, *, timeout_s: float = 60.0, on_progress: Progress = quiet) -> None:
    """End a swarm: when this returns no actor and no process of it is left.

    What was accepted and not done is in the journals, and goes on when the swarm is up again.
    To do it again changes nothing. Raises Unavailable with the names of what could not be ended.
    """
    connect()
    until = time.monotonic() + timeout_s
    cluster = Cluster(names.namespace(swarm))
    if not cluster.names():
        on_progress(f"swarm {swarm} is not up")
        return
    known = _processes(cluster)
    try:
        found = status(swarm, timeout_s=timeout_s / 4)
        known |= {found.process, *_here(found)}
        on_progress("leaders end what is running, and close their journals")
        handle = cluster.find(names.ORCHESTRATOR)
        if handle is not None:
            # the rest of the time is for what does not end when it is asked to
            cluster.call(handle.stop.remote(who()), timeout_s / 2)
    except ChimeraError as fault:
        on_progress(f"the orchestrator cannot stop it: {fault.message}; ending what is left")
    while True:
        left = _end_all(cluster, known)
        if not left:
            on_progress(f"swarm {swarm} is down")
            return
        if time.monotonic() >= until:
            raise Unavailable(f"still there: {', '.join(left)}")
        time.sleep(LOOK_S)


def _processes(cluster: Cluster) -> set[Owner]:
    """Every process of the swarm that its coordinators tell of."""
    known: set[Owner] = set()
    for name in cluster.names():
        if names.tier(name) != "coordinator":
            continue
        try:
            handle = cluster.find(name)
            if handle is not None:
                known |= _of_region(cluster.call(handle.status.remote(), CALL_S))
        except ChimeraError:
            continue  # its children have names too
    return known


def _here(found: SwarmStatus) -> set[Owner]:
    """Processes in this Ray cluster: a region behind a link that cannot be reached lives on."""
    spec = specs.from_dict(found.spec)
    near = [report for name, report in found.regions.items() if not spec.region(name).link]
    return {process for report in near for process in _of_region(report)}


def _of_region(report: RegionReport) -> set[Owner]:
    known = {report.process}
    for leader in report.leaders:
        known |= {leader.process, *(worker.process for worker in leader.workers)}
    return known


def _end_all(cluster: Cluster, known: Iterable[Owner]) -> list[str]:
    """End what is there, parents first; returns the names of what was there."""
    alive = sorted(cluster.names(), key=lambda name: _ORDER.index(names.tier(name)))
    for name in alive:
        try:
            handle = cluster.find(name)
            if handle is not None:
                cluster.kill(handle)
        except ChimeraError:
            continue  # looked for again
    living = [owner for owner in known if processes.alive(owner)]
    for owner in living:
        processes.end(owner, policy=processes.AFTER_RAY)
    return sorted({*alive, *(owner.name for owner in living)})
