"""The coordinator's machine: `machine.py` first, then `state.py`; the rest by duty."""

from chimera.swarm.coordinator.machine import Coordinator
from chimera.swarm.coordinator.plan import Patience, RegionPlan

__all__ = ["Coordinator", "Patience", "RegionPlan"]
