"""The orchestrator's machine: events in, effects out."""

from __future__ import annotations

from chimera.swarm.orchestrator.machine import Orchestrator

__all__ = ["Orchestrator"]
