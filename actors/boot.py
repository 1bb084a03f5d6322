"""A swarm's beginning and end: from a spec to actors that serve, and back to nothing at all."""

from __future__ import annotations

import contextlib
import importlib
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from chimera import names
from chimera.actors import backends, code
from chimera.actors.access import (
    CALL_S,
    LOOK_S,
    Progress,
    check_version,
    connect,
    left,
    quiet,
    status,
    who,
)
from chimera.actors.cluster import ActorGone, Cluster, NameTaken, Silent, on_this_node
from chimera.actors.down import down
from chimera.api import registry
from chimera.errors import (
    ChimeraError,
    HandlerLoadError,
    NotReady,
    SpecError,
    Unavailable,
    WaitTimeout,
)
from chimera.swarm import spec as specs
from chimera.swarm.reports import CoordinatorConfig, OrchestratorConfig, RegionReport, SwarmStatus
from chimera.swarm.spec import Spec

__all__ = ["Classes", "check_version", "connect", "down", "load_fault", "status", "up", "up_region"]

#: for a spec to be durable; longer than the orchestrator's own patience, seconds
APPLY_S = 40.0
#: for the GCS to make an actor, and a dead one to let go of its name, seconds
MAKE_S = 10.0
#: a fault of a swarm that lived before may be from before its cause was mended; it is tried again
#: at least every 10 s
OLD_FAULT_S = 12.0
#: a fault of a swarm that was just made is one
NEW_FAULT_S = 0.5


@dataclass(frozen=True, slots=True)
class Classes:
    """Where the actors' classes are, as `package.module:Class`; imported when they are made."""

    orchestrator: str = "chimera.actors.orchestrator:Orchestrator"
    coordinator: str = "chimera.actors.coordinator:Coordinator"
    results: str = "chimera.actors.results:Results"


_CLASSES = Classes()


def up(
    spec: Spec,
    *,
    timeout_s: float = 60.0,
    on_progress: Progress = quiet,
    classes: Classes = _CLASSES,
) -> SwarmStatus:
    """Bring a swarm up, or an existing one to `spec`; returns its status when it is ready.

    To do it again changes nothing. `on_progress` is told each step, and what is waited for.
    Raises HandlerLoadError, SpecError (the living swarm cannot become that), StoreMismatch,
    WrongVersion, BusUnauthorized, StoreRefused; and WaitTimeout, with what was missing, while the
    swarm goes on starting.
    """
    until = time.monotonic() + timeout_s
    check_version()
    with code.as_actors_see():
        types = len(registry.load(spec.handlers))
    on_progress(f"{types} task types in {', '.join(spec.handlers)}")
    backends.check(spec, on_progress)
    connect()
    cluster = Cluster(names.namespace(spec.name))
    handle, made = _orchestrator(cluster, spec, classes, until, on_progress)
    _ensure_results(cluster, spec, classes)
    _ensure_gates(cluster, spec)
    if not made:
        _apply(cluster, handle, spec, on_progress)
    found = _wait_until_ready(cluster, handle, made, until, on_progress)
    backends.wait(spec, until, on_progress)
    return found


def _orchestrator(
    cluster: Cluster, spec: Spec, classes: Classes, until: float, on_progress: Progress
) -> tuple[Any, bool]:
    """The orchestrator's handle once it knows its store, and whether it was made here."""
    config = OrchestratorConfig(
        swarm=spec.name,
        data_dir=spec.data_dir,
        spec=specs.to_dict(spec),
        order=f"{who()} {uuid.uuid4().hex}",
    )
    mine: Any = None
    told = ""
    while True:
        handle = cluster.find(names.ORCHESTRATOR)
        if handle is None:
            on_progress(f"making the orchestrator of {spec.name}, with its data in {spec.data_dir}")
            handle = mine = _make_orchestrator(cluster, classes, config)
        try:
            missing = "whoever else brings it up"
            if handle is not None:
                missing = "the orchestrator to answer"
                found = cluster.call(handle.status.remote(), min(CALL_S, left(until)))
                if mine is not None or not found.stopping:
                    return handle, mine is not None
                on_progress("it was being brought down: that comes to its end first")
                down(spec.name, timeout_s=left(until), on_progress=on_progress)
        except NotReady as fault:
            missing = fault.message
        except ActorGone as fault:  # its name goes only some moments after it
            if fault.details.get("init_failed"):
                reason = str(fault.details["reason"]).strip().splitlines()[-1]
                raise ActorGone(f"the orchestrator cannot start: {reason}") from fault
        except Silent:
            pass
        except ChimeraError:
            # it refuses for good: one that an earlier call left behind makes room for another try
            cluster.kill(handle)
            if mine is not None:
                raise
        if missing != told:
            on_progress(f"waiting for {missing}")
            told = missing
        _check_time(until, missing)
        time.sleep(LOOK_S)


def _make_orchestrator(cluster: Cluster, classes: Classes, config: OrchestratorConfig) -> Any:
    """The new orchestrator's handle; None if somebody else makes one at the same time."""
    try:
        return cluster.create(
            _load(classes.orchestrator),
            names.ORCHESTRATOR,
            config,
            classes.coordinator,
            max_restarts=-1,
            deadline_s=MAKE_S,
            # SQLite: its store is on this node, and nobody else's file of that name will do (P19)
            **on_this_node(),
            **code.options(),
        )
    except NameTaken:
        return None


def _ensure_results(cluster: Cluster, spec: Spec, classes: Classes) -> None:
    """P21: what answers for handles restarts by itself, and pending answers with it."""
    if cluster.find(names.RESULTS) is not None:
        return
    try:
        cluster.create(
            _load(classes.results),
            names.RESULTS,
            spec.name,
            max_restarts=-1,
            max_task_retries=-1,
            deadline_s=MAKE_S,
            **code.options(),
        )
    except NameTaken:
        return


