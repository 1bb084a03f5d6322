"""Worker: runs the tasks that its leader sends, and keeps their outcomes until they are recorded.

It outlives its leader: whoever takes a shard over asks it what it has (P5, P6). It ends by itself
when no leader renews its lease.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from typing import Any, Protocol

import ray

from chimera import names
from chimera.actors import processes
from chimera.actors.batch import Batch, Owner, Shared
from chimera.actors.board import BoardWriter
from chimera.actors.cluster import Cluster, incarnation, myself
from chimera.actors.handlers import Runner, receive
from chimera.actors.owners import Owners
from chimera.api import registry
from chimera.errors import HandlerLoadError, NotReady
from chimera.frames import bundle
from chimera.frames.bundle import Reply
from chimera.store.blobs import Blobs
from chimera.swarm import worker as machine
from chimera.swarm.reports import Collected, Held, Hello, RunSummary, WorkerConfig

#: how often the lease is looked at, at most, seconds; less with a short lease
TICK_S = 0.5
#: loading the handlers may take as long as this, seconds
PREPARE_S = 600.0
#: a worker that retires waits this long for its outcomes to be recorded, seconds
RETIRE_S = 10.0


class OwnerBook(Owner, Protocol):
    """The owners of shards, and how a new one is made known."""

    def set(self, shard: int, handle: Any, own: bool) -> None: ...

    def dispatched(self, shards: Iterable[int]) -> None: ...


class WorkerShell:
    """The worker without Ray around it. Its methods may be called from several threads."""

    def __init__(self, config: WorkerConfig, owners: OwnerBook | None = None) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._machine = machine.Worker(
            config.leader, incarnation(config.leader_handle), config.lease_s
        )
        self._board = BoardWriter(config.board)
        cluster = Cluster(names.namespace(config.swarm))
        self._owners = owners or Owners(cluster, config.leader_handle)
        self._blobs: Blobs | None = None
        self._batches: list[Batch] = []
        #: of the run in hand: ended, and handed to nobody yet
        self._replies: list[Reply] = []
        self._retired_at: float | None = None
        self._registry = registry.Registry()
        self._runner: Runner | None = None
        self._fault: HandlerLoadError | None = None
        self._prepared = threading.Event()
        threading.Thread(target=self._keep_lease, name="lease", daemon=True).start()

    def prepare(self) -> None:
        """Load the handlers, in the thread that runs them: what they open may belong to it."""
        try:
            self._registry = registry.load(self._config.handlers)
            self._runner = Runner(self._registry, self._config.policies, self._open_blobs)
        except HandlerLoadError as fault:
            self._fault = fault  # `hello` tells it: raised here it would tell nobody
            with self._lock:
                self._machine.retire()
        finally:
            self._prepared.set()

    def _open_blobs(self) -> Blobs:
        if self._blobs is None:
            self._blobs = Blobs(self._config.objects_url)
        return self._blobs

    # for the leader

    def hello(self) -> Hello:
        """Who this is and what it can run, once that is known. Raises HandlerLoadError."""
        self._prepared.wait()
        if self._runner is None:
            raise self._fault or NotReady("the handlers could not be loaded")
        return Hello(
            worker=self._config.name,
            process=processes.identity(self._config.name),
            board=self._board.path,
            policies=self._registry.policies(),
            revision=self._config.revision,
        )

    def watch(self, sender: str, hold_s: float) -> bool:
        """Renew the lease now and after `hold_s`; False from a leader that is not our own."""
        with self._lock:
            self._machine.renew(sender)
        threading.Event().wait(hold_s)
        with self._lock:
            return self._machine.renew(sender)

    def run(
        self, sender: str, dispatch: int, recorded: Iterable[int], *bundles: bytes
    ) -> tuple[Any, ...]:
        """Run a dispatch: its summary, then as many reply bundles as there are bundles.

        Outcomes that fill more go into the last one, together. What is not run, and why, is in the
        summary; a former leader's dispatch is refused whole.
        """
        shared = Shared(self._board, self._owners, set(), {}, set())
        batches = receive(bundles, shared)
        began = time.monotonic_ns()
        with self._lock:
            self._machine.recorded(recorded)
            self._machine.renew(sender)
            run = self._machine.begin(sender, dispatch, [batch.part for batch in batches])
            if run.reign == self._machine.reign:
                self._owners.dispatched({part.shard for part in run.parts})
            for batch in batches:
                for position in self._machine.cancelled(batch.part):
                    batch.cancel(position)
            self._batches = batches
            self._board.begin(dispatch)
            if self._machine.is_former():
                self._board.disown()
        tasks = 0
        if self._runner is not None:
            tasks = self._runner.run(batches, self._start, self._finish)
        with self._lock:
            refused, returned = self._machine.end()
            replies, self._replies, self._batches = self._replies, [], []
            if self._retired_at is not None:
                self._retired_at = time.monotonic()
            self._board.end()
        busy_us = (time.monotonic_ns() - began) // 1000
        summary = RunSummary(dispatch, refused, returned, busy_us, tasks)
        return summary, *spread(replies, len(bundles))

    def _start(self, batch: Batch) -> bool:
        with self._lock:
            return self._machine.start(batch.part)

    def _finish(self, batch: Batch) -> None:
        with self._lock:
            self._replies += self._hand_in(batch)
            self._machine.finish(batch.part)

    def _hand_in(self, batch: Batch) -> list[Reply]:
        """What ended since the last time, kept until it is recorded. Under the lock."""
        shard = batch.part.shard
        return [Reply(self._machine.hold(shard, frame), frame) for frame in batch.hand_in()]

    def collect(self, sender: str, dispatch: int, take_back: bool) -> Collected:
        """What the run in hand has finished and not handed in; with `take_back`, see the machine.

        Raises Fenced for a leader that is not our own.
        """
        with self._lock:
            self._machine.check_leader(sender)
            in_hand = self._in_hand()
            returned: list[machine.Range] = []
            if take_back:
                returned = self._machine.take_back(sender, dispatch)
                if self._machine.covers(dispatch):
                    for batch in in_hand:
                        returned += batch.stop()
            replies, self._replies = self._replies, []
            for batch in in_hand:
                replies += self._hand_in(batch)
            running = [
                (batch.part.shard, position) for batch in in_hand for position in batch.in_hand()
            ]
            begun = self._machine.begun
        return Collected(tuple(packed(replies)), tuple(returned), tuple(running), begun)

    def adopt(self, leader: str, leader_handle: Any, shard: int, epoch: int, own: bool) -> Held:
        """A new owner of a shard: what we hold and run of it (P6). Raises StaleEpoch."""
        with self._lock:
            overtaken = self._machine.adopt(leader, incarnation(leader_handle), shard, epoch, own)
            running: list[tuple[int, int]] = []
            for batch in self._in_hand():
                if batch.part in overtaken:
                    self._machine.refuse(batch.stop())
                    self._hand_in(batch)
                    running += [(position, 1) for position in batch.in_hand()]
            if self._machine.is_former():
                self._board.disown()
            replies = [Reply(*one) for one in self._machine.held(shard)]
        self._owners.set(shard, leader_handle, own)
        return Held(tuple(packed(replies)), tuple(running), self._registry.policies())

    def recorded(self, serials: Iterable[int]) -> None:
        """An owner recorded these outcomes: they may be forgotten (P5)."""
        with self._lock:
            self._machine.recorded(serials)

    def cancel(self, shard: int, position: int) -> None:
        """A task in our hands is to end (P9)."""
        with self._lock:
            part = self._machine.cancel(shard, position)
            for batch in self._batches:
                if batch.part is part:
                    batch.cancel(position)

    def retire(self) -> None:
        """Begin no other dispatch; end when all is recorded, or `RETIRE_S` after the last one."""
        with self._lock:
            self._machine.retire()
            self._retired_at = time.monotonic()

    def _in_hand(self) -> list[Batch]:
        parts = self._machine.in_hand()
        return [batch for batch in self._batches if batch.part in parts]

    # the end

    def _keep_lease(self) -> None:
        tick_s = min(TICK_S, self._config.lease_s / 10)
        pause = threading.Event()
        # imports may take longer than the lease, which nobody renews before `hello` is answered
        if not self._prepared.wait(PREPARE_S):
            return self._exit(f"its handlers did not load in {PREPARE_S:g} s")
        while True:
            pause.wait(tick_s)
            now = time.monotonic()
            with self._lock:
                lapsed = self._machine.lapsed(now)
                retired = self._retired_at is not None and (
                    self._machine.idle()
                    or (self._machine.run is None and now - self._retired_at > RETIRE_S)
                )
            if retired:
                return self._exit("it is retired")
            if lapsed:
                return self._exit(f"no leader renewed its lease for {self._config.lease_s:g} s")

    def _exit(self, why: str) -> None:
        """End the process, whatever its threads do."""
        # not through sys.stderr: a hung handler may hold its lock
        os.write(2, f"worker {self._config.name} ends: {why}\n".encode())
        os._exit(0)


@ray.remote(  # type: ignore[call-overload]  # Ray's stubs know not all options for classes
    num_cpus=0,
    max_restarts=0,
    max_concurrency=1,
    concurrency_groups={"watch": 2, "ctl": 2},
    enable_task_events=False,
)
class Worker:
    """The actor: its control methods answer while a handler runs."""

    def __init__(self, config: WorkerConfig) -> None:
        self._shell = WorkerShell(config)
        # Ray makes actors in its main thread, and runs their methods in another: the first call
        # to that one is our own
        myself().prepare.remote()

    def prepare(self) -> None:
        self._shell.prepare()

    @ray.method(concurrency_group="ctl")
    def hello(self) -> Hello:
        return self._shell.hello()

    @ray.method(concurrency_group="watch")
    def watch(self, sender: str, hold_s: float) -> bool:
        return self._shell.watch(sender, hold_s)

    def run(self, sender: str, dispatch: int, recorded: tuple[int, ...], *bundles: bytes) -> Any:
        return self._shell.run(sender, dispatch, recorded, *bundles)

    @ray.method(concurrency_group="ctl")
    def collect(self, sender: str, dispatch: int, take_back: bool) -> Collected:
        return self._shell.collect(sender, dispatch, take_back)

    @ray.method(concurrency_group="ctl")
    def adopt(self, leader: str, leader_handle: Any, shard: int, epoch: int, own: bool) -> Held:
        return self._shell.adopt(leader, leader_handle, shard, epoch, own)

    @ray.method(concurrency_group="ctl")
    def recorded(self, serials: tuple[int, ...]) -> None:
        self._shell.recorded(serials)

    @ray.method(concurrency_group="ctl")
    def cancel(self, shard: int, position: int) -> None:
        self._shell.cancel(shard, position)

    @ray.method(concurrency_group="ctl")
    def retire(self) -> None:
        self._shell.retire()


def packed(replies: Iterable[Reply]) -> list[bytes]:
    """Outcome frames in bundles that Ray carries inline, where they fit."""
    bundles: list[bytes] = []
    packing: list[Reply] = []
    size = 0
    for reply in replies:
        more = len(reply.frame) + bundle.REPLY_BYTES
        if packing and size + more > bundle.BYTES_MAX:
            bundles.append(bundle.pack_replies(packing))
            packing, size = [], 0
        packing.append(reply)
        size += more
    if packing:
        bundles.append(bundle.pack_replies(packing))
    return bundles


def spread(replies: Iterable[Reply], slots: int) -> list[bytes]:
    """The same in so many bundles: empty ones behind, the last one with all that is left."""
    bundles = packed(replies)
    if len(bundles) > slots:
        bundles[slots - 1 :] = [b"".join(bundles[slots - 1 :])]
    return bundles + [b""] * (slots - len(bundles))
