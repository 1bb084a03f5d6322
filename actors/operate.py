"""How a person's orders come to a living swarm: to its orchestrator, and on to what follows."""

from __future__ import annotations

import time
from typing import Any

from chimera import names
from chimera.actors.access import CALL_S, LOOK_S, Progress, connect, left, quiet, status, who
from chimera.actors.boot import load_fault
from chimera.actors.cluster import Cluster
from chimera.errors import HandlerLoadError, NotFound, NotReady, Unavailable, WaitTimeout
from chimera.swarm import spec as specs
from chimera.swarm.orders import Order, Ordered, Preview, verb
from chimera.swarm.reports import SwarmStatus
from chimera.swarm.spec import Spec

#: for a spec to be durable; longer than the orchestrator's own patience, seconds
APPLY_S = 40.0
#: a fault of a load may be from before its cause was mended; one that lasts so long is one
LOAD_FAULT_S = 12.0


def preview(spec: Spec) -> Preview:
    """What `apply` would change and bring about. Raises NotFound, SpecError, Unavailable."""
    told: Preview = _ask(spec.name, "preview", specs.to_dict(spec), deadline_s=CALL_S)
    return told


def apply(spec: Spec) -> int:
    """Make it the declared state of its living swarm; returns its generation once it is durable.

    Raises NotFound, SpecError (the swarm cannot become that), and Unavailable if it is not known
    whether it was applied: to apply it again does no harm.
    """
    generation: int = _ask(spec.name, "apply", specs.to_dict(spec), who())
    return generation


def order(swarm: str, order: Order) -> Ordered:
    """Give an order; returns once it is durable.

    Raises NotFound, InvalidRequest, and Unavailable if it is not known whether it was taken.
    """
    told: Ordered = _ask(swarm, verb(order), order, who())
    return told


def wait(
    swarm: str, generation: int, timeout_s: float, on_progress: Progress = quiet
) -> SwarmStatus:
    """The status once the swarm is as a generation, or a later one, declares it.

    Raises WaitTimeout with what is missing, and HandlerLoadError if new workers cannot load their
    handlers: the swarm goes on meanwhile, with the workers that it has.
    """
    until, told = time.monotonic() + timeout_s, ""
    missing = "the orchestrator to answer"
    ailing_since: float | None = None
    while True:
        try:
            found = status(swarm, timeout_s=left(until))
        except Unavailable as fault:
            missing = fault.message
        else:
            behind = found.observed_generation < generation
            if found.ready and not found.pending and not behind:
                return found
            ailing = load_fault(found)
            ailing_since = (ailing_since or time.monotonic()) if ailing else None
            if ailing and ailing_since and time.monotonic() - ailing_since >= LOAD_FAULT_S:
                raise HandlerLoadError(ailing)
            missing = found.waiting_for or "; ".join(found.pending) or "all to take in the spec"
        if missing != told:
            on_progress(f"waiting for {missing}")
            told = missing
        if time.monotonic() >= until:
            raise WaitTimeout(f"not as declared in time; it goes on, and waits for {missing}")
        time.sleep(LOOK_S)


def _ask(swarm: str, method: str, *arguments: Any, deadline_s: float = APPLY_S) -> Any:
    connect()
    cluster = Cluster(names.namespace(swarm))
    until = time.monotonic() + deadline_s
    while True:
        handle = cluster.find(names.ORCHESTRATOR)
        if handle is None:
            raise NotFound(f"swarm {swarm!r} is not up here")
        try:
            return cluster.call(getattr(handle, method).remote(*arguments), left(until))
        except NotReady:  # it opens its store: nothing was done
            if time.monotonic() >= until:
                raise
            time.sleep(LOOK_S)
