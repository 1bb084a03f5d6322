"""Checks of `chimera doctor` on what a swarm does not bring itself."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from chimera.bus.connect import connect
from chimera.errors import (
    BusUnauthorized,
    BusUnavailable,
    ChimeraError,
    InvalidRequest,
    RegistryFault,
)
from chimera.store.blobs import Blobs
from chimera.swarm.spec import Spec
from chimera.traffic.topics import GROUP, topics

#: for a broker to answer, seconds
BUS_S = 5.0
#: records of commands that wait, from which on a person should look
WAITING_MAX = 100_000

_CERTIFICATE = re.compile("certificate|handshake|rejected SSL", re.IGNORECASE)
#: by scheme of an object store: where its credentials and its address are taken from
_ENVIRONMENT = {
    "s3": ("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT and AWS_REGION"),
    "gs": ("GOOGLE_SERVICE_ACCOUNT", "`objects` in the spec"),
    "az": ("AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ENDPOINT"),
}

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
    except ChimeraError as fault:
        yield "fail", fault.message, _mend_bus(fault)
    finally:
        bus.close(BUS_S)


def _mend_bus(fault: ChimeraError) -> str:
    if _CERTIFICATE.search(fault.message):
        return (
            "`?ca=PATH` in `bus` names the authority of the broker's certificate, `bus` the host"
            " that is in it, and the port of TLS"
        )
    if isinstance(fault, BusUnauthorized):
        return "see user and password in `bus`, and the broker's permissions"
    if isinstance(fault, BusUnavailable):
        return (
            "see that the broker runs, host and port in `bus`, and whether that port speaks TLS:"
            " kafka+ssl://, amqps://"
        )
    return "`chimera bus provision` makes topics that are missing"


def look_at_store(spec: Spec) -> Iterator[Seen]:
    """Whether the database can hold the swarm, and keeps what it acknowledges."""
    from chimera.store.postgres.look import look  # its drivers are an extra

    try:
        yield from look(spec.store, spec.name, spec.shards)
    except ChimeraError as fault:
        yield "fail", fault.message, _mend_store(fault, spec.store)


def _mend_store(fault: ChimeraError, url: str) -> str:
    if _CERTIFICATE.search(fault.message):
        return "see `sslmode` and `sslrootcert=PATH` in `store`, and whether the server speaks TLS"
    if "refuses user or password" in fault.message:
        return "see user and password in `store`, or PGPASSWORD"
    if "no such database" in fault.message:
        return f"make it: createdb {urlsplit(url).path.strip('/')}"
    return "see that the server runs, and host and port in `store`"


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
        return "fail", fault.message, _mend_objects(fault, spec.objects)
    return "ok", f"{spec.objects} stores, reads and removes", ""


def _mend_objects(fault: ChimeraError, url: str) -> str:
    scheme, bucket, *_ = urlsplit(url)
    keys, where = _ENVIRONMENT.get(scheme, ("its rights", "`objects`"))
    if "no such bucket" in fault.message:
        return f"make the bucket {bucket}" + (f": aws s3 mb s3://{bucket}" * (scheme == "s3"))
    if "credentials" in fault.message:
        return f"see {keys}, and that they may write, read and delete there"
    if isinstance(fault, InvalidRequest):
        return "see `objects` in the spec: a directory, s3://, gs:// or az://"
    return f"see that the store answers, and {where}"
