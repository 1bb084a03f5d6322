"""What `up` makes of versions, addresses and reports, without a cluster."""

from __future__ import annotations

import pytest
import ray

from chimera.actors import boot
from chimera.errors import NotReady, WrongVersion
from chimera.swarm.reports import LeaderReport, Owner, RegionReport, SwarmStatus

PROCESS = Owner("x", "boot", 1, 4711, 99, "node")


def status(*faults, generation=1, of_leader=1):
    leader = LeaderReport("leader/eu/0", PROCESS, of_leader, False, (), (), {}, faults)
    region = RegionReport("coordinator/eu", "eu", 1, PROCESS, 1, False, (leader,), {}, 0)
    return SwarmStatus(
        "local", "uuid", 1, PROCESS, generation, {}, "", {"eu": region}, False, 0, "", False
    )


def test_a_module_that_workers_cannot_load_is_a_fault_to_end_the_wait():
    found = boot.load_fault(status("shard 1: slow", "handler_load_error: module 'a': no b"))
    assert found == "workers of leader/eu/0: module 'a': no b"


def test_other_faults_may_pass():
    assert boot.load_fault(status("actor_gone: the actor is dead")) is None


def test_a_fault_of_a_former_spec_says_nothing():
    fault = "handler_load_error: module 'a': no b"
    assert boot.load_fault(status(fault, generation=2, of_leader=1)) is None


def test_every_process_of_a_swarm_is_known_from_its_status():
    assert status().processes() == (PROCESS, PROCESS)


def connecting(monkeypatch, fault):
    def init(**_):
        raise fault

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)


def test_without_ray_it_is_said_how_to_start_one(monkeypatch):
    connecting(monkeypatch, ConnectionError("nobody there"))
    with pytest.raises(NotReady, match=r"no Ray at '10\.0\.0\.1:6379'.*ray start --head"):
        boot.connect("10.0.0.1:6379")


def test_a_ray_of_another_version_is_told_from_other_faults(monkeypatch):
    connecting(monkeypatch, RuntimeError("Version mismatch: The cluster was started with 2.59"))
    with pytest.raises(WrongVersion, match=r"2\.59"):
        boot.connect()
    connecting(monkeypatch, RuntimeError("something else"))
    with pytest.raises(RuntimeError, match="something else"):
        boot.connect()