def _ensure_gates(cluster: Cluster, spec: Spec) -> None:
    """What stands here for the leaders of regions in other Ray clusters."""
    for region in spec.regions:
        name = names.gate(region.name)
        if not region.link or cluster.find(name) is not None:
            continue
        from chimera.actors.gate import Gate  # gRPC: only where it is used

        with contextlib.suppress(NameTaken):
            cluster.create(Gate, name, region.link, max_restarts=-1, deadline_s=MAKE_S)


def up_region(
    spec: Spec,
    region: str,
    *,
    timeout_s: float = 60.0,
    on_progress: Progress = quiet,
    classes: Classes = _CLASSES,
) -> RegionReport:
    """Bring up one region that has a link, in this Ray cluster; returns its report when ready.

    Its coordinator listens at the region's link for the orchestrator, which is in another cluster,
    and is restarted by Ray. To do it again changes nothing. Raises SpecError if the region has no
    link, HandlerLoadError, WrongVersion, and WaitTimeout while it goes on starting.
    """
    until = time.monotonic() + timeout_s
    found = spec.region(region)
    if not found.link:
        raise SpecError(f"region {region} has no link: it is brought up with its swarm", key="link")
    check_version()
    with code.as_actors_see():
        registry.load(spec.handlers)
    backends.check(spec, on_progress)
    connect()
    cluster = Cluster(names.namespace(spec.name))
    config = CoordinatorConfig(
        swarm=spec.name, region=region, data_dir=spec.data_dir, spec=specs.to_dict(spec),
        generation=0, orchestrator="", listen=found.link,
    )  # fmt: skip
    if cluster.find(names.coordinator(region)) is None:
        on_progress(f"making the coordinator of region {region}, which listens at {found.link}")
        with contextlib.suppress(NameTaken):
            cluster.create(
                _load(classes.coordinator), names.coordinator(region), config,
                max_restarts=-1, deadline_s=MAKE_S, **on_this_node(), **code.options(),
            )  # fmt: skip
    _ensure_results(cluster, spec, classes)
    return _wait_for_region(cluster, region, until, on_progress)


def _wait_for_region(
    cluster: Cluster, region: str, until: float, on_progress: Progress
) -> RegionReport:
    missing = f"the coordinator of region {region} to answer"
    while True:
        handle = cluster.find(names.coordinator(region))
        if handle is not None:
            try:
                report: RegionReport = cluster.call(handle.status.remote(), CALL_S)
            except ActorGone as fault:
                if fault.details.get("init_failed"):
                    reason = str(fault.details["reason"]).strip().splitlines()[-1]
                    raise ActorGone(f"the coordinator cannot start: {reason}") from fault
            except Unavailable:
                pass
            else:
                if report.ready:
                    on_progress(f"ready: region {region}")
                    return report
                missing = f"the shards of region {region} to be served"
        _check_time(until, missing)
        time.sleep(LOOK_S)


def _apply(cluster: Cluster, handle: Any, spec: Spec, on_progress: Progress) -> None:
    now: SwarmStatus = cluster.call(handle.status.remote(), CALL_S)
    found = specs.from_dict(now.spec)
    spec = specs.carried_over(found, spec)
    differing = specs.changes(found, spec)
    if not differing:
        on_progress(f"already up: {spec.name}, generation {now.generation} of its spec")
        return
    specs.check_change(found, spec)
    for change in differing:
        on_progress(f"{change.key}: {change.old} → {change.new}")
    generation = cluster.call(handle.apply.remote(specs.to_dict(spec), who()), APPLY_S)
    on_progress(f"applied as generation {generation}")


def _wait_until_ready(
    cluster: Cluster, handle: Any, made: bool, until: float, on_progress: Progress
) -> SwarmStatus:
    told, missing = "", "the orchestrator to answer"
    patience_s = NEW_FAULT_S if made else OLD_FAULT_S
    ailing_since: float | None = None
    while True:
        try:
            found: SwarmStatus = cluster.call(handle.status.remote(), CALL_S)
        except Unavailable:  # it is being restarted, and answers again under the same handle
            _check_time(until, missing)
            time.sleep(LOOK_S)
            continue
        if found.ready:
            on_progress(f"ready: {found.summary}")
            return found
        missing = found.waiting_for
        if missing != told:
            on_progress(f"waiting for {missing}")
            told = missing
        fault = load_fault(found)
        if fault is None:
            ailing_since = None
        elif ailing_since is None:
            ailing_since = time.monotonic()
        elif time.monotonic() - ailing_since >= patience_s:
            raise HandlerLoadError(fault)
        _check_time(until, missing, found.faults)
        time.sleep(LOOK_S)


def load_fault(found: SwarmStatus) -> str | None:
    """Why the workers of the newest spec cannot load their handlers; None: they can, or may yet."""
    prefix = f"{HandlerLoadError.code}: "
    for report in found.regions.values():
        for leader in report.leaders:
            for fault in leader.faults:
                if prefix in fault and leader.generation == found.generation:
                    return f"workers of {leader.leader}: {fault.partition(prefix)[2]}"
    return None


def _check_time(until: float, missing: str, faults: Iterable[str] = ()) -> None:
    if time.monotonic() >= until:
        found = "; ".join(faults)
        raise WaitTimeout(
            f"the swarm is not ready in time; it goes on, and waits for {missing}"
            + (f"; faults: {found}" if found else "")
        )


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
