"""The orchestrator's actor: its machine in a loop, its store, and the calls of those who steer it.

It has no parent, so that Ray restarts it; all that it must know afterwards is in its store, or told
by the coordinators that live on meanwhile.
"""

from __future__ import annotations

import itertools
import logging
import os
import queue
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

import ray
from ray.actor import ActorHandle

from chimera import names
from chimera.actors import processes
from chimera.actors.broker import open_broker
from chimera.actors.cluster import Cluster, own_name
from chimera.actors.orchestrator_hands import Hands
from chimera.actors.schemas import SchemaHome
from chimera.errors import (
    ChimeraError,
    NotReady,
    SpecError,
    StaleTerm,
    StoreMismatch,
    Unavailable,
    WrongVersion,
    from_wire,
)
from chimera.store.control import ControlStore, Identity, Term
from chimera.swarm import merge
from chimera.swarm import spec as specs
from chimera.swarm.orchestrator import Orchestrator as Machine
from chimera.swarm.orchestrator import view
from chimera.swarm.orchestrator.effects import Answer, Effect, Persist
from chimera.swarm.orchestrator.events import Apply, Event, Operate, Stop, Tick
from chimera.swarm.orchestrator.start import check_store, declare
from chimera.swarm.orders import Drain, Ordered, Pause, Preview, Resume, Scale
from chimera.swarm.reports import OrchestratorConfig, OrchestratorPulse, Placement, SwarmStatus

log = logging.getLogger(__name__)

#: the control store's file in the data directory
STORE = "control"
#: a store that refuses to write for this long ends the incarnation, seconds
STORE_S = 30.0
#: between two tries to open or write it, seconds
AGAIN_S = 0.2
#: actors that died just now may still be listed, seconds
BURIAL_S = 3.0
#: for the loop to take in a spec and make it durable, seconds
APPLY_S = 35.0
#: for everything below to end; longer than the machine's own patience, seconds
STOP_S = 90.0
#: for a coordinator to say who has which shard, seconds
PLACEMENT_S = 2.0
#: what no further try can mend: every call raises it, and nothing is done
_REFUSALS = (SpecError, StoreMismatch, WrongVersion)


