"""The client's one thread: whatever is in flight, in wait or on a timer belongs to it.

Publisher and outcome waiter run on it and therefore need no locks (what threads have for the
publisher they leave at its door); they meet it only through the `Engine` protocol, so that tests
drive them with a clock of their own.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from chimera.client.ports import Pending, Silent
from chimera.errors import ChimeraError

_log = logging.getLogger(__name__)

#: seconds that reading an answer may take once it is there
READ_S = 1.0

#: called with (value, None) or (None, fault)
Answered = Callable[[Any, BaseException | None], None]


class Engine(Protocol):
    """What publisher and waiter need of the thread that they run on."""

    def now(self) -> float:
        """Seconds of a clock that only goes forward."""
        ...

    def do(self, work: Callable[[], None]) -> None:
        """Run `work` on the engine; from any thread. Raises ChimeraError if it has ended."""
        ...

    def later(self, delay_s: float, work: Callable[[], None]) -> None:
        """Run `work` on the engine after a while."""
        ...

    def watch(self, pending: Pending[Any], timeout_s: float, answered: Answered) -> None:
        """Run `answered` on the engine, once: with the answer, or Silent after the time-out."""
        ...


class ThreadEngine:
    """An engine that is a daemon thread, begun with the first work."""

    def __init__(self, name: str) -> None:
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._serials = itertools.count()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._gate = threading.Lock()  # between `do` and the end: no work is taken and never run
        self._fault: BaseException | None = None
        self._closed = False
        #: told once if the engine ends, however it ends: what waits must not wait for ever
        self.on_end: list[Callable[[ChimeraError], None]] = []

    @property
    def is_open(self) -> bool:
        """Whether it takes work."""
        return not self._closed

    def do(self, work: Callable[[], None]) -> None:
        with self._gate:
            if self._closed:
                raise self._ended()
            if not self._thread.ident:
                self._thread.start()
            self._inbox.put(work)

    def now(self) -> float:
        return time.monotonic()

    def later(self, delay_s: float, work: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (self.now() + delay_s, next(self._serials), work))

    def watch(self, pending: Pending[Any], timeout_s: float, answered: Answered) -> None:
        waiting = [answered]  # emptied, so that the timer does not keep frames alive

        def settle(value: Any, fault: BaseException | None) -> None:
            if waiting:
                waiting.pop()(value, fault)

        def read() -> None:
            try:
                value = pending.get(READ_S)
            except Exception as fault:
                settle(None, fault)
            else:
                settle(value, None)

        pending.future().add_done_callback(lambda _: self._inbox.put(read))
        self.later(timeout_s, lambda: settle(None, Silent(f"no answer in {timeout_s:g} s")))

    def close(self, timeout_s: float = 5.0) -> None:
        """End the thread; what still waits is told so."""
        with self._gate:
            if self._closed:
                return
            self._closed = True
            begun = self._thread.ident is not None
        self._inbox.put(None)
        if begun and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def _ended(self) -> ChimeraError:
        if self._fault is not None:
            return ChimeraError(f"the client has stopped: {self._fault!r}")
        return ChimeraError("the client is closed: connect again")

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException as fault:
            self._fault = fault
            _log.exception("the client has stopped")
        finally:
            with self._gate:
                self._closed = True
            for told in self.on_end:
                try:
                    told(self._ended())
                except Exception:  # the others wait, too
                    _log.exception("not all who wait were told that the client has stopped")
            with contextlib.suppress(queue.Empty):  # what was taken before the gate closed
                while True:
                    if work := self._inbox.get_nowait():
                        work()

    def _turn(self) -> bool:
        """One piece of work, or the timers that are due; False at the end."""
        wait_s = None
        if self._timers:
            wait_s = self._timers[0][0] - self.now()
            if wait_s <= 0:
                heapq.heappop(self._timers)[2]()
                return True
        with contextlib.suppress(queue.Empty):
            work = self._inbox.get(timeout=wait_s)
            if work is None:
                return False
            work()
        return True
