"""What simulated coordinators and the orchestrator share: stores, and acts after a commit.

They carry out what actors/coordinator*.py and orchestrator*.py do: what an act rests on is durable
before the act. A store is a plain object that outlives them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chimera.errors import StaleTerm
from chimera.sim.broken import Broken
from chimera.sim.kernel import Process
from chimera.swarm.coordinator import effects
from chimera.swarm.spec import Spec

if TYPE_CHECKING:
    from chimera.sim.world import World

HOLD_S = 0.1
#: making an actor takes as long as this, seconds
MAKE_S = 0.6
#: a condemned process that spoke this lately is spared, seconds
SPOKE_S = 0.3
#: of a commit to a control store
COMMIT_S = 0.003
#: how long a coordinator bears an orchestrator's silence, seconds (P19)
SILENCE_S = 5.0


@dataclass
class Store:
    """A control store: outlives every incarnation."""

    term: int = 0
    heeded: int = 0
    placement: tuple[effects.Seat, ...] = ()
    audit: list[effects.Audit] = field(default_factory=list)
    spec: tuple[int, Spec] | None = None

    def draw_term(self) -> int:
        self.term += 1
        return self.term

    def write(self, term: int, audit: tuple[effects.Audit, ...]) -> None:
        """Append to the audit log. Raises StaleTerm."""
        if term < self.term:
            raise StaleTerm(f"term {term} is over")
        self.audit += audit


class Actor(Process):
    """What coordinators and the orchestrator share."""

    world: World
    term: int
    store: Store

    def commit(self, audit: tuple[effects.Audit, ...], then: tuple[Any, ...],
               do: Callable[[Any], None]) -> None:  # fmt: skip
        """Make it durable, then act."""
        try:
            self.store.write(self.term, audit)
        except StaleTerm as fault:
            self.kernel.counters["deposed"] += 1
            self.kernel.kill(self, fault.message)
            return
        if then and not audit and any(type(act).__name__ not in _PLAIN for act in then):
            raise Broken(f"G9 {self.name} acts without an audit entry: {then}")
        if then:
            self.later(self.kernel.dice(COMMIT_S), lambda: _all(do, then))

    def end(self, target: Process | None) -> bool:
        """End a process, unless it spoke just now; whether it is gone."""
        if target is None or not target.alive:
            return True
        if not target.paused and self.kernel.now - target.spoke_at < SPOKE_S:
            return False
        if (self.host, target.host) in self.kernel.cut:
            return False
        self.kernel.counters["ended"] += 1
        self.world.oracle.end_owner(target, f"by {self.name}")
        return True


#: acts that change nothing by themselves
_PLAIN = ("Answer", "Configure")


def _all(do: Callable[[Any], None], then: tuple[Any, ...]) -> None:
    for act in then:
        do(act)


def name_of(effect: Any) -> str:
    """An effect in a trace."""
    then = " ".join(type(act).__name__ for act in getattr(effect, "then", ()))
    return f"{type(effect).__name__}({then})" if then else type(effect).__name__
