"""Threads that an actor cannot do without: their failure ends the process."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


def vital(work: Callable[[], None], name: str) -> threading.Thread:
    """A thread, not yet started, whose exception ends the process, so that its parent can act.

    A broken invariant must not leave an actor behind that answers and does nothing.
    """

    def run() -> None:
        try:
            work()
        except BaseException:
            log.exception("%s failed: this actor ends", name)
            logging.shutdown()
            os._exit(1)

    return threading.Thread(target=run, name=name, daemon=True)
