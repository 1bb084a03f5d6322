"""Submitting: a key that is used again gives the same task, whoever uses it, and no id is ever
given twice (PROTOCOL P12, P14)."""

from __future__ import annotations

import json
import os
import threading
from typing import Any

import pytest
import ray

import chimera
from chimera.errors import ChimeraError, IdempotencyConflict
from tests.guarantees.kit import notes, until

pytestmark = pytest.mark.cluster


@ray.remote(num_cpus=0)
def _submit_elsewhere(swarm: str, tenant: str, payload: Any, times: int) -> list[str]:
    """Submit from another process, each time as a client of its own."""
    found = []
    for _ in range(times):
        with chimera.connect(swarm, tenant, timeout_s=60) as client:
            found.append(client.submit("work", payload, idempotency_key="order 7").id)
    return found


def test_ten_clients_at_once_with_one_idempotency_key_make_one_task(swarm):
    log = swarm.dir / "log"
    payload = {"log": str(log), "n": 1}
    tenant = swarm.client.tenant
    elsewhere = [_submit_elsewhere.remote(swarm.name, tenant, payload, 2) for _ in range(2)]
    here: list[str] = []
    start = threading.Barrier(6)

    def submit() -> None:
        start.wait(60)
        here.append(swarm.client.submit("work", payload, idempotency_key="order 7").id)

    threads = [threading.Thread(target=submit, daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    ids = here + [one for found in ray.get(elsewhere, timeout=100) for one in found]

    assert len(ids) == 10
    assert len(set(ids)) == 1
    assert swarm.client.handle(ids[0]).result(timeout_s=60) == 1
    assert len(notes(log)) == 1
    later = swarm.client.submit("work", payload, idempotency_key="order 7")
    assert (later.id, later.duplicate, later.result(timeout_s=60)) == (ids[0], True, 1)
    assert len(notes(log)) == 1
    with pytest.raises(IdempotencyConflict):
        swarm.client.submit("work", {**payload, "n": 2}, idempotency_key="order 7")


def test_in_a_bulk_a_repeated_key_is_an_alias_and_a_conflict_fails_alone(swarm):
    first = swarm.client.submit("echo", "a", idempotency_key="one")
    bulk = swarm.client.submit_many(
        "echo", ["a", "b", "c", "c"], idempotency_key=["one", "two", "two", "three"]
    )
    assert bulk[0].id == first.id
    assert bulk[1].result(timeout_s=60) == "b"
    with pytest.raises(IdempotencyConflict):
        bulk[2].result(timeout_s=60)
    assert bulk[3].result(timeout_s=60) == "c"
    assert (bulk.wait(60).duplicates, bulk.wait(60).refused) == (1, 1)


def test_a_forked_child_never_uses_an_id_of_its_parents_and_is_told_to_connect_anew(swarm):
    mine = swarm.client.submit("echo", 1).id
    session = swarm.client.core.session
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # nothing of Ray's threads is here: say what is found, and go
        found: dict[str, Any] = {"session": session.bits}
        for name, work in (
            ("submit", lambda: swarm.client.submit("echo", 2)),
            ("connect", lambda: chimera.connect(swarm.name)),
        ):
            try:
                work()
                found[name] = "done"
            except ChimeraError as fault:
                found[name] = fault.message
            except BaseException as fault:
                found[name] = f"{type(fault).__name__}: {fault}"
        os.write(write, json.dumps(found).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as told:
        until(lambda: os.waitpid(child, os.WNOHANG)[0] == child)
        found = json.loads(told.read())
    assert found["session"] != session.bits
    assert "fork" in found["submit"]
    assert "fork" in found["connect"]
    # and the parent goes on as if nothing had happened
    assert swarm.client.submit("echo", 3).result(timeout_s=60) == 3
    assert swarm.client.handle(mine).result(timeout_s=60) == 1
