"""What an orchestrator does to the world: coordinators made, watched, told and ended.

Nothing here waits in the caller's thread: what may take time runs in a pool, and every end of it,
a failure too, comes back as an event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.actor import ActorHandle

from chimera import names
from chimera.actors import processes
from chimera.actors.cluster import Cluster, NameTaken, on_this_node
from chimera.actors.links import GCS_S, Links, load
from chimera.errors import ChimeraError, StaleTerm
from chimera.swarm.orchestrator.effects import Attach, Configure, End, Knock, Make, Retire, Survey
from chimera.swarm.orchestrator.events import (
    Ended,
    Event,
    Knocked,
    Lost,
    MakeFailed,
    Pulse,
    Surveyed,
)
from chimera.swarm.reports import CoordinatorConfig
from chimera.swarm.spec import RegionSpec, to_dict

#: how long a coordinator holds the watch, and so how often it speaks at least, seconds
HOLD_S = 0.25
#: for a coordinator to end its region; longer than its own patience, seconds
RETIRE_S = 50.0
#: for the leaders of a silent coordinator to say that they live, seconds
KNOCK_S = 1.0
#: a coordinator that spoke this lately is spared, seconds
SPOKE_S = 0.5


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
        self._links = Links(
            cluster, self,
            lambda handle, known: handle.watch.remote(names.ORCHESTRATOR, term, HOLD_S, known),
        )  # fmt: skip

    def handles(self) -> dict[str, Any]:
        """The coordinators that are watched, by region."""
        return self._links.handles()

    def do(self, effect: Make | Attach | Knock | Configure | End | Retire | Survey) -> None:
        """Begin an effect; events tell how it ends."""
        work: dict[type, Callable[[Any], None]] = {
            Make: self._make,
            Attach: self._attach,
            Knock: self._knock,
            Configure: self._configure,
            End: self._end,
            Retire: self._retire,
            Survey: self._survey,
        }
        self._links.begin(work[type(effect)], effect)

    def spoke(self, region: str, serial: int, report: Any) -> None:
        self._tell(Pulse(region, serial, report))

    def lost(self, region: str, serial: int, reason: str, dead: bool) -> None:
        self._tell(Lost(region, serial, reason, dead))

    def deposed(self, fault: StaleTerm) -> None:
        self._deposed(fault)

    # making and finding

    def _make(self, act: Make) -> None:
        config = CoordinatorConfig(
            swarm=self._swarm,
            region=act.region,
            data_dir=act.spec.data_dir,
            spec=to_dict(act.spec),
            generation=act.generation,
            orchestrator=names.ORCHESTRATOR,
        )
        try:
            # an embedded journal lies on this node, and only here can former owners be ended (P3);
            # its leaders live on the node that a region's labels lead to
            handle = self._cluster.create(
                load(self._class),
                names.coordinator(act.region),
                config,
                deadline_s=GCS_S,
                **_where(act.spec.region(act.region)),
            )
        except ChimeraError as fault:
            taken = isinstance(fault, NameTaken)
            self._tell(MakeFailed(act.region, act.serial, fault.message, taken))
        else:
            self._links.watch(act.region, act.serial, handle)

    def _attach(self, effect: Attach) -> None:
        if effect.link:
            from chimera.actors.control.remote import RemoteRegion  # gRPC: only where it is used

            self._links.watch(effect.region, effect.serial, RemoteRegion(effect.link))
            return
        self._links.attach(effect.region, effect.serial, names.coordinator(effect.region))

    def _survey(self, _: Survey) -> None:
        found = self._links.names()
        if found is not None:
            self._tell(Surveyed(tuple(found)))

    def _knock(self, effect: Knock) -> None:
        """Whether any of a region's leaders lives and speaks."""
        asked = []
        for name in effect.leaders:
            try:
                handle = self._cluster.find(name, KNOCK_S)
            except ChimeraError:  # the GCS is away: nothing is known
                continue
            if handle is not None:
                asked.append(handle.owned.remote())
        answers = self._cluster.call_all(asked, KNOCK_S)
        answered = any(not isinstance(answer, BaseException) for answer in answers)
        self._tell(Knocked(effect.region, answered))

    # ordering

    def _configure(self, act: Configure) -> None:
        def done(answer: Any) -> None:
            if isinstance(answer, StaleTerm):
                self._deposed(answer)

        link = self._links.get(act.region, act.serial)
        if link is not None:  # whether it heard shows in its reports
            spec = to_dict(act.spec)
            ref = link.handle.configure.remote(self._term, spec, act.generation)
            self._cluster.on_done(ref, done)

    # ending

    def _retire(self, act: Retire) -> None:
        link = self._links.get(act.region, act.serial)
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
            if isinstance(link.handle, ActorHandle):
                self._links.kill(link.handle)
            else:  # it ends itself when it has retired
                self._tell(Ended(act.region, act.serial, not fault, fault))
                return
        processes.end(act.process, policy=processes.AFTER_RAY)
        gone = processes.alive(act.process) is not True
        self._tell(Ended(act.region, act.serial, gone, fault))

    def _end(self, act: End) -> None:
        name = names.coordinator(act.region)
        fault = self._links.end(act.region, act.serial, name, act.process, SPOKE_S)
        self._tell(Ended(act.region, act.serial, not fault, fault))


def _where(region: RegionSpec) -> dict[str, Any]:
    """Ray's options for where the region's coordinator may live."""
    return {"label_selector": dict(region.labels)} if region.labels else on_this_node()
