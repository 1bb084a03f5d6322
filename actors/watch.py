"""One long-poll kept pending on a child: what it answers are pulses, its death shows at once.

With `max_restarts=0` a child's death fails the pending call after about 10 ms; a paused child
answers nothing and fails nothing, so its silence is read from `quiet_s`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from chimera.actors.cluster import ActorGone, Cluster, Silent

#: wait before the next poll when the child is out of reach, seconds
_RETRY_S = 0.1


class Watch:
    """Polls a child for ever, until it is lost or `stop` is called.

    `poll` makes the call and returns its ref. `on_pulse` gets each answer; `on_loss` gets, once,
    why there will be no more: ActorGone, or the error with which the child refused the watch
    (StaleTerm). Both run in threads of Ray's and must only hand on. A child that is out of reach
    (Silent) is polled again: it may come back, and `quiet_s` tells the time since it last spoke.
    """

    def __init__(
        self,
        cluster: Cluster,
        poll: Callable[[], Any],
        on_pulse: Callable[[Any], None],
        on_loss: Callable[[BaseException], None],
    ) -> None:
        self._cluster = cluster
        self._poll = poll
        self._on_pulse = on_pulse
        self._on_loss = on_loss
        self._stopped = threading.Event()
        self._last = time.monotonic()
        self._pending: Any = None

    def start(self) -> None:
        """Send the first poll."""
        self._send()

    def stop(self) -> None:
        """Forget the child: neither callback is called again, but for one under way."""
        self._stopped.set()

    def quiet_s(self) -> float:
        """Seconds since the last pulse, or since the watch was made."""
        return time.monotonic() - self._last

    def _send(self) -> None:
        try:
            self._pending = self._poll()
        except BaseException as fault:
            self._lose(fault)
            return
        self._cluster.on_done(self._pending, self._done)

    def _done(self, answer: Any) -> None:
        if self._stopped.is_set():
            return
        if isinstance(answer, Silent):
            timer = threading.Timer(_RETRY_S, self._again)
            timer.daemon = True
            timer.start()
        elif isinstance(answer, BaseException):
            self._lose(answer)
        else:
            self._last = time.monotonic()
            self._on_pulse(answer)
            self._again()

    def _again(self) -> None:
        if not self._stopped.is_set():
            self._send()

    def _lose(self, fault: BaseException) -> None:
        if not self._stopped.is_set():
            self._stopped.set()
            self._on_loss(fault if isinstance(fault, Exception) else ActorGone(str(fault)))
