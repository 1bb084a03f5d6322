"""The wall clock, as journals keep it."""

from __future__ import annotations

import time


def unix_ms() -> int:
    """Now, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000
