"""Writes settlements: one thread, all that is queued of a shard in one transaction."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from chimera.actors.clock import unix_ms
from chimera.actors.shards import Shards
from chimera.actors.threads import vital
from chimera.actors.waiters import Waiters
from chimera.errors import ChimeraError, Fenced, StoreFull
from chimera.store import opened
from chimera.swarm.leader.effects import Record
from chimera.swarm.leader.events import Event, Recorded, RecordRefused, ShardLost


class Recorder:
    """Turns `Record` effects into transactions, and these into events and wake-ups."""

    def __init__(
        self, shards: Shards, waiters: Waiters, tell: Callable[[Event], None],
        unwritable: Callable[[int, ChimeraError], None],
    ) -> None:  # fmt: skip
        """`unwritable` is told of each shard that could not be written, and why."""
        self._shards = shards
        self._waiters = waiters
        self._tell = tell
        self._unwritable = unwritable
        self._queued = 0  #: settlements that the thread has not finished
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
        self._thread = vital(self._run, "recorder")
        self._thread.start()

    def put(self, effect: Record) -> None:
        """Have it written soon."""
        with self._lock:
            self._queued += 1
        self._queue.put(effect)

    def write_now(self, effect: Record) -> list[Event] | None:
        """Write it in the caller's thread; None if others are being written, or disks are slow.

        A single task in an idle leader is spared two changes of thread.
        """
        if self._queued or self._shards.config.synced:
            return None
        return self._write(effect.shard, [effect])

    def stop(self, deadline_s: float) -> None:
        """Write what is queued, then end."""
        self._queue.put(None)
        self._thread.join(deadline_s)

    def _run(self) -> None:
        while True:
            batch = [self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get_nowait())
            by_shard: dict[int, list[Record]] = {}
            for effect in batch:
                if effect is not None:
                    by_shard.setdefault(effect.shard, []).append(effect)
            for shard, effects in by_shard.items():
                for event in self._write(shard, effects):
                    self._tell(event)
                with self._lock:
                    self._queued -= len(effects)
            if None in batch:
                return

    def _write(self, shard: int, effects: list[Record]) -> list[Event]:
        journal = self._shards.recording(shard)
        if journal is None:
            return [ShardLost(shard)]
        try:
            settled = journal.settle(opened.joined([one.settlement for one in effects]), unix_ms())
        except StoreFull as error:
            self._unwritable(shard, error)
            return [RecordRefused(shard, effect.token) for effect in effects]
        except Fenced:
            self._shards.drop(shard)
            return [ShardLost(shard)]
        except ChimeraError as error:
            self._unwritable(shard, error)
            self._shards.drop(shard)
            return [ShardLost(shard)]
        self._waiters.settled(shard)
        already = settled.already
        events: list[Event] = []
        for effect in effects:
            tasks = opened.tasks(effect.settlement)
            masked = min(already, tasks)
            already -= masked
            events.append(Recorded(shard, effect.token, tasks - masked))
        return events
