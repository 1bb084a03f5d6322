"""The workers that a leader talks to: made, greeted, watched, given work, ended.

Every answer becomes an event in the leader's inbox; nothing here waits for a worker.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from chimera.actors import board, processes
from chimera.actors.cluster import ActorGone, Cluster, incarnation
from chimera.actors.processes import Ended
from chimera.actors.watch import Watch
from chimera.errors import ChimeraError
from chimera.frames import bundle
from chimera.swarm.health import ScrutinyPolicy
from chimera.swarm.leader import events
from chimera.swarm.leader.events import Arrived, Event
from chimera.swarm.reports import (
    Collected,
    Hello,
    LeaderConfig,
    Owner,
    RunSummary,
    WorkerConfig,
    WorkerInfo,
)
from chimera.swarm.reports import Held as HeldReply

#: a worker imports its handlers, perhaps loads a model: as long as this
HELLO_S = 600.0
#: between two looks for stopped workers, seconds; twice stopped is dead
LOOK_S = 0.5
#: a flight of so few bytes is expected to have an answer that Ray carries inline
SMALL_BYTES = 16 * 1024
#: a worker that does not answer at once is asked again later
ANSWER_S = 0.3
#: an overdue worker is killed at once: its time has run out already
_AT_ONCE = ScrutinyPolicy(patience_s=0.0, still_s=0.0)


@dataclass(slots=True)
class Link:
    """One worker, as this leader sees it."""

    handle: Any
    process: Owner | None = None
    board: str = ""
    watch: Watch | None = None
    revision: str = ""
    own: bool = True
    lost: bool = False
    run: dict[int, Any] = field(default_factory=dict)  #: the method, by number of returns


@dataclass(frozen=True, slots=True)
class Landed:
    """A flight's reply: its value, or refs that the loop thread fetches."""

    worker: str
    flight: int
    value: tuple[Any, ...] | None
    refs: tuple[Any, ...] = ()


