"""The leader's actor: turns calls and answers into events, and the machine's effects into calls.

Ray imports this module wherever a handle of a leader is: in each worker, and in each client. What
only a leader needs, it imports when it is made; that spares a worker a quarter of its start.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import ray

from chimera import names
from chimera.actors import processes, waiting
from chimera.actors.clock import unix_ms
from chimera.actors.cluster import Cluster, myself, own_name
from chimera.actors.waiters import FRAMES_MAX, OutcomesReply, Waiters
from chimera.errors import ChimeraError, Fenced, StaleTerm, Unavailable
from chimera.frames import command
from chimera.store.protocol import Filter, Receipt, TaskRecord
from chimera.swarm import rosters, sketch
from chimera.swarm.policy import TaskPolicy
from chimera.swarm.reports import Hello, LeaderConfig, LeaderReport, TakeOrder
from chimera.swarm.rosters import Known, Numbering
from chimera.traffic.receipts import Sender, Told


@ray.remote(  # type: ignore[call-overload]  # Ray's stubs know neither option for classes
    concurrency_groups={
        "publish": 2,
        "call": 16, "receipt": 16, "wait": 32, "read": 4, "ctl": 4, "watch": 2, "worker": 4,
    },
    enable_task_events=False,
)  # fmt: skip
class Leader:
    """Owns shards, schedules their tasks on its workers, records outcomes (G2–G7)."""

    def __init__(self, config: LeaderConfig, coordinator: str) -> None:
        from chimera.actors.house import House
        from chimera.actors.leader_loop import Loop
        from chimera.actors.pool import Pool
        from chimera.actors.recorder import Recorder
        from chimera.actors.shards import Shards
        from chimera.actors.traffic import Traffic

        name = own_name()
        self._name = name
        self._coordinator = coordinator
        self._config = config
        self._term = 0
        self._faults: dict[str, str] = {}
        self._progress: dict[tuple[int, int], Any] = {}
        self._changed = threading.Condition()
        self._process = processes.identity(name)
        self._incarnation = time.time_ns()
        self._numbers = itertools.count(1)
        self._numbering = Numbering()
        self._reporting = threading.Lock()
        self._sketches: dict[str, bytes] = {}
        self._sketched_at = float("-inf")
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._shards = Shards(config, self._process, self._inbox.put)
        self._waiters = Waiters(self._shards)
        self._house = House(self._shards, self._fault, self._mend)
        self._recorder = Recorder(
            self._shards, self._waiters, self._inbox.put, self._house.unwritable
        )
        self._pool = Pool(
            Cluster(names.namespace(config.swarm)), name, config, self._inbox.put, self._declare
        )
        self._pool.introduce(myself())
        self._traffic = Traffic(config, name, self._shards, self._waiters, self._fault, self._mend)
        incarnation = names.worker(name, uuid.uuid4().hex[:8])
        self._loop = Loop(
            name, incarnation, config, self._inbox, self._shards, self._pool, self._recorder,
            self._announce,
        )  # fmt: skip
        self._loop.start()
        self._cancels = waiting.Cancels(self._shards, self._loop, self._waiters)

    # clients

    @ray.method(concurrency_group="publish")
    def append(self, shard: int, *frames: bytes) -> list[Receipt | dict[str, Any]]:
        """Accept frames; a receipt, or an error as plain data, for each."""
        return self._shards.append(shard, frames)

    @ray.method(concurrency_group="call")
    def call(self, shard: int, wait_s: float, frame: bytes) -> tuple[Any, int | None, Any, bool]:
        """Accept a frame of one task and wait for its outcome.

        Returns the receipt (or error), the outcome's state, its body, and whether that is a claim
        check; state None if it did not end in time.
        """
        (answer,) = self._shards.append(shard, (frame,))
        if not isinstance(answer, Receipt) or answer.skipped:
            return answer, None, None, False
        return answer, *self._waiters.wait_for_one(shard, answer.position, wait_s)

    @ray.method(concurrency_group="receipt")
    def receipts(self, shard: int, wait_s: float, senders: Sequence[Sender]) -> Told:
        """What became of frames that were sent through the broker, each by its tenant, session and
        first counter; waits for those that are on their way. Raises NotOwner."""
        return self._traffic.receipts(shard, wait_s, senders)

    @ray.method(concurrency_group="wait")
    def outcomes(
        self,
        shard: int,
        ranges: Sequence[tuple[int, int]],
        wait_s: float,
        least: int = FRAMES_MAX,
    ) -> tuple[Any, ...]:
        """Outcomes of [start, stop) ranges of positions: one `OutcomesReply`, eight frames.

        Gathers `least` of them before it answers, for `wait_s` seconds at most. Call with
        `num_returns=9`. Raises NotOwner.
        """
        found, complete = self._waiters.wait(shard, ranges, wait_s, least)
        frames = found.frames[:FRAMES_MAX]
        reply = OutcomesReply(found.singles, complete and len(found.frames) <= FRAMES_MAX)
        return (reply, *frames, *(None,) * (FRAMES_MAX - len(frames)))

    @ray.method(concurrency_group="read")
    def get(
        self, tenant: str, keys: Sequence[tuple[int, int, int]], bodies: bool
    ) -> list[TaskRecord | dict[str, Any]]:
        """Tasks by (session, shard, counter); an error as plain data for one that is not there."""
        out: list[TaskRecord | dict[str, Any]] = []
        for session, shard, counter in keys:
            try:
                record = self._find(shard, tenant, session, counter, bodies)
                out.append(waiting.told(record, self._loop, shard))
            except (Unavailable, Fenced):
                raise  # is about the shard: who asks must look who serves it now
            except ChimeraError as error:
                out.append(error.to_wire())
        return out

    @ray.method(concurrency_group="read")
    def list_tasks(
        self, shard: int, where: Filter, cursor: int | None, limit: int
    ) -> list[TaskRecord]:
        """Tasks of a shard, newest first, below the cursor (a position)."""
        journal = self._shards.journal(shard)
        return waiting.list_tasks(journal, self._loop, where, cursor, min(limit, 1000))

    @ray.method(concurrency_group="read")
    def cancel(self, tenant: str, session: int, shard: int, counter: int, reason: str) -> str:
        """Cancel a task (P9); returns its state, `cancelling` if it has none yet."""
        return self._cancels.cancel(shard, (tenant, session, counter), reason)

    @ray.method(concurrency_group="read")
    def cancel_waiting(
        self, tenant: str, session: int, shard: int, counter: int, reason: str
    ) -> str:
        """Cancel a task unless it runs; returns its state, `running` if it was let be."""
        return self._cancels.cancel_waiting(shard, (tenant, session, counter), reason)

    @ray.method(concurrency_group="read")
    def replay(self, tenant: str, session: int, shard: int, counter: int) -> str:
        """Make a new task of a dead letter (P17); returns its id."""
        journal = self._shards.journal(shard)
        record = self._find(shard, tenant, session, counter, bodies=False)
        task_id, receipt, frame = journal.replay(record.position, unix_ms())
        if not receipt.duplicate:
            self._shards.accepted(shard, frame, command.head(frame), receipt)
        return task_id

    @ray.method(concurrency_group="read")
    def discard(self, tenant: str, session: int, shard: int, counter: int) -> None:
        """Give a dead letter up. Raises NotFound."""
        record = self._find(shard, tenant, session, counter, bodies=False)
        self._shards.journal(shard).discard(record.position)

    @ray.method(concurrency_group="read")
    def happened(
        self, shard: int, tenant: str, after: int, limit: int
    ) -> tuple[int, list[tuple[int, TaskRecord]]]:
        """A tenant's tasks that ended since row `after`, and the last row's number."""
        last, found = self._shards.journal(shard).happened(after, limit)
        return last, [one for one in found if one[1].tenant == tenant]

    @ray.method(concurrency_group="ctl")
    def owned(self) -> dict[int, int]:
        """Shard → epoch of what is served here."""
        return self._shards.owned()

    @ray.method(concurrency_group="ctl")
    def types(self) -> tuple[TaskPolicy, ...]:
        """The task types that the workers run."""
        return tuple(self._shards.types.values())

    # workers

    @ray.method(concurrency_group="worker")
    def memo(self, shard: int, position: int, step: str) -> bytes | None:
        """What `ctx.once(step)` stored."""
        return self._shards.journal(shard).memo(position, step)

    @ray.method(concurrency_group="worker")
    def memoise(self, shard: int, position: int, step: str, value: bytes) -> bytes:
        """Store what `ctx.once(step)` made; the first one wins (P18)."""
        return self._shards.journal(shard).memoise(position, step, value)

    @ray.method(concurrency_group="worker")
    def snapshot(self, shard: int, tenant: str, type: str, key: str) -> bytes | None:
        """The state that a handler left for a key."""
        return self._shards.journal(shard).snapshot(tenant, type, key)

    @ray.method(concurrency_group="worker")
    def progress(self, shard: int, position: int, value: Any) -> None:
        """How far a task is; kept in memory while it runs."""
        self._progress[shard, position] = value
        while len(self._progress) > 10_000:
            self._progress.pop(next(iter(self._progress)))

    @ray.method(concurrency_group="read")
    def progress_of(self, shard: int, position: int) -> Any:
        """What the task said last of how far it is."""
        return self._progress.get((shard, position))

    # the coordinator

    def _check_term(self, term: int) -> None:
        if term < self._term:
            raise StaleTerm(f"term {term} is over: there is {self._term}", term=self._term)
        self._term = term

    @ray.method(concurrency_group="watch")
    def watch(
        self, coordinator: str, term: int, hold_s: float, known: Known | None = None
    ) -> LeaderReport:
        """Heartbeat and status in one: answers after `hold_s`, or when a shard comes or goes.

        It leaves a roster out that is `known`.
        """
        self._check_term(term)
        with self._reporting:
            asked_with = (known or {}).get(self._name)
            self._loop.introduce(self._numbering.heard(asked_with, self._incarnation))
        with self._changed:
            self._changed.wait(hold_s)
        return rosters.brief(self._report(), known or {})

    def _report(self) -> LeaderReport:
        with self._reporting:  # a later number must not come with older counts
            number = next(self._numbers)
            state = self._loop.machine.state
            counters, faults = dict(state.counters), dict(self._faults)
            age = 0.0 if state.oldest is None else max(time.monotonic() - state.oldest, 0.0)
            latency = self._latency()
            workers = self._pool.infos()
            roster = self._numbering.number(workers)
        counters["lost_tails"] = self._shards.lost_tails
        counters["duplicates"] = self._shards.duplicates
        counters.update(self._traffic.counters())
        return LeaderReport(
            leader=self._name,
            process=self._process,
            generation=self._config.generation,
            ready=bool(self._shards.types),
            shards=self._shards.infos(self._open_tasks),
            workers=workers,
            counters=counters,
            faults=(*faults.values(), *state.faults.values()),
            lag_ms=self._loop.lag_ms,
            incarnation=self._incarnation,
            number=number,
            latency=latency,
            revision=self._config.revision,
            waiting=self._traffic.waiting(),
            worker_target=state.worker_target,
            oldest_s=age,
            slots=state.slots(),
            exemplars=dict(state.exemplars),
            roster=roster,
            brand=state.incarnation,
            store_faults=tuple(v for key, v in faults.items() if self._house.is_store(key)),
        )

    def _latency(self) -> dict[str, bytes]:
        if time.monotonic() >= self._sketched_at + SKETCH_S:
            self._sketched_at = time.monotonic()
            state = self._loop.machine.state
            sketches = {"run": state.run, "total": state.total, "takeover": state.takeover}
            by_class = {f"queue/{name}": one.to_bytes() for name, one in state.queue.items()}
            # the machine's thread may learn of a type meanwhile
            sketches |= {f"run/{name}": one.run for name, one in list(state.types.items())}
            self._sketches = {name: one.to_bytes() for name, one in sketches.items()}
            self._sketches |= {"queue": sketch.merged(by_class.values()), **by_class}
        return self._sketches

    @ray.method(concurrency_group="ctl")
    def take(self, order: TakeOrder) -> str:
        """Take a shard over (P2); what becomes of it shows in the report."""
        self._check_term(order.term)
        journal = self._shards.check_order(order)
        if journal is not None:
            run = threading.Thread(
                target=self._take, args=(journal, order), name=f"take-{order.shard}", daemon=True
            )
            run.start()
        return "ok"

    def _take(self, journal: Any, order: TakeOrder) -> None:
        began = time.monotonic()
        try:
            taken = self._shards.take(journal, order)
        except ChimeraError as fault:
            self._fault(f"shard {order.shard}: {fault.message}", key=f"take-{order.shard}")
            self._announce()
            return
        self._mend(f"take-{order.shard}")
        for info in order.former_workers:
            self._pool.adopt(info, own=info.name in order.adopt)
        self._inbox.put(replace(taken, took_s=time.monotonic() - began))
        self._traffic.serve(order.shard, taken.epoch)
        self._announce()

    @ray.method(concurrency_group="ctl")
    def release(self, term: int, shard: int, finish: bool = False) -> None:
        """Hand a shard over, if `finish` after what runs of it.

        It is gone from the report when it may be taken.
        """
        self._check_term(term)
        self._shards.drain(shard)
        self._loop.release(shard, finish)

    @ray.method(concurrency_group="ctl")
    def configure(self, term: int, config: LeaderConfig) -> None:
        """Work by new settings from now on."""
        self._check_term(term)
        self._config = self._pool.config = config
        for shard in self._shards.configure(config):
            self._mend(f"take-{shard}")
        self._loop.configure(config)

    @ray.method(concurrency_group="ctl")
    def retire(self, term: int) -> None:
        """End: workers first, then the journals are closed; the caller ends this process."""
        self._check_term(term)
        self._traffic.stop()
        self._loop.stop(5.0)
        self._pool.end_all(5.0)
        self._recorder.stop(5.0)
        self._shards.close()

    # inside

    def _find(
        self, shard: int, tenant: str, session: int, counter: int, bodies: bool
    ) -> TaskRecord:
        return self._shards.readable(
            shard, lambda journal: journal.find(tenant, session, counter, bodies)
        )

    def _open_tasks(self, shard: int) -> int:
        found = self._loop.machine.state.shards.get(shard)
        return found.open if found is not None else 0

    def _announce(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _fault(self, text: str, key: str) -> None:
        self._faults[key] = text

    def _mend(self, key: str) -> None:
        self._faults.pop(key, None)

    def _declare(self, hello: Hello) -> None:
        overrides = self._config.policies
        for policy in hello.policies:
            self._shards.types[policy.type] = _overridden(policy, overrides.get(policy.type))
        self._announce()


#: between two looks at what tasks took, which cost more than the rest of a report, seconds
SKETCH_S = 0.5


def _overridden(policy: TaskPolicy, changes: dict[str, Any] | None) -> TaskPolicy:
    return msgspec.structs.replace(policy, **changes) if changes else policy
