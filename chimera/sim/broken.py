"""What the simulator is looking for."""

from __future__ import annotations


class Broken(AssertionError):
    """A guarantee does not hold."""
