"""Whether a swarm's broker and database take us: asked before a swarm is brought up, and after."""

from __future__ import annotations

import time

from chimera.actors.access import Progress
from chimera.bus.connect import connect
from chimera.errors import BusUnavailable, StoreRefused, Unavailable, WaitTimeout
from chimera.swarm.spec import Spec
from chimera.traffic.topics import topics

#: for a broker to answer, seconds
ANSWER_S = 5.0
#: between two questions to one that does not, seconds
AGAIN_S = 0.5


def check(spec: Spec, on_progress: Progress) -> None:
    """Raise what nobody but a person can mend: BusUnauthorized, StoreRefused, InvalidRequest.

    A server that does not answer is none of that: it may be on its way up, as the swarm is.
    """
    for look in (_store, _bus):
        try:
            look(spec)
        except StoreRefused:
            raise
        except Unavailable as away:
            on_progress(f"not there yet: {away.message}")


def wait(spec: Spec, until: float, on_progress: Progress) -> None:
    """Return when the broker takes records. Raises BusUnauthorized; WaitTimeout with the reason."""
    told = ""
    while True:
        try:
            return _bus(spec)
        except BusUnavailable as away:
            reason = away.message
        if reason != told:
            on_progress(f"waiting for the broker: {reason}")
            told = reason
        if time.monotonic() >= until:
            raise WaitTimeout(f"the swarm is up, and its broker is not: {reason}")
        time.sleep(AGAIN_S)


def _bus(spec: Spec) -> None:
    if not spec.bus:
        return
    bus = connect(spec.bus)
    try:
        bus.check(tuple(topics(spec.name, spec.shards, spec.readers)), ANSWER_S)
    finally:
        bus.close(ANSWER_S)


def _store(spec: Spec) -> None:
    if spec.store:
        from chimera.store.postgres.look import reach  # its driver is an extra

        reach(spec.store)
