"""The leader's one loop: events → machine → effects."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from chimera.actors.clock import unix_ms
from chimera.actors.pool import Landed, Pool
from chimera.actors.recorder import Recorder
from chimera.actors.shards import Shards
from chimera.actors.threads import vital
from chimera.errors import ChimeraError, CorruptFrame
from chimera.frames import bundle, command, outcome
from chimera.store import opened
from chimera.store.protocol import Journal
from chimera.swarm.facts import Scheduled
from chimera.swarm.leader import LeaderMachine, adoption, events
from chimera.swarm.leader.effects import (
    CloseShard,
    Collect,
    Effect,
    Item,
    Kill,
    PollHeld,
    ReadDue,
    Record,
    Retire,
    Send,
    Spawn,
    TellCancelled,
    TellRecorded,
)
from chimera.swarm.leader.events import Instant
from chimera.swarm.lobby import Listed, Lobby
from chimera.swarm.reports import LeaderConfig

T = TypeVar("T")

TICK_S = 0.05


@dataclass(frozen=True, slots=True)
class Question:
    """A look at the machine's state, for another thread."""

    ask: Callable[[Any], Any]
    answer: Future[Any]


class Loop:
    """Owns the machine: no other thread touches its state."""

    def __init__(
        self,
        name: str,
        incarnation: str,
        config: LeaderConfig,
        inbox: queue.SimpleQueue[Any],
        shards: Shards,
        pool: Pool,
        recorder: Recorder,
        announce: Callable[[], None],
    ) -> None:
        self.machine = LeaderMachine(
            name,
            incarnation,
            workers=config.workers,
            ring=config.shards,
            policies=config.policies,
            tenant_weights=config.tenant_weights,
        )
        self._lobby = Lobby(incarnation)
        self.lag_ms = 0.0
        self._inbox = inbox
        self._shards = shards
        self._pool = pool
        self._recorder = recorder
        self._announce = announce
        self._stopping = threading.Event()
        inbox.put(events.Configured(config))
        self._thread = vital(self._run, "loop")

    def start(self) -> None:
        self._thread.start()

    def stop(self, deadline_s: float) -> None:
        """Give out no more work."""
        self._stopping.set()
        self._inbox.put(None)
        self._thread.join(deadline_s)

    def configure(self, config: LeaderConfig) -> None:
        self._inbox.put(events.Configured(config))

    def cancel(self, shard: int, position: int, reason: str, *, only_waiting: bool = False) -> None:
        """Nobody is to run a task any more: it was cancelled in the journal, or is to end if it
        waits."""
        self._inbox.put(events.CancelAsked(shard, position, reason, only_waiting))

    def introduce(self, workers: tuple[str, ...]) -> None:
        """The coordinator knows these workers."""
        if workers:
            self._inbox.put(Listed(workers))

    def release(self, shard: int, finish: bool) -> None:
        """Hand a shard over, if `finish` after what runs of it."""
        self._inbox.put(events.ReleaseAsked(shard, finish))

    def ask(self, question: Callable[[Any], T], otherwise: T) -> T:
        """Have the loop's thread look at the machine's state."""
        answer: Future[T] = Future()
        self._inbox.put(Question(question, answer))
        try:
            return answer.result(1.0)
        except TimeoutError:
            return otherwise

    def _run(self) -> None:
        next_tick = time.monotonic()
        while not self._stopping.is_set():
            try:
                event = self._inbox.get(timeout=max(0.0, next_tick - time.monotonic()))
            except queue.Empty:
                event = None
            if event is not None:
                self._take(event)
            now = time.monotonic()
            if now >= next_tick:
                self.lag_ms = 0.9 * self.lag_ms + 0.1 * 1000 * (now - next_tick)
                next_tick = now + TICK_S
                self._pool.overdue()
                for late in self._lobby.overdue(now):
                    self._step(late)
                self._step(events.Tick(self._pool.boards()))

    def _take(self, event: Any) -> None:
        if isinstance(event, Question):
            question, answer = event.ask, event.answer
            try:
                answer.set_result(question(self.machine.state))
            except Exception as fault:
                answer.set_exception(fault)
            return
        if isinstance(event, Landed):
            replied = self._pool.fetch(event)
            if replied is None:
                return
            event = replied
        if isinstance(event, events.Held) and not event.silent:
            event = self._with_parked(event)
        for told in self._lobby.pass_on(event, time.monotonic()):
            self._step(told)

    def _step(self, event: events.Event) -> None:
        now = Instant(time.monotonic(), unix_ms())
        records: list[Record] = []
        for effect in self.machine.step(event, now):
            if isinstance(effect, Record):
                records.append(effect)
            else:
                self._do(effect)
        if len(records) == 1:
            written = self._recorder.write_now(records[0])
            if written is not None:
                for follows in written:
                    self._step(follows)
                return
        for record in records:
            self._recorder.put(record)

    def _do(self, effect: Effect) -> None:
        match effect:
            case Send():
                self._send(effect)
            case Collect(worker, through):
                self._pool.collect(worker, through)
            case TellRecorded(worker, serials):
                self._pool.recorded(worker, serials)
            case TellCancelled(worker, shard, position):
                self._pool.cancel(worker, shard, position)
            case PollHeld(worker, shard, epoch):
                self._pool.poll_held(worker, shard, epoch)
            case ReadDue():
                self._read_due(effect)
            case Spawn(worker):
                self._pool.spawn(worker)
            case Kill(worker, _):
                self._pool.kill(worker)
            case Retire(worker):
                self._pool.retire(worker)
            case CloseShard(shard):
                self._shards.drop(shard)
                self._announce()

    def _send(self, effect: Send) -> None:
        """Cut the frames, pack them into bundles, and hand them over."""
        bundles: list[bytes] = []
        packing: list[bundle.Dispatch] = []
        size = 0
        for item in effect.items:
            frame = self._cut(item)
            if frame is None:
                continue
            if packing and size + len(frame) > bundle.BYTES_MAX - 64 * (len(packing) + 1):
                bundles.append(bundle.pack_dispatches(packing))
                packing, size = [], 0
            packing.append(bundle.Dispatch(item.shard, item.attempt, item.epoch, item.first, frame))
            size += len(frame)
        if packing:
            bundles.append(bundle.pack_dispatches(packing))
        if bundles:
            self._pool.send(effect.worker, effect.flight, effect.recorded, bundles)
        else:
            self._inbox.put(events.Replied(effect.worker, effect.flight, (), ()))

    def _cut(self, item: Item) -> bytes | None:
        """The part of a command frame that is to be run; a corrupt one is put aside (P4)."""
        try:
            frame = self._shards.frame(item.shard, item.frame, parked=item.from_schedule)
            count = command.header(frame).count
            start, stop = item.first - item.frame, item.stop - item.frame
            if stop == count:
                self._shards.forget(item.shard, item.frame)
            return command.cut(frame, start, stop)
        except CorruptFrame:
            with contextlib.suppress(ChimeraError):  # if it is not ours its owner will find it
                self._shards.quarantine(item.shard, item.frame, item.first, item.stop)
            return None
        except ChimeraError:
            return None  # the shard is not ours any more, or the task was settled meanwhile

    def _read_due(self, effect: ReadDue) -> None:
        journal = self._shards.recording(effect.shard)
        if journal is None:
            return
        state = self.machine.state.shards.get(effect.shard)
        loaded = state.loaded if state is not None else set()
        try:
            due = journal.due(0, effect.until, effect.limit + len(loaded))
            tasks = self._parked(journal, [each for each in due if each.position not in loaded])
            later = journal.due(effect.until + 1, 1 << 62, 1)
            epoch, _ = journal.owner()
        except ChimeraError:
            self._inbox.put(events.Due(effect.shard, (), effect.until + 1000))
            return
        if epoch != journal.epoch:  # what is read is not fenced: it is another owner's to run
            self._shards.drop(effect.shard)
            self._inbox.put(events.ShardLost(effect.shard))
            return
        next_due = later[0].due if later else None
        if len(tasks) >= effect.limit:
            next_due = effect.until
        self._inbox.put(events.Due(effect.shard, tasks, next_due))

    def _with_parked(self, held: events.Held) -> events.Held:
        """Add what the journal knows of the parked tasks among those that a worker tells of."""
        journal = self._shards.recording(held.shard)
        if journal is None:
            return held
        # a parked task is sent in a frame of its own, and so comes back in one
        headers = (outcome.header(item.frame) for item in held.arrived)
        positions = [header.position for header in headers if header.count == 1]
        for first, count in held.running:
            positions += range(first, first + count)
        try:
            parked = self._parked(journal, journal.parked(positions))
        except ChimeraError:
            return replace(held, silent=True)  # it is asked again
        told = adoption.first_told(self.machine.state.shards.get(held.shard), held)
        return replace(held, parked=parked, keys=opened.keys_of_ended(journal, told))

    def _parked(
        self, journal: Journal, scheduled: Sequence[Scheduled]
    ) -> tuple[events.NewFrame, ...]:
        """Parked tasks with what their frames say; a corrupt one is put aside (P4)."""
        found: list[events.NewFrame] = []
        for each in scheduled:
            try:
                frame = journal.read(each.position, parked=True)[1]
            except CorruptFrame:
                self._shards.quarantine(
                    journal.shard, each.position, each.position, each.position + 1
                )
                continue
            found.append(opened.parked(each, frame))
        return tuple(found)
