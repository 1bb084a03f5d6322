"""Tasks that flow while something is killed."""

from __future__ import annotations

import threading
import time

import ray

import chimera
from benchmarks import clients

#: tasks of one bulk of the traffic
BULK = 20_000


@ray.remote(num_cpus=0, max_concurrency=2)
class Traffic:
    """A client in a process of its own that submits bulks and reads them until it is stopped."""

    def __init__(self, swarm: str) -> None:
        self._swarm = chimera.connect(swarm)
        self._stop = threading.Event()
        #: (when, how many) on the machine's monotonic clock
        self._read: list[tuple[float, int]] = []

    def tally(self, directory: str, first: int) -> int:
        """Numbered tasks that note their end in files; returns the number after the last one."""
        at = first
        while not self._stop.is_set():
            numbers = range(at, at + BULK)
            payloads = [{"dir": directory, "i": i} for i in numbers]
            bulk = self._swarm.submit_many("bench.tally", payloads)
            if list(bulk.results(timeout_s=120)) != list(numbers):
                raise clients.WrongResult("a bulk of the traffic came back wrong")
            at += BULK
            self._read.append((time.monotonic(), BULK))
        self._stop.clear()
        return at

    def noop(self, bulk: int, rate: float) -> None:
        """No-op tasks, up to so many a second."""
        due = time.monotonic()
        while not self._stop.is_set():
            span = clients.submit_and_read(self._swarm, clients.Work("bench.noop"), bulk)
            self._read.append((span.ended, bulk))
            # what was missed is not made up for: that would hide a pause
            due = max(due + bulk / rate, time.monotonic())
            self._stop.wait(due - time.monotonic())
        self._stop.clear()

    def read(self) -> list[tuple[float, int]]:
        """When how many tasks were read, since this was last asked."""
        found, self._read = self._read, []
        return found

    def stop(self) -> None:
        self._stop.set()
