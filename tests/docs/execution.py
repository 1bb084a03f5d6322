"""Python snippets of one document, run one after the other in a process of their own."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from typing import Any

_names: dict[str, Any] = {"__name__": "__main__"}


def interpreter() -> ProcessPoolExecutor:
    """A process that starts in the directory, and with the environment, of now."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin, (os.getcwd(),))


def _begin(directory: str) -> None:
    sys.path.insert(0, directory)


def execute(source: str) -> str:
    """Run it with the names of those before it; returns what it printed, raises what it raised."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, "snippet", "exec"), _names)
    return printed.getvalue()