@ray.remote(  # type: ignore[call-overload]  # Ray's stubs know neither option for classes
    concurrency_groups={"watch": 16, "ctl": 4, "read": 8}, enable_task_events=False
)
class Orchestrator:
    """Holds a swarm's spec and keeps its coordinators alive (G8, G9).

    Every method but `watch` raises NotReady until the store is open, and StoreMismatch, SpecError
    or WrongVersion for ever if it cannot be this swarm's.
    """

    def __init__(
        self,
        config: OrchestratorConfig,
        coordinator_class: str = "chimera.actors.coordinator:Coordinator",
    ) -> None:
        self._config = config
        self._class = coordinator_class
        self._name = own_name()
        self._process = processes.identity(self._name)
        self._cluster = Cluster(names.namespace(config.swarm))
        self._inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._causes = itertools.count()
        self._waiting: dict[int, Future[Ordered | None]] = {}
        self._lock = threading.Lock()  #: of the machine
        self._uuid = ""
        self._term = 0
        self._machine: Machine | None = None
        self._fault: ChimeraError = NotReady("the orchestrator opens its store")
        self._store_fault = ""
        self._never = threading.Event()
        threading.Thread(target=self._guarded, name="orchestrator", daemon=True).start()

    @ray.method(concurrency_group="watch")
    def watch(self, coordinator: str, hold_s: float) -> OrchestratorPulse:
        """A sign of life after `hold_s`, for coordinators (P19)."""
        self._never.wait(hold_s)
        return OrchestratorPulse(self._term, self._process)

    @ray.method(concurrency_group="read")
    def status(self) -> SwarmStatus:
        """The swarm as it is seen now."""
        with self._lock:
            machine = self._opened()
            children = machine.children.values()
            own = (self._store_fault,) if self._store_fault else ()
            now = time.monotonic()
            machine.look(now)
            return SwarmStatus(
                swarm=self._config.swarm,
                uuid=self._uuid,
                term=self._term,
                process=self._process,
                generation=machine.generation,
                spec=specs.to_dict(machine.spec),
                summary=specs.summary(machine.spec),
                regions={c.region: c.report for c in children if c.report is not None},
                ready=machine.ready,
                since=_unix_ms() - round((time.monotonic() - machine.ready_since) * 1000),
                waiting_for=machine.waiting_for(),
                stopping=bool(machine.stopping),
                faults=(*machine.faults(), *own),
                own_faults=own,
                children=view.children(machine, now),
                observed_generation=view.observed_generation(machine),
                conditions=machine.conditions.told(now, _unix_ms()),
                pending=view.pending(machine),
                slos=machine.budgets.told(now),
            )

    @ray.method(concurrency_group="read")
    def placement(self) -> Placement:
        """Who has which shard in all regions that answer: a hint (P2)."""
        with self._lock:
            spec = self._opened().spec
        # regions behind a link are known by their gates
        near = [h for h in self._hands.handles().values() if isinstance(h, ActorHandle)]
        refs = [handle.placement.remote() for handle in near]
        answers = self._cluster.call_all(refs, PLACEMENT_S)
        found = [answer for answer in answers if isinstance(answer, Placement)]
        return Placement(
            term=sum(one.term for one in found),
            shards=merge.owners(found),
            handles={name: handle for one in found for name, handle in one.handles.items()},
            ring=spec.shards,
            objects_url=spec.objects,
            payload_max_bytes=spec.payload_max_bytes,
            bus=spec.bus,
            registry=spec.registry,
        )

    @ray.method(concurrency_group="read")
    def registry(self, op: str, arguments: dict[str, Any]) -> Any:
        """Carry out an operation of the schema registry. Raises RegistryFault."""
        with self._lock:
            self._opened()
        return self._schemas.call(op, arguments)

    @ray.method(concurrency_group="ctl")
    def apply(self, spec: dict[str, Any], by: str) -> int:
        """Bring about another spec; returns its generation once it is durable.

        Raises SpecError if the swarm cannot become that, Unavailable if it is not known whether it
        was applied: to apply it again does no harm.
        """
        wanted = specs.from_dict(spec)
        return self._declare(lambda cause: Apply(cause, wanted, by)).generation

    @ray.method(concurrency_group="read")
    def preview(self, spec: dict[str, Any]) -> Preview:
        """What `apply` of this spec would change and bring about. Raises SpecError."""
        wanted = specs.from_dict(spec)
        with self._lock:
            return view.preview(self._opened(), wanted)

    @ray.method(concurrency_group="ctl")
    def drain(self, order: Drain, by: str, expected: tuple[int, ...] = ()) -> Ordered:
        """Let a leader or a worker finish and go, or end that; returns once it is durable.

        Raises NotFound, InvalidRequest, PreconditionFailed if the spec's generation is none of
        those `expected` (empty: any will do), and what `apply` raises; so do the three below.
        """
        return self._declare(lambda cause: Operate(cause, order, by, expected))

    @ray.method(concurrency_group="ctl")
    def pause(self, order: Pause, by: str, expected: tuple[int, ...] = ()) -> Ordered:
        """Start no more tasks of some types or tenants."""
        return self._declare(lambda cause: Operate(cause, order, by, expected))

    @ray.method(concurrency_group="ctl")
    def resume(self, order: Resume, by: str, expected: tuple[int, ...] = ()) -> Ordered:
        """Start tasks of some types or tenants again."""
        return self._declare(lambda cause: Operate(cause, order, by, expected))

    @ray.method(concurrency_group="ctl")
    def scale(self, order: Scale, by: str, expected: tuple[int, ...] = ()) -> Ordered:
        """Give a region another number of leaders, or of workers a leader."""
        return self._declare(lambda cause: Operate(cause, order, by, expected))

    @ray.method(concurrency_group="ctl")
    def stop(self, by: str) -> None:
        """End everything below; returns when it has ended. The caller ends this process.

        Raises Unavailable if it takes too long; it goes on then.
        """
        self._ask(lambda cause: Stop(cause, by), STOP_S)

    # inside

    def _opened(self) -> Machine:
        if self._machine is None:
            # a new one each time: one that is raised again and again grows its traceback
            raise from_wire(self._fault.to_wire())
        return self._machine

    def _declare(self, make: Callable[[int], Event]) -> Ordered:
        answer = self._ask(make, APPLY_S)
        assert answer is not None
        return answer

    def _ask(self, make: Callable[[int], Event], deadline_s: float) -> Ordered | None:
        with self._lock:
            self._opened()
        cause = next(self._causes)
        answer: Future[Ordered | None] = Future()
        self._waiting[cause] = answer
        self._inbox.put(make(cause))
        try:
            return answer.result(deadline_s)
        except FutureTimeout as late:
            raise Unavailable("the orchestrator is busy with its store") from late
        finally:
            self._waiting.pop(cause, None)

    def _guarded(self) -> None:
        # a broken invariant must end the process, so that Ray can start it anew
        try:
            begun = self._boot()
            if begun is not None:
                self._run(begun)
        except BaseException:
            log.exception("the orchestrator ends")
            self._end("its machine failed")

    # starting

    def _boot(self) -> list[Effect] | None:
        """Open the store, however long it takes; None if it is not ours."""
        while True:
            try:
                return self._open()
            except _REFUSALS as refusal:
                log.error("the orchestrator refuses to start: %s", refusal.message)
                self._fault = refusal
                return None
            except ChimeraError as fault:
                self._fault = NotReady(f"the orchestrator cannot start yet: {fault.message}")
            time.sleep(AGAIN_S)

    def _open(self) -> list[Effect]:
        config = self._config
        url = specs.from_dict(config.spec).store
        store = ControlStore.of(url, config.swarm, STORE, config.data_dir)
        try:
            identity = self._identity(store)
            self._uuid = identity.uuid
            found = store.spec()
            stored = (found.generation, specs.from_dict(found.body)) if found else None
            ordered = specs.from_dict(config.spec)
            declared = declare(stored, ordered, store.has_order(config.order))
            self._term = store.draw_term(self._name)
            self._schemas = SchemaHome(store.registry_log(), declared.spec.registry)
        except BaseException:
            store.close()
            raise
        self._store = store
        self._hands = Hands(
            self._cluster, config.swarm, self._term, self._inbox.put, self._on_deposed, self._class
        )
        machine = Machine(declared, self._term, config.order)
        begun = machine.begin(time.monotonic())
        self._persist(begun[0])
        with self._lock:
            self._machine = machine
        spec = machine.spec
        if spec.bus:
            bus = open_broker(
                spec.bus, spec.name, spec.shards, spec.readers, self._name, registry=spec.registry
            )
            from chimera.actors.newsroom import Newsroom

            Newsroom(bus, self._name, store)
        return begun[1:]

    def _identity(self, store: ControlStore) -> Identity:
        """Whose store it is; an empty one becomes this swarm's, if nothing of it lives."""
        until = time.monotonic() + BURIAL_S
        while True:
            identity = store.identity()
            try:
                owner = identity.name if identity else None
                alive = self._cluster.names() if identity is None else ()
                check_store(self._config.swarm, owner, alive, self._config.data_dir)
            except StoreMismatch:
                if identity is not None or time.monotonic() >= until:
                    raise
                time.sleep(AGAIN_S)
            else:
                return identity or store.found(str(uuid.uuid4()), self._config.swarm)

    # running

    def _run(self, begun: list[Effect]) -> None:
        machine = self._opened()
        for effect in begun:
            self._do(effect)
        tick_s = machine.patience.health.tick_s
        due = time.monotonic() + tick_s
        while True:
            try:
                event = self._inbox.get(timeout=max(due - time.monotonic(), 0.001))
            except queue.Empty:
                event = Tick()
                due = time.monotonic() + tick_s
            with self._lock:
                effects = machine.step(event, time.monotonic())
            for effect in effects:
                self._do(effect)

    def _do(self, effect: Any) -> None:
        match effect:
            case Persist():
                self._persist(effect)
            case Answer(cause, value, error):
                waiting = self._waiting.get(cause)
                if waiting is not None and error is None:
                    waiting.set_result(value)
                elif waiting is not None:
                    waiting.set_exception(error)
            case _:
                self._hands.do(effect)

    def _persist(self, effect: Any) -> None:
        spec = (effect.spec[0], specs.to_dict(effect.spec[1])) if effect.spec else None
        until = time.monotonic() + STORE_S
        while True:
            try:
                self._store.record(
                    _unix_ms(),
                    writer=Term(self._name, self._term),
                    spec=spec,
                    by=effect.by,
                    notes=effect.audit,
                )
                break
            except StaleTerm as fault:
                self._end(f"deposed: {fault.message}")
            except ChimeraError as fault:
                if time.monotonic() >= until:
                    self._end(f"the store refuses to write: {fault.message}")
                self._store_fault = f"control store: {fault.message}"
                time.sleep(AGAIN_S)
        self._store_fault = ""
        for act in effect.then:
            self._do(act)

    def _on_deposed(self, fault: StaleTerm) -> None:
        """A coordinator heard of a higher term: of a successor, or from before the store was lost.

        In the second case the next incarnation draws a term that is higher still.
        """
        heard = fault.details.get("term")
        if isinstance(heard, int):
            try:
                self._store.heed_term(self._name, heard)
            except ChimeraError:
                log.exception("term %d cannot be remembered", heard)
        self._end(f"deposed: {fault.message}")

    def _end(self, why: str) -> None:
        log.error("the orchestrator, term %d, ends: %s", self._term, why)
        logging.shutdown()
        os._exit(1)


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000
