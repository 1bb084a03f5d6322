"""A change of what workers are born with – handlers, policies – goes through one leader at a time.

The next leader's turn comes when every worker of the one before is of the new revision, so that a
change that does not work stops at the first leader. What else a spec says, a pause say, waits for
nobody's turn.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from chimera.swarm.coordinator.state import Child, State
from chimera.swarm.reports import LeaderConfig


def replacing(state: State, planned: Iterable[Child]) -> str:
    """The leader whose workers are being replaced; empty: none is."""
    wanted = state.plan.template.revision
    for child in sorted(planned, key=lambda child: child.name):
        if child.report is None:
            continue
        works_by = child.report.revision or wanted
        told = child.sent is not None and child.sent.revision == wanted
        behind = works_by != wanted or bool(child.revisions - {"", wanted})
        if behind and (told or works_by == wanted):
            return child.name
    return ""


def is_turn(state: State, child: Child, replacing: str) -> bool:
    """Whether a leader may be given the plan's revision, if it has it not yet."""
    wanted = state.plan.template.revision
    has = child.sent.revision if child.sent is not None else ""
    if child.report is not None and has != wanted:
        has = child.report.revision
    return has == wanted or replacing in ("", child.name)


def without_revision(config: LeaderConfig, known: LeaderConfig) -> LeaderConfig:
    """A configuration with the revision that a leader has, and all that this stands for."""
    return replace(
        config,
        revision=known.revision,
        handlers=known.handlers,
        policies=known.policies,
        objects_url=known.objects_url,
        worker_lease_s=known.worker_lease_s,
    )
