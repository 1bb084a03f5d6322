"""G3: redelivery of a task whose outcome is recorded runs nothing. Between start and record,
execution is at least once; `ctx.once(step, fn)` memoises an effect durably."""

from __future__ import annotations

import time

import msgspec
import pytest

from chimera.errors import IdConflict, from_wire
from chimera.frames import command
from chimera.store.protocol import Receipt
from tests.guarantees.kit import Lines, notes, open_gate, until

pytestmark = pytest.mark.cluster


def test_a_frame_that_is_sent_again_runs_nothing(swarm):
    log, gate = swarm.dir / "log", swarm.dir / "gate"
    leader = swarm.leaders()[swarm.region().placement[0]].leader
    handle = swarm.cluster.find(leader)
    head = command.Head("work", swarm.client.tenant, at=int(time.time() * 1000))

    def send(**payload: object) -> object:
        blob = msgspec.json.encode({"log": str(log), "n": 1, "gate": str(gate), **payload})
        frame = command.pack(1 << 63 | 5, 0, 40, command.encode_head(head), [blob], None)
        (answer,) = swarm.cluster.call(handle.append.remote(0, frame), 60)
        return answer

    first = send()
    until(Lines(log))
    running = send()
    open_gate(gate)
    task_id = notes(log)[0].task_id
    assert swarm.client.handle(task_id).result(timeout_s=60) == 1
    ended = send()
    other = send(n=2)

    assert isinstance(first, Receipt)
    assert not first.duplicate
    for again in (running, ended):
        assert isinstance(again, Receipt)
        assert (again.duplicate, again.position) == (True, first.position)
    assert isinstance(from_wire(other), IdConflict)
    assert swarm.client.call("echo", 1, key="behind", timeout_s=60) == 1
    assert len(notes(log)) == 1


def test_an_effect_is_done_once_through_a_failover_and_a_retry(swarm):
    log, gate = swarm.dir / "log", swarm.dir / "gate"
    key = "account"
    leader = swarm.owner_of(key)
    task = swarm.client.submit("charge", {"log": str(log), "gate": str(gate), "fails": 1}, key=key)
    until(lambda: notes(log, "waits"))
    swarm.kill(leader.process)  # the early effect is stored there, the late one cannot be
    open_gate(gate)

    found = task.result(timeout_s=100)
    assert found["attempt"] == 2
    assert found["early"]["attempt"] == found["late"]["attempt"] == 1
    assert len(notes(log, "early")) == len(notes(log, "late")) == 1
