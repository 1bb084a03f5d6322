"""What tests of whole swarms share with those of guarantees."""

from __future__ import annotations

from tests.contract.conftest import served, server
from tests.guarantees.conftest import make_swarm

__all__ = ["make_swarm", "served", "server"]
