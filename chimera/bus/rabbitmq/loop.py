"""The private event loop on which everything of RabbitMQ runs, and the way into it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from chimera.errors import BusUnavailable

T = TypeVar("T")


class Loop:
    """One thread with an event loop, started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def post(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start something; the caller may forget it."""
        with self._lock:
            if self._closed:
                work.close()
                raise BusUnavailable("this bus is closed")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="bus-rabbitmq", daemon=True
                )
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, work: Coroutine[Any, Any, T], timeout: float) -> T:
        """Run something to its end. Raises BusUnavailable after `timeout` seconds."""
        future = self.post(work)
        try:
            return future.result(max(0.0, timeout))
        except (TimeoutError, concurrent.futures.TimeoutError) as error:
            future.cancel()
            raise BusUnavailable("no answer in time") from error
        except concurrent.futures.CancelledError as error:
            raise BusUnavailable("this bus is closed") from error

    def close(self, timeout: float) -> None:
        """Cancel what runs, end the thread."""
        with self._lock:
            self._closed = True
            loop, thread = self._loop, self._thread
            self._loop = None
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop)
        thread.join(timeout)
        if not thread.is_alive():
            loop.close()


async def _cancel_all() -> None:
    """Ends the loop in which it runs."""
    loop = asyncio.get_running_loop()
    tasks = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    loop.stop()
