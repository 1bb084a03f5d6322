"""New workers, which get no task before a coordinator knows them.

Whoever takes a dead leader's shards asks the workers that its coordinator knew (P6): one that had a
task before its leader could tell of it would be asked by nobody, and what it finished would run
again. A worker waits once, from its birth until its coordinator asks with a roster that has it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from chimera.swarm.leader.events import Event, WorkerFailed, WorkerLost, WorkerReady

#: a coordinator that asks nothing for so long is taken for dead, and its successor looks for every
#: worker of the region: a new one waits for it no longer, seconds
UNASKED_S = 3.0


@dataclass(frozen=True, slots=True)
class Listed:
    """The coordinator has these workers in its roster."""

    workers: tuple[str, ...]


class Lobby:
    """A leader's. What it is told goes through here to the machine, perhaps later."""

    def __init__(self, incarnation: str) -> None:
        """Names of its own workers begin with `incarnation`: adopted ones are known."""
        self._prefix = f"{incarnation}-"
        self._listed: set[str] = set()
        self._waiting: dict[str, tuple[WorkerReady, float]] = {}

    def pass_on(self, event: Event | Listed, now: float) -> list[Event]:
        """What the machine is to be told now."""
        match event:
            case WorkerReady(worker) if worker.startswith(self._prefix):
                if worker not in self._listed:
                    self._waiting[worker] = event, now
                    return []
            case Listed(workers):
                self._listed.update(workers)
                return self._let_in(workers)
            case WorkerLost(worker) | WorkerFailed(worker):
                self._waiting.pop(worker, None)
                self._listed.discard(worker)
        return [event]

    def overdue(self, now: float) -> list[Event]:
        """Those that nobody asked about in time."""
        late = [name for name, (_, since) in self._waiting.items() if now - since > UNASKED_S]
        return self._let_in(late)

    def _let_in(self, workers: Iterable[str]) -> list[Event]:
        return [self._waiting.pop(name)[0] for name in workers if name in self._waiting]
