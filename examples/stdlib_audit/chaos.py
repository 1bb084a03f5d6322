"""Kill parts of the swarm while it works: one worker and one leader, with no warning."""

from __future__ import annotations

import os
import signal
from typing import NamedTuple

from chimera.swarm.reports import LeaderReport, SwarmStatus


class Killed(NamedTuple):
    """A process that was ended."""

    tier: str
    name: str
    pid: int


def strike(status: SwarmStatus) -> list[Killed]:
    """`kill -9` one leader, and one worker of another leader, of a swarm on this machine."""
    leaders = [leader for region in status.regions.values() for leader in region.leaders]
    # the busiest leader: what it leaves behind is the most that a takeover has to sort out
    doomed = max(leaders, key=_open_tasks)
    victims = [Killed("leader", doomed.leader, doomed.process.pid)]
    others = [leader for leader in leaders if leader is not doomed and leader.workers]
    if others:
        worker = others[0].workers[0]
        victims.insert(0, Killed("worker", worker.name, worker.process.pid))
    for victim in victims:
        os.kill(victim.pid, signal.SIGKILL)
    return victims


def _open_tasks(leader: LeaderReport) -> int:
    return sum(shard.open for shard in leader.shards)
