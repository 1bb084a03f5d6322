"""The coordinator's one loop: events → step → persist → act."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent import futures
from dataclasses import replace
from typing import Any

from chimera.actors.coordinator_hands import Hands
from chimera.errors import ChimeraError, StaleTerm, Unavailable
from chimera.store.control import ControlStore, Term
from chimera.swarm.coordinator import Coordinator
from chimera.swarm.coordinator.effects import Effect, Persist, StepDown
from chimera.swarm.coordinator.events import Event, Tick
from chimera.swarm.reports import Owner, RegionReport

log = logging.getLogger(__name__)

#: a store that refuses to write for this long ends the incarnation, seconds
STORE_S = 30.0
#: between two tries to write, seconds
STORE_AGAIN_S = 0.1
#: the report is made again at least this often, seconds
REPORT_S = 0.1
#: events between two ticks, at most
EVENTS_MAX = 1000


class Loop:
    """Runs the machine in a thread of its own; the only one that touches it."""

    def __init__(
        self,
        machine: Coordinator,
        store: ControlStore,
        writer: Term,
        process: Owner,
        make_hands: Callable[[Callable[[Event], None]], Hands],
    ) -> None:
        self._machine = machine
        self._store = store
        self._writer = writer
        self._process = process
        self._region = machine.state.plan.region
        self._inbox: queue.SimpleQueue[tuple[Event | None, futures.Future[None] | None]]
        self._inbox = queue.SimpleQueue()
        self.hands = make_hands(self.tell)
        self._fault = ""
        self._report = machine.report(writer.name, process)
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._guarded, name="coordinator", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def tell(self, event: Event) -> None:
        """Hand in an event; from any thread."""
        self._inbox.put((event, None))

    def tell_and_wait(self, event: Event, deadline_s: float) -> None:
        """Return when what follows from the event is durable and begun. Raises Unavailable."""
        done: futures.Future[None] = futures.Future()
        self._inbox.put((event, done))
        try:
            done.result(deadline_s)
        except futures.TimeoutError as late:
            raise Unavailable("the coordinator is busy") from late

    def stop(self, deadline_s: float) -> None:
        """Stop stepping and acting; the region stays as it is."""
        self._inbox.put((None, None))
        self._thread.join(deadline_s)
        self.hands.stop()

    def report(self) -> RegionReport:
        """The region as of less than `REPORT_S` ago."""
        return self._report

    def wait_for_change(self, seen: RegionReport, hold_s: float) -> RegionReport:
        """The next report that differs in more than counters, or the last one after `hold_s`."""
        with self._changed:
            self._changed.wait_for(lambda: _gist(self._report) != _gist(seen), hold_s)
            return self._report

    def audit(self, write: Callable[[], Any]) -> None:
        """Write to the store, however long it refuses; after STORE_S this process ends."""
        until = time.monotonic() + STORE_S
        while True:
            try:
                write()
                self._fault = ""
                return
            except StaleTerm as fault:
                self._end(f"deposed: {fault.message}")
            except ChimeraError as fault:
                if time.monotonic() >= until:
                    self._end(f"the store refuses to write: {fault.message}")
                self._fault = f"store of {self._writer.name}: {fault.message}"
                self._publish()
                time.sleep(STORE_AGAIN_S)

    def _guarded(self) -> None:
        # a broken invariant must end the process, so that its parent can act
        try:
            self._run()
        except BaseException:
            log.exception("%s ends", self._writer.name)
            self._end("its machine failed")

    def _run(self) -> None:
        for effect in self._machine.begin():
            self._do(effect)
        tick_s = self._machine.state.patience.health.tick_s
        due = reported = time.monotonic()
        while True:
            # what was said comes before the tick, or a busy inbox would look like silence
            for _ in range(EVENTS_MAX):
                try:
                    event, done = self._inbox.get(timeout=max(due - time.monotonic(), 0.0))
                except queue.Empty:
                    break
                if event is None:
                    return
                self._step(event)
                if done is not None:
                    self._publish()
                    done.set_result(None)
            now = time.monotonic()
            due = now + tick_s
            self._step(Tick())
            if now - reported >= REPORT_S:
                reported = now
                self._publish()

    def _step(self, event: Event) -> None:
        for effect in self._machine.step(event, time.monotonic()):
            self._do(effect)

    def _do(self, effect: Effect) -> None:
        match effect:
            case Persist(placement, audit, then):
                self.audit(
                    lambda: self._store.record(
                        time.time_ns() // 1_000_000,
                        writer=self._writer,
                        region=self._region,
                        seats=placement,
                        notes=audit,
                    )
                )
                for act in then:
                    self.hands.do(act)
                self._publish()
            case StepDown(reason):
                self._end(f"deposed: {reason}")
            case _:
                self.hands.do(effect)

    def _publish(self) -> None:
        report = self._machine.report(self._writer.name, self._process)
        if self._fault:
            report = _with_fault(report, self._fault)
        with self._changed:
            self._report = report
            self._changed.notify_all()

    def _end(self, why: str) -> None:
        log.error("%s, term %d, ends: %s", self._writer.name, self._writer.term, why)
        logging.shutdown()
        os._exit(1)


def _with_fault(report: RegionReport, fault: str) -> RegionReport:
    return replace(report, faults=(*report.faults, fault), own_faults=(fault,))


def _gist(report: RegionReport) -> tuple[Any, ...]:
    """What a watcher wants to hear of at once."""
    epochs = tuple(
        (leader.leader, leader.ready, tuple((s.shard, s.epoch, s.state) for s in leader.shards))
        for leader in report.leaders
    )
    return report.ready, report.generation, report.placement, report.faults, epochs