class Pool:
    """Handles of own workers, and of former owners' workers that still have something of ours."""

    def __init__(
        self,
        cluster: Cluster,
        leader: str,
        config: LeaderConfig,
        tell: Callable[[Event | Landed], None],
        declare: Callable[[Hello], None],
    ) -> None:
        self._cluster = cluster
        self._leader = leader
        self._me: Any = None
        self._sender = ""  #: what workers know this leader by
        self.config = config
        self._tell = tell
        self._declare = declare
        self._links: dict[str, Link] = {}
        self._stopped: set[str] = set()  #: who was stopped at the last look
        self._looked = 0.0
        self._asked: dict[tuple[str, int | None], float] = {}  #: questions without answer

    def introduce(self, me: Any) -> None:
        """The leader's own handle, for its workers to call."""
        self._me, self._sender = me, incarnation(me)

    # own workers

    def spawn(self, name: str) -> None:
        """Make a worker and greet it; `WorkerReady` or `WorkerFailed` tells."""
        threading.Thread(
            target=self._spawn, args=(name,), name=f"spawn-{name}", daemon=True
        ).start()

    def _spawn(self, name: str) -> None:
        from chimera.actors.worker import Worker

        boards = os.path.join(self.config.data_dir, "boards")
        os.makedirs(boards, exist_ok=True)
        path = os.path.join(boards, name.replace("/", "-") + ".board")
        config = WorkerConfig(
            name=name,
            swarm=self.config.swarm,
            region=self.config.region,
            leader=self._leader,
            leader_handle=self._me,
            handlers=self.config.handlers,
            data_dir=self.config.data_dir,
            board=path,
            lease_s=self.config.worker_lease_s,
            objects_url=self.config.objects_url,
            policies=self.config.policies,
            revision=self.config.revision,
        )
        try:
            handle = self._cluster.create(Worker, name, config)
            self._links[name] = Link(handle, board=path)
            self._greet(name, handle)
        except ChimeraError as fault:
            self._give_up(name, fault)

    def _greet(self, name: str, handle: Any) -> None:
        hello: Hello = self._cluster.call(handle.hello.remote(), HELLO_S)
        link = self._links[name]
        link.process = hello.process
        self._watch(name, link)
        self._heard(link, hello)

    def _heard(self, link: Link, hello: Hello) -> None:
        link.board, link.revision = hello.board, hello.revision
        self._declare(hello)
        self._tell(events.WorkerReady(hello.worker, hello.policies, hello.revision))

    def _give_up(self, name: str, fault: ChimeraError) -> None:
        link = self._links.pop(name, None)
        if link is not None:
            try:
                self._cluster.kill(link.handle)
            except ChimeraError:
                pass  # it is dead, or its lease will end it
        self._tell(events.WorkerFailed(name, f"{fault.code}: {fault.message}"))

    def _watch(self, name: str, link: Link) -> None:
        hold_s = self.config.worker_lease_s / 6
        link.watch = Watch(
            self._cluster,
            lambda: link.handle.watch.remote(self._sender, hold_s),
            lambda _: None,
            lambda fault: self._lost(name, fault),
        )
        link.watch.start()

    def _lost(self, name: str, fault: BaseException) -> None:
        """A worker is dead, or refuses us; either way it runs nothing for us any more."""
        threading.Thread(target=self._bury, args=(name,), name=f"bury-{name}", daemon=True).start()

    def _bury(self, name: str) -> None:
        link = self._links.get(name)
        if link is None or link.lost:
            return
        link.lost = True
        if link.process is not None:
            processes.end(link.process, policy=_AT_ONCE)  # P15: known dead, before keys go on
        if link.watch is not None:
            link.watch.stop()
        last = board.read(link.board) if link.board else None
        self._links.pop(name, None)
        if link.own and link.board:
            with contextlib.suppress(OSError):
                os.unlink(link.board)
        self._tell(events.WorkerLost(name, None if last is None else events.Board(*last)))

    def kill(self, name: str) -> None:
        """End a worker's process now; `WorkerLost` follows."""
        threading.Thread(target=self._kill, args=(name,), name=f"kill-{name}", daemon=True).start()

    def _kill(self, name: str) -> None:
        link = self._links.get(name)
        process = link.process if link is not None else None
        if process is None or processes.end(process, policy=_AT_ONCE) is not Ended.ELSEWHERE:
            self._bury(name)
        elif link is not None:
            with contextlib.suppress(ChimeraError):  # its loss is told when Ray knows of it
                self._cluster.kill(link.handle)

    def retire(self, name: str) -> None:
        """Let an idle worker go."""
        link = self._links.get(name)
        if link is not None:
            link.handle.retire.remote()

    def boards(self) -> dict[str, events.Board]:
        """What the boards of own workers say now."""
        out: dict[str, events.Board] = {}
        for name, link in list(self._links.items()):
            found = board.read(link.board) if link.own and link.board else None
            if found is not None:
                out[name] = events.Board(*found)
        return out

    def infos(self) -> tuple[WorkerInfo, ...]:
        """Own workers, for the report."""
        return tuple(
            WorkerInfo(name, link.process, link.handle, link.revision)
            for name, link in list(self._links.items())
            if link.own and link.process is not None
        )

    # work

    def send(self, name: str, flight: int, recorded: tuple[int, ...], bundles: list[bytes]) -> None:
        """Give a worker a flight; its reply comes back as `Landed`."""
        link = self._links.get(name)
        if link is None:
            return  # its loss is in the inbox already
        # one small value spares the caller a look-up of several
        small = len(bundles) == 1 and len(bundles[0]) <= SMALL_BYTES
        returns = 1 if small else 1 + len(bundles)
        run = link.run.get(returns)
        if run is None:
            run = link.run[returns] = link.handle.run.options(num_returns=returns)
        refs = run.remote(self._sender, flight, recorded, *bundles)
        first = refs if small else refs[0]

        def done(answer: Any) -> None:
            if isinstance(answer, BaseException):
                self._lost(name, answer)
            elif small:
                self._tell(Landed(name, flight, answer))
            else:
                self._tell(Landed(name, flight, None, tuple(refs)))

        self._cluster.on_done(first, done)

    def fetch(self, landed: Landed) -> events.Replied | None:
        """Read a flight's reply; None if it cannot be read: then the worker's loss is told."""
        value: Sequence[Any] | None = landed.value
        if value is None:
            try:
                value = self._cluster.call(list(landed.refs), 5.0)
            except ChimeraError as fault:
                self._lost(landed.worker, fault)
                return None
        summary, *slots = value
        assert isinstance(summary, RunSummary)
        return events.Replied(
            landed.worker,
            landed.flight,
            arrived(slots),
            summary.refused + summary.returned,
        )

    def collect(self, name: str, through: int) -> None:
        """Ask for what is finished, and for what is not begun."""
        link = self._links.get(name)
        if link is None:
            return
        key = (name, None)
        self._asked[key] = time.monotonic() + ANSWER_S

        def done(answer: Any) -> None:
            self._asked.pop(key, None)
            if isinstance(answer, Collected):
                self._tell(
                    events.Replied(
                        name, None, arrived(answer.replies), answer.returned, answer.running,
                        answer.begun, through,
                    )
                )  # fmt: skip
            else:
                self._tell(events.CollectFailed(name))

        self._cluster.on_done(link.handle.collect.remote(self._sender, through, True), done)

    def recorded(self, name: str, serials: Sequence[int]) -> None:
        link = self._links.get(name)
        if link is not None:
            link.handle.recorded.remote(tuple(serials))

    def cancel(self, name: str, shard: int, position: int) -> None:
        link = self._links.get(name)
        if link is not None:
            link.handle.cancel.remote(shard, position)

    # workers of a former owner

    def adopt(self, info: WorkerInfo, *, own: bool) -> None:
        """A former owner's worker may have something of ours; `own`: it is ours from now on."""
        known = self._links.get(info.name)
        if known is None:
            self._links[info.name] = Link(
                info.handle, info.process, revision=info.revision, own=own
            )
        elif own and not known.own:
            known.own = True

    def poll_held(self, name: str, shard: int, epoch: int) -> None:
        """Ask what a worker holds and runs of a shard; `Held` tells, or `WorkerLost`."""
        link = self._links.get(name)
        if link is None:
            self._tell(events.WorkerLost(name, None))
            return
        key = (name, shard)
        self._asked[key] = time.monotonic() + ANSWER_S

        def done(answer: Any) -> None:
            self._asked.pop(key, None)
            if isinstance(answer, HeldReply):
                self._tell(
                    events.Held(
                        name, shard, arrived(answer.replies), answer.running,
                        policies=answer.policies,
                    )
                )  # fmt: skip
                if link.own and link.watch is None:
                    self._welcome(name, link)
            elif isinstance(answer, ActorGone):
                self._lost(name, answer)
            else:
                self._tell(events.Held(name, shard, silent=True))

        self._cluster.on_done(
            link.handle.adopt.remote(self._leader, self._me, shard, epoch, link.own), done
        )

    def _welcome(self, name: str, link: Link) -> None:
        """An adopted worker becomes one of ours."""
        self._watch(name, link)

        def greet() -> None:
            try:
                hello: Hello = self._cluster.call(link.handle.hello.remote(), HELLO_S)
            except ChimeraError as fault:
                self._lost(name, fault)
                return
            self._heard(link, hello)

        threading.Thread(target=greet, name=f"greet-{name}", daemon=True).start()

    def overdue(self) -> None:
        """Tell of the questions that were not answered in time, and end who is stopped."""
        now = time.monotonic()
        if now - self._looked >= LOOK_S:
            self._looked = now
            self._end_stopped()
        for (name, shard), until in list(self._asked.items()):
            if now < until or self._asked.pop((name, shard), None) is None:
                continue
            if shard is None:
                self._tell(events.CollectFailed(name))
                continue
            link = self._links.get(name)
            if link is not None and link.process and processes.alive(link.process) is False:
                self._lost(name, ActorGone("its process is gone"))
            else:
                self._tell(events.Held(name, shard, silent=True))

    def _end_stopped(self) -> None:
        """A stopped process (SIGSTOP) runs nothing, and Ray never notices: end it."""
        stopped: set[str] = set()
        for name, link in list(self._links.items()):
            if link.own and link.process is not None and not link.lost:
                seen = processes.look(link.process.pid)
                if seen is not None and seen.state in "Tt":
                    stopped.add(name)
        for name in stopped & self._stopped:
            self.kill(name)
        self._stopped = stopped

    def end_all(self, deadline_s: float) -> None:
        """End every own worker's process."""
        for name, link in list(self._links.items()):
            if link.own:
                if link.watch is not None:
                    link.watch.stop()
                with contextlib.suppress(ChimeraError):  # gone already
                    self._cluster.kill(link.handle, deadline_s)
                if link.process is not None:
                    processes.end(link.process, policy=processes.AFTER_RAY)
                self._links.pop(name, None)


def arrived(bundles: Sequence[bytes]) -> tuple[Arrived, ...]:
    """The outcome frames of some reply bundles."""
    return tuple(
        Arrived(reply.serial, reply.frame) for blob in bundles for reply in bundle.replies(blob)
    )
