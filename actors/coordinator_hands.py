"""What a coordinator does to the world: leaders made, watched, ordered and ended; workers ended.

Nothing here waits in the caller's thread: what may take time runs in a pool, and every end of it,
a failure too, comes back as an event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chimera import names
from chimera.actors import processes
from chimera.actors.cluster import ActorGone, Cluster, NameTaken, on_this_node
from chimera.actors.links import GCS_S, Links, load
from chimera.errors import ChimeraError, StaleEpoch, StaleTerm
from chimera.swarm.coordinator.effects import (
    Act,
    Attach,
    Configure,
    Effect,
    End,
    Look,
    Make,
    Persist,
    Reap,
    Release,
    Retire,
    StepDown,
    Survey,
    Take,
)
from chimera.swarm.coordinator.events import (
    ConfigureRefused,
    Deposed,
    Event,
    Looked,
    Lost,
    MakeFailed,
    Pulse,
    Reaped,
    ReleaseRefused,
    Surveyed,
    TakeAnswered,
)
from chimera.swarm.reports import Hello, LeaderConfig, WorkerInfo

#: how long a leader holds the watch, and so how often it speaks at least, seconds
HOLD_S = 0.1
#: for a worker to say who it is, seconds
HELLO_S = 2.0
#: for a leader to retire: it lets its workers finish, seconds
RETIRE_S = 20.0
#: a condemned process that spoke this lately is spared, seconds
SPOKE_S = 0.3


class Hands:
    """Leaders and workers of one region. Methods may be called from any thread."""

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        region: str,
        term: int,
        tell: Callable[[Event], None],
        leader_class: str,
    ) -> None:
        self._cluster = cluster
        self._name = name
        self._region = region
        self._term = term
        self._tell = tell
        self._leader_class = leader_class
        self._links = Links(
            cluster, self, lambda handle, known: handle.watch.remote(name, term, HOLD_S, known)
        )

    def handles(self) -> dict[str, Any]:
        """The leaders that are watched, by name."""
        return self._links.handles()

    def stop(self) -> None:
        """Do nothing more of what is under way, and watch nobody."""
        self._links.stop()

    def do(self, effect: Act | Effect) -> None:
        """Begin an effect; events tell how it ends."""
        match effect:
            case Take():
                self._take(effect)
            case Release(leader, serial, term, shard, finish):
                self._order(
                    leader, serial, lambda handle: handle.release.remote(term, shard, finish),
                    lambda why: ReleaseRefused(leader, serial, shard, why),
                )  # fmt: skip
            case Configure(leader, serial, config):
                self._order(
                    leader, serial, lambda handle: handle.configure.remote(self._term, config),
                    lambda why: ConfigureRefused(leader, serial, why),
                )  # fmt: skip
            case Make(leader, serial, config):
                self._links.begin(self._make, leader, serial, config)
            case Attach(leader, serial):
                self._links.begin(self._links.attach, leader, serial, leader)
            case Survey(makers, living):
                self._links.begin(self._survey, makers, living)
            case Look(leader, serial, process):
                here, stat = processes.peek(process)
                state, ticks = (stat.state, stat.cpu_ticks) if stat else (None, 0)
                self._tell(Looked(leader, serial, here, state, ticks))
            case Retire(leader, serial):
                self._links.begin(self._retire, leader, serial)
            case End(leader, serial, process):
                self._links.begin(self._links.end, leader, serial, leader, process, SPOKE_S)
            case Reap(worker):
                self._links.begin(self._reap, worker)
            case Persist() | StepDown():
                raise AssertionError(f"{effect} is the loop's to do")

    def spoke(self, leader: str, serial: int, report: Any) -> None:
        self._tell(Pulse(leader, serial, report))

    def lost(self, leader: str, serial: int, reason: str, dead: bool) -> None:
        self._tell(Lost(leader, serial, reason, dead))

    def deposed(self, fault: StaleTerm) -> None:
        self._tell(Deposed(fault.message))

    # making and finding

    def _make(self, leader: str, serial: int, config: LeaderConfig) -> None:
        try:
            handle = self._cluster.create(
                load(self._leader_class), leader, config, self._name,
                deadline_s=GCS_S, **on_this_node(),
            )  # fmt: skip
        except ChimeraError as fault:
            taken = isinstance(fault, NameTaken)
            self._tell(MakeFailed(leader, serial, fault.message, taken))
        else:
            self._links.watch(leader, serial, handle)

    def _survey(self, makers: tuple[str, ...], living: tuple[str, ...]) -> None:
        found = self._links.names()
        if found is None:
            return
        mine = [n for n in found if n.count("/") and names.region(n) == self._region]
        leaders = tuple(name for name in mine if names.tier(name) == "leader")
        strays = [
            name
            for name in mine
            if names.tier(name) == "worker" and names.is_stray(name, leaders, makers, living)
        ]
        self._tell(Surveyed(leaders, tuple(self._introduced(strays))))

    def _introduced(self, workers: list[str]) -> list[WorkerInfo]:
        """Who these workers are; those that do not say so in time are left to their lease."""
        handles: dict[str, Any] = {}
        for name in workers:
            try:
                handle = self._cluster.find(name, HELLO_S)
            except ChimeraError:
                continue
            if handle is not None:
                handles[name] = handle
        refs = [handle.hello.remote() for handle in handles.values()]
        answers = self._cluster.call_all(refs, HELLO_S)
        return [
            WorkerInfo(name, answer.process, handles[name], answer.revision)
            for name, answer in zip(handles, answers, strict=True)
            if isinstance(answer, Hello)
        ]

    # ordering

    def _take(self, act: Take) -> None:
        order = act.order

        def answered(refusal: str, **more: Any) -> TakeAnswered:
            return TakeAnswered(act.leader, act.serial, order.shard, order.epoch, refusal, **more)

        def done(answer: Any) -> None:
            if isinstance(answer, StaleTerm):
                self._tell(Deposed(answer.message))
            elif isinstance(answer, StaleEpoch):
                actual, by = int(answer.details["epoch"]), answer.details.get("owner", "")
                self._tell(answered(answer.message, actual=actual, raised_by=by))
            elif isinstance(answer, BaseException):
                self._tell(answered(str(answer) or type(answer).__name__))
            else:
                self._tell(answered(""))

        self._call(act.leader, act.serial, lambda handle: handle.take.remote(order), done)

    def _order(
        self,
        leader: str,
        serial: int,
        call: Callable[[Any], Any],
        refused: Callable[[str], Event],
    ) -> None:
        def done(answer: Any) -> None:
            if isinstance(answer, StaleTerm):
                self._tell(Deposed(answer.message))
            elif isinstance(answer, BaseException):
                self._tell(refused(str(answer) or type(answer).__name__))

        self._call(leader, serial, call, done)

    def _call(
        self, leader: str, serial: int, call: Callable[[Any], Any], done: Callable[[Any], None]
    ) -> None:
        link = self._links.get(leader, serial)
        if link is None:
            done(ActorGone(f"{leader} is not there"))
            return
        try:
            ref = call(link.handle)
        except Exception as fault:
            done(fault)
        else:
            self._cluster.on_done(ref, done)

    # ending

    def _retire(self, leader: str, serial: int) -> None:
        link = self._links.get(leader, serial)
        if link is None:
            return
        self._cluster.call_all([link.handle.retire.remote(self._term)], RETIRE_S)
        self._links.kill(link.handle)

    def _reap(self, worker: WorkerInfo) -> None:
        ended = processes.end(worker.process)
        if ended is processes.Ended.ELSEWHERE:
            self._links.kill(worker.handle)
        gone = ended in (processes.Ended.ENDED, processes.Ended.GONE)
        self._tell(Reaped(worker.name, gone or ended is processes.Ended.ELSEWHERE))
