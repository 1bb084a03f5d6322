"""Checks of `chimera doctor` on what a swarm does not bring itself."""

from __future__ import annotations

import os
from collections.abc import Iterator

from chimera.bus.connect import connect
from chimera.errors import BusUnauthorized, BusUnavailable, ChimeraError, RegistryFault
from chimera.store.blobs import Blobs
from chimera.swarm.spec import Spec
from chimera.traffic.topics import GROUP, topics

#: for a broker to answer, seconds
BUS_S = 5.0
#: records of commands that wait, from which on a person should look
WAITING_MAX = 100_000

#: state, what was seen, how to mend it
Seen = tuple[str, str, str]


def look_at_bus(spec: Spec) -> Iterator[Seen]:
    """What is wrong with the broker; `fsync` stands for a swarm that means to lose nothing."""
    wanted = topics(spec.name, spec.shards, spec.readers)
    try:
        bus = connect(spec.bus)
    except ChimeraError as fault:
        yield "fail", fault.message, "see `bus` in the spec"
        return
    try:
        production = spec.durability == "fsync"
        serious = 0
        for one in bus.check(tuple(wanted), BUS_S, production):
            serious += one.serious
            yield "fail" if one.serious else "warn", f"{one.subject}: {one.problem}", one.remedy
        if serious:
            return
        waiting = sum(bus.lag(wanted.commands, GROUP, BUS_S).values())
        if waiting > WAITING_MAX:
            yield "warn", f"{waiting:,} records of commands wait", "is the swarm up, and not full?"
        yield "ok", f"{spec.shards} partitions of commands, {waiting:,} records wait", ""
    except BusUnauthorized as fault:
        yield "fail", fault.message, "see user and password in `bus`, and the broker's permissions"
    except BusUnavailable as fault:
        yield "fail", fault.message, "see that the broker runs, and host and port in `bus`"
    except ChimeraError as fault:
        yield "fail", fault.message, "`chimera bus provision` makes topics that are missing"
    finally:
        bus.close(BUS_S)


def look_at_store(spec: Spec) -> Iterator[Seen]:
    """Whether the database can hold the swarm, and keeps what it acknowledges."""
    from chimera.store.postgres.look import look  # its drivers are an extra

    try:
        yield from look(spec.store, spec.name, spec.shards)
    except ChimeraError as fault:
        yield (
            "fail",
            fault.message,
            "see that the server runs, and `store` in the spec, or PGPASSWORD",
        )


def look_at_registry(url: str) -> Iterator[Seen]:
    """Whether the schema registry answers and takes the swarm's events."""
    from chimera.contracts import schemas
    from chimera.contracts.remote import RemoteRegistry, shown

    remote = RemoteRegistry(url)
    refused = []
    try:
        remote.call("GET", "subjects", limit=1)
        for versions in schemas.published().values():
            newest = versions[-1]
            path = f"compatibility/subjects/{newest.subject}/versions"
            try:
                if not remote.call("POST", path, {"schema": newest.text})["is_compatible"]:
                    refused.append(newest.subject)
            except RegistryFault as fault:
                if fault.status != 404:  # a subject that is not there yet
                    raise
    except ChimeraError as fault:
        yield "fail", fault.message, "see that it runs, and `registry` in the spec"
        return
    finally:
        remote.close()
    for subject in refused:
        yield "fail", f"{subject}: what is registered is incompatible", "who registered it there?"
    if not refused:
        yield "ok", f"{shown(url)} answers and takes the swarm's events", ""


def look_at_objects(spec: Spec) -> Seen:
    """Whether large payloads can be stored, read and removed."""
    probe = b"chimera doctor " + os.urandom(16).hex().encode()
    try:
        blobs = Blobs(spec.objects)
        claim = blobs.put(probe)
        if blobs.get(claim) != probe:
            return "fail", f"{spec.objects} gives back other bytes", "use another store"
        blobs.delete(claim)
    except ChimeraError as fault:
        return "fail", fault.message, "see `objects` in the spec, and the store's credentials"
    return "ok", f"{spec.objects} stores, reads and removes", ""
