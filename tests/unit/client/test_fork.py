"""After a fork neither Ray nor our thread lives on: a child is told so, and makes no id twice."""

from __future__ import annotations

import threading

import pytest

from chimera.client import connection
from chimera.client.swarm import Swarm
from chimera.errors import ChimeraError
from tests.unit.client.fake import FakeLeaders, core
from tests.unit.client.test_session import in_child


@pytest.fixture
def swarm():
    leaders = FakeLeaders()
    leaders.handler = lambda payload: payload
    made = core(leaders)
    yield Swarm(made, "default", made.close)
    made.close()


def refusal(work) -> str:
    try:
        return repr(work())
    except ChimeraError as error:
        return f"{type(error).__name__}: {error}"


def test_a_forked_child_is_refused_with_the_reason(swarm):
    handle = swarm.submit("echo", 1)
    verbs = [
        lambda: swarm.submit("echo", 1),
        lambda: swarm.call("echo", 1),
        lambda: swarm.submit_many("echo", [1]),
        lambda: swarm.get(handle.id),
        lambda: swarm.types(),
        handle.result,
        handle.cancel,
        lambda: handle.ref,
    ]
    for verb in verbs:
        assert "forked after it connected" in in_child(lambda verb=verb: refusal(verb))
    assert handle.result(10) == 1  # the parent goes on


def test_a_result_that_was_heard_before_the_fork_is_known_in_the_child(swarm):
    handle = swarm.submit("echo", {"a": 1})
    handle.result(10)
    assert in_child(lambda: handle.result()) == "{'a': 1}"


def test_ids_of_parent_and_child_differ(swarm):
    bits = swarm.core.session.bits
    assert in_child(lambda: swarm.core.session.bits) != str(bits)


def test_a_child_may_close_what_it_inherited(swarm):
    assert in_child(swarm.close) == "None"


def test_a_child_of_a_connected_process_cannot_connect(swarm, monkeypatch):
    shared = {"test": connection._Shared(swarm.core, "connection")}
    monkeypatch.setattr(connection, "_shared", shared)
    said = in_child(lambda: refusal(lambda: connection.connect("test", address="127.0.0.1:1")))
    assert "does not survive a fork" in said


def test_a_child_forked_while_another_thread_connects_is_not_stuck():
    with connection._lock:
        assert in_child(lambda: connection._lock.acquire(timeout=5)) == "True"


def test_threads_of_the_parent_are_no_part_of_the_child(swarm):
    swarm.submit("echo", 1)
    names = in_child(lambda: [thread.name for thread in threading.enumerate()])
    assert "chimera-client" not in names
