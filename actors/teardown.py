"""The end of a region: leaders retire, then whatever is left of it is ended, and it is checked."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from chimera import names
from chimera.actors import processes
from chimera.actors.cluster import Cluster
from chimera.errors import ChimeraError, Unavailable
from chimera.swarm.health import ScrutinyPolicy
from chimera.swarm.reports import LeaderReport, Owner

#: nothing that retires is spared
_AT_ONCE = ScrutinyPolicy(patience_s=0.0)
#: for a leader to let its workers finish and to close its journals, seconds
RETIRE_S = 20.0
#: for an actor to say which process it is, seconds
WHO_S = 2.0
#: for what is left to die, seconds
LEFT_S = 20.0
#: between two looks at what is left, seconds
_LOOK_S = 0.1


def end_region(
    cluster: Cluster, region: str, reports: Iterable[LeaderReport], coordinator: str, term: int
) -> None:
    """End leaders and workers of a region; returns when no process of them is left.

    Leaders are asked to retire first, which takes at most RETIRE_S. `reports` are the last ones
    known. Raises Unavailable with the names of what still lives after LEFT_S more.
    """
    known: dict[str, Owner] = {}
    for report in reports:
        known[report.leader] = report.process
        known.update({worker.name: worker.process for worker in report.workers})
    handles = _handles(cluster, region)
    _introduce(cluster, handles, known, coordinator, term)
    leaders = [handle for name, handle in handles.items() if names.tier(name) == "leader"]
    cluster.call_all([leader.retire.remote(term) for leader in leaders], RETIRE_S)
    until = time.monotonic() + LEFT_S
    while True:
        for process in known.values():
            processes.end(process, policy=_AT_ONCE)
        for handle in handles.values():
            _kill(cluster, handle)
        try:
            handles = _handles(cluster, region)
            left = set(handles)
        except ChimeraError:
            left = {"unknown, as the GCS does not answer"}
        left |= {name for name, process in known.items() if processes.alive(process)}
        if not left:
            return
        if time.monotonic() >= until:
            raise Unavailable(f"still there: {', '.join(sorted(left))}")
        time.sleep(_LOOK_S)


def _handles(cluster: Cluster, region: str) -> dict[str, Any]:
    """Leaders and workers of the region that Ray still has. Raises Silent."""
    found = {
        name: cluster.find(name)
        for name in cluster.names()
        if names.tier(name) in ("leader", "worker") and names.region(name) == region
    }
    return {name: handle for name, handle in found.items() if handle is not None}


def _introduce(
    cluster: Cluster, handles: dict[str, Any], known: dict[str, Owner], coordinator: str, term: int
) -> None:
    """Learn the processes of those that no report told of: a name is gone before its process."""
    strangers = [name for name in handles if name not in known]
    asked = [
        handles[name].hello.remote()
        if names.tier(name) == "worker"
        else handles[name].watch.remote(coordinator, term, 0.0)
        for name in strangers
    ]
    for name, answer in zip(strangers, cluster.call_all(asked, WHO_S), strict=True):
        if not isinstance(answer, BaseException):
            known[name] = answer.process


def _kill(cluster: Cluster, handle: Any) -> None:
    try:
        cluster.kill(handle)
    except ChimeraError:
        return  # the GCS is away: tried again
