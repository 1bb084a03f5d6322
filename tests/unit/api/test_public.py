"""What `import chimera` gives, and what it does not cost."""

from __future__ import annotations

import subprocess
import sys

import pytest

import chimera
from chimera.api import signals


def test_public_names_are_there():
    for name in ("task", "Context", "RetryAfter", "PermanentError", "Cancelled"):
        assert getattr(chimera, name).__name__ == name
        assert name in dir(chimera)
    assert {"connect", "connect_async"} <= set(dir(chimera))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = chimera.nothing


def test_handlers_cost_neither_ray_nor_the_client():
    code = (
        "import sys, chimera\n"
        "@chimera.task\n"
        "def f(ctx, payload): ...\n"
        "chimera.Context, chimera.RetryAfter\n"
        "bad = {'ray', 'chimera.client', 'pydantic', 'structlog'} & set(sys.modules)\n"
        "sys.exit(str(bad) if bad else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_signals_say_what_they_are():
    assert str(signals.RetryAfter(2.5)) == "try again in 2.5 s"
    assert str(signals.RetryAfter(2, "busy")) == "busy"
    assert signals.RetryAfter(2).seconds == 2.0
