"""What version this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def own_version() -> str:
    """Chimera's; 0 where it is not installed."""
    try:
        return version("chimera")
    except PackageNotFoundError:
        return "0"
