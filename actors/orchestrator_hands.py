"""What an orchestrator does to the world: coordinators made, watched, told and ended.

Nothing here waits in the caller's thread: what may take time runs in a pool, and every end of it,
a failure too, comes back as an event.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from chimera import names
from chimera.actors import processes
from chimera.actors.cluster import ActorGone, Cluster, NameTaken, on_this_node
from chimera.actors.watch import Watch
from chimera.errors import ChimeraError, StaleTerm
from chimera.swarm.orchestrator.effects import Attach, Configure, End, Make, Retire, Survey
from chimera.swarm.orchestrator.events import Ended, Event, Lost, MakeFailed, Pulse, Surveyed
from chimera.swarm.reports import CoordinatorConfig, Owner
from chimera.swarm.spec import to_dict

#: how long a coordinator holds the watch, and so how often it speaks at least, seconds
HOLD_S = 0.25
#: for the GCS to make or find an actor, seconds
GCS_S = 10.0
#: for a coordinator to end its region; longer than its own patience, seconds
RETIRE_S = 50.0
#: between two tries of what the GCS did not answer, seconds
AGAIN_S = 0.5
#: a coordinator that spoke this lately is spared, seconds
SPOKE_S = 0.5


@dataclass(slots=True)
class _Link:
    """A coordinator that is watched."""

    serial: int
    handle: Any
    watch: Watch


class Hands:
    """The coordinators of one swarm. Methods may be called from any thread.

    `deposed` is called when a coordinator has heard of a newer orchestrator than `term`.
    """

    def __init__(
        self,
        cluster: Cluster,
        swarm: str,
        term: int,
        tell: Callable[[Event], None],
        deposed: Callable[[StaleTerm], None],
        coordinator_class: str,
    ) -> None:
        self._cluster = cluster
        self._swarm = swarm
        self._term = term
        self._tell = tell
        self._deposed = deposed
        self._class = coordinator_class
        self._links: dict[str, _Link] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(max_workers=32, thread_name_prefix="hand")

    def handles(self) -> dict[str, Any]:
        """The coordinators that are watched, by region."""
        with self._lock:
            return {region: link.handle for region, link in self._links.items()}

    def do(self, effect: Make | Attach | Configure | End | Retire | Survey) -> None:
        """Begin an effect; events tell how it ends."""
        work: dict[type, Callable[[Any], None]] = {
            Make: self._make,
            Attach: self._attach,
            Configure: self._configure,
            End: self._end,
            Retire: self._retire,
            Survey: self._survey,
        }
        self._pool.submit(work[type(effect)], effect)

    # watching

    def _make(self, act: Make) -> None:
        config = CoordinatorConfig(
            swarm=self._swarm,
            region=act.region,
            data_dir=act.spec.data_dir,
            spec=to_dict(act.spec),
            generation=act.generation,
            orchestrator=names.ORCHESTRATOR,
        )
        module, _, name = self._class.partition(":")
        try:
            # an embedded journal lies on this node, and only here can former owners be ended (P3)
            handle = self._cluster.create(
                getattr(importlib.import_module(module), name),
                names.coordinator(act.region),
                config,
                deadline_s=GCS_S,
                **on_this_node(),
            )
        except ChimeraError as fault:
            taken = isinstance(fault, NameTaken)
            self._tell(MakeFailed(act.region, act.serial, fault.message, taken))
        else:
            self._watch(act.region, act.serial, handle)

    def _attach(self, effect: Attach) -> None:
        handle = self._find(effect.region)
        if handle is None:
            reason = "no actor has its name"
            self._tell(Lost(effect.region, effect.serial, reason, dead=True))
        else:
            self._watch(effect.region, effect.serial, handle)

    def _find(self, region: str) -> Any | None:
        while True:
            try:
                return self._cluster.find(names.coordinator(region), GCS_S)
            except ChimeraError:  # the GCS is away: that says nothing about the coordinator
                time.sleep(AGAIN_S)

    def _watch(self, region: str, serial: int, handle: Any) -> None:
        watch = Watch(
            self._cluster,
            lambda: handle.watch.remote(names.ORCHESTRATOR, self._term, HOLD_S),
            lambda report: self._tell(Pulse(region, serial, report)),
            lambda fault: self._lost(region, serial, fault),
        )
        with self._lock:
            former = self._links.get(region)
            if former is not None and former.serial > serial:
                return  # it took so long that another attempt has come through before
            self._links[region] = _Link(serial, handle, watch)
        if former is not None:
            former.watch.stop()
        watch.start()

    def _lost(self, region: str, serial: int, fault: BaseException) -> None:
        if isinstance(fault, StaleTerm):
            self._deposed(fault)
            return
        dead = isinstance(fault, ActorGone)
        reason = str(fault)
        if isinstance(fault, ActorGone) and fault.details.get("init_failed"):
            # the last line of the traceback names the fault
            reason = str(fault.details["reason"]).strip().splitlines()[-1]
        if dead:
            with self._lock:
                link = self._links.get(region)
                if link is not None and link.serial == serial:
                    del self._links[region]
        self._tell(Lost(region, serial, reason, dead))

    def _survey(self, _: Survey) -> None:
        while True:
            try:
                self._tell(Surveyed(tuple(self._cluster.names(GCS_S))))
            except ChimeraError:
                time.sleep(AGAIN_S)
            else:
                return

    # ordering

    def _configure(self, act: Configure) -> None:
        def done(answer: Any) -> None:
            if isinstance(answer, StaleTerm):
                self._deposed(answer)

        link = self._link(act.region, act.serial)
        if link is not None:  # whether it heard shows in its reports
            spec = to_dict(act.spec)
            ref = link.handle.configure.remote(self._term, spec, act.generation)
            self._cluster.on_done(ref, done)

    # ending

    def _retire(self, act: Retire) -> None:
        link = self._link(act.region, act.serial)
        fault = ""
        if link is not None:
            try:
                self._cluster.call(link.handle.retire.remote(self._term), RETIRE_S)
            except StaleTerm as stale:
                self._deposed(stale)
                return
            except ChimeraError as failed:
                fault = failed.message
            link.watch.stop()
            self._kill(link.handle)
        processes.end(act.process, policy=processes.AFTER_RAY)
        gone = processes.alive(act.process) is not True
        self._tell(Ended(act.region, act.serial, gone, fault))

    def _end(self, act: End) -> None:
        link = self._link(act.region, act.serial)
        if act.process is not None:
            ended = self._end_process(act.process, link)
            if ended is not processes.Ended.ELSEWHERE:
                gone = ended is not processes.Ended.BUSY
                self._tell(Ended(act.region, act.serial, gone, "" if gone else "busy"))
                return
        handle = link.handle if link is not None else self._find(act.region)
        killed = handle is None or self._kill(handle)
        fault = "" if killed else "the GCS does not answer"
        self._tell(Ended(act.region, act.serial, killed, fault))

    @staticmethod
    def _end_process(process: Owner, link: _Link | None) -> processes.Ended:
        watch = link.watch if link is not None else None
        return processes.end(
            process, called_off=lambda: watch is not None and watch.quiet_s() < SPOKE_S
        )

    def _kill(self, handle: Any) -> bool:
        try:
            self._cluster.kill(handle)
        except ChimeraError:
            return False
        return True

    def _link(self, region: str, serial: int) -> _Link | None:
        with self._lock:
            link = self._links.get(region)
        return link if link is not None and link.serial == serial else None
