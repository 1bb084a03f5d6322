"""Whether a region is lost: nothing is heard of its coordinator, nor of its leaders.

No task waits for this: clients send unsent work to the shards of other regions as soon as one does
not answer (P13). It is for people and for the audit log: embedded journals wait for their machine.
"""

from __future__ import annotations

from chimera import names
from chimera.swarm.orchestrator.effects import Knock
from chimera.swarm.orchestrator.state import Child, ChildState, Patience


def heard(child: Child, now: float) -> bool:
    """Its coordinator or a leader spoke; returns whether it was lost until now."""
    child.heard_at = now
    was, child.lost = child.lost, False
    return was


def knock(child: Child, now: float, leaders: int, patience: Patience) -> Knock | None:
    """Ask its leaders, if its coordinator is silent; None: not now, or they cannot be asked."""
    asked = now - child.knocked_at < patience.knock_s
    if child.state in (ChildState.UP, ChildState.AWAY) or asked or child.heard_at is None:
        return None
    child.knocked_at = now
    return Knock(child.region, tuple(names.leader(child.region, i) for i in range(leaders)))


def is_lost(child: Child, now: float, timeout_s: float) -> bool:
    """Whether it is lost from now on."""
    if child.heard_at is None:
        child.heard_at = now  # nobody can be missed before there was time to speak
    if child.lost or child.state is ChildState.UP or now - child.heard_at < timeout_s:
        return False
    child.lost = True
    return True


def fault(child: Child) -> str:
    """For a person; empty: it is not lost."""
    if not child.lost:
        return ""
    return (
        f"region {child.region} is lost: neither its coordinator nor a leader answers;"
        " new work goes to the other regions, what it has accepted waits there"
    )
