"""A parent's children: found, watched, told apart by attempt, and lost.

Both tiers that have children use it: a coordinator for its leaders, the orchestrator for its
coordinators. A child has a key (what its parent calls it) and a serial (the attempt to make or
attach it that it came from): news of a former attempt is told with that one's serial.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from chimera.actors import processes
from chimera.actors.cluster import ActorGone, Cluster
from chimera.actors.watch import Watch
from chimera.errors import ChimeraError, StaleTerm
from chimera.swarm import rosters
from chimera.swarm.reports import Owner
from chimera.swarm.rosters import Known

#: for the GCS to make or find an actor, seconds
GCS_S = 10.0
#: between two tries of what the GCS did not answer, seconds
AGAIN_S = 0.5


@dataclass(frozen=True, slots=True)
class Link:
    """A child that is watched."""

    serial: int
    handle: Any
    watch: Watch


class News(Protocol):
    """What a parent wants to hear; called in threads of Ray's, and must only hand on."""

    def spoke(self, key: str, serial: int, report: Any) -> None:
        """A child answered its watch."""

    def lost(self, key: str, serial: int, reason: str, dead: bool) -> None:
        """A watch has ended; not `dead`: the child lives, but cannot be watched."""

    def deposed(self, fault: StaleTerm) -> None:
        """A child has heard of a newer parent."""


class Links:
    """The children of one parent. Methods may be called from any thread.

    `poll` makes the call that a child answers with its report (see Watch), which may leave out the
    rosters that are known. What may take time is to be run by `begin`: once stopped, nothing
    begins any more.
    """

    def __init__(self, cluster: Cluster, news: News, poll: Callable[[Any, Known], Any]) -> None:
        self._cluster = cluster
        self._news = news
        self._poll = poll
        self._links: dict[str, Link] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=32, thread_name_prefix="hand")

    def handles(self) -> dict[str, Any]:
        """The children that are watched, by key."""
        with self._lock:
            return {key: link.handle for key, link in self._links.items()}

    def get(self, key: str, serial: int) -> Link | None:
        """The child, if it is watched and came from that attempt."""
        with self._lock:
            link = self._links.get(key)
        return link if link is not None and link.serial == serial else None

    def begin(self, work: Callable[..., Any], *args: Any) -> None:
        """Do something in a thread of its own."""

        def run() -> None:
            if not self._stopped.is_set():
                work(*args)

        if not self._stopped.is_set():
            self._pool.submit(run)

    def stop(self) -> None:
        """Do nothing more of what is under way, and watch nobody."""
        self._stopped.set()
        with self._lock:
            for link in self._links.values():
                link.watch.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)

    # watching

    def watch(self, key: str, serial: int, handle: Any) -> None:
        """Watch a child from now on, in place of a former attempt."""
        last: Any = None  # only one call is under way at a time: each answer is to the last one

        def spoke(report: Any) -> None:
            nonlocal last
            last = rosters.whole(report, last)
            self._news.spoke(key, serial, last)

        watch = Watch(
            self._cluster,
            lambda: self._poll(handle, rosters.known(last)),
            spoke,
            lambda fault: self._on_loss(key, serial, fault),
        )
        with self._lock:
            if self._stopped.is_set():
                return
            former = self._links.get(key)
            if former is not None and former.serial > serial:
                return  # it took so long that another attempt has come through before
            self._links[key] = Link(serial, handle, watch)
        if former is not None:
            former.watch.stop()
        watch.start()

    def attach(self, key: str, serial: int, name: str) -> None:
        """Find a child by its actor's name and watch it; it is lost if nobody has the name."""
        found: list[Any] = []
        if self.patiently(lambda: found.append(self._cluster.find(name, GCS_S))):
            if found[0] is None:
                self._news.lost(key, serial, "no actor has its name", True)
            else:
                self.watch(key, serial, found[0])

    def names(self) -> list[str] | None:
        """The names of all living actors of the namespace; None: stopped before it was known."""
        found: list[list[str]] = []
        known = self.patiently(lambda: found.append(self._cluster.names(GCS_S)))
        return found[0] if known else None

    def patiently(self, ask: Callable[[], None]) -> bool:
        """Ask the GCS until it answers: that it is away says nothing about a child.

        False: stopped before it did.
        """
        while not self._stopped.is_set():
            try:
                ask()
            except ChimeraError:
                self._stopped.wait(AGAIN_S)
            else:
                return True
        return False

    def _on_loss(self, key: str, serial: int, fault: BaseException) -> None:
        if isinstance(fault, StaleTerm):
            self._news.deposed(fault)
            return
        dead = isinstance(fault, ActorGone)
        reason = str(fault)
        if isinstance(fault, ActorGone) and fault.details.get("init_failed"):
            # the last line of the traceback names the fault
            reason = str(fault.details["reason"]).strip().splitlines()[-1]
        if dead:
            with self._lock:
                link = self._links.get(key)
                if link is not None and link.serial == serial:
                    del self._links[key]
        self._news.lost(key, serial, reason, dead)

    # ending

    def end(self, key: str, serial: int, name: str, process: Owner | None, spoke_s: float) -> str:
        """End a child that has not spoken for `spoke_s` seconds; returns why not, empty: done.

        By its process where that can be reached, else through Ray, by its handle or its name: then
        it is ordered, and the watch tells when it is done.
        """
        link = self.get(key, serial)
        if process is not None:
            ended = processes.end(
                process, called_off=lambda: link is not None and link.watch.quiet_s() < spoke_s
            )
            if ended is not processes.Ended.ELSEWHERE:
                return "busy" if ended is processes.Ended.BUSY else ""
        try:
            handle = link.handle if link is not None else self._cluster.find(name, GCS_S)
        except ChimeraError as fault:
            return fault.message
        if handle is None or self.kill(handle):
            return ""
        return "the GCS does not answer"

    def kill(self, handle: Any) -> bool:
        """Tell Ray to end an actor; False: the GCS is away."""
        try:
            self._cluster.kill(handle)
        except ChimeraError:
            return False
        return True


def load(path: str) -> Any:
    """The class at `package.module:Class`; imported late, as it imports much."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
