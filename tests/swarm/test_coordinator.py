"""A coordinator on real Ray, with fake leaders: kill -9, SIGSTOP, its own death, stale terms."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chimera import names
from chimera.actors import processes
from chimera.actors.cluster import Cluster
from chimera.actors.coordinator import Coordinator
from chimera.errors import StaleTerm
from chimera.store.control import ControlStore
from chimera.swarm.reports import CoordinatorConfig, RegionReport, TakeOrder
from chimera.swarm.spec import RegionSpec, Spec, to_dict
from tests.swarm.fake_leader import FakeOrchestrator, journal, read_log

pytestmark = pytest.mark.cluster

NAME = names.coordinator("local")
A, B = names.leader("local", 0), names.leader("local", 1)
SHARDS = 4


def until(holds: Callable[[], Any], within_s: float = 150.0) -> Any:
    """Wait for a condition; what it returned at last."""
    end = time.monotonic() + within_s
    while not (found := holds()):
        assert time.monotonic() < end, "it did not come to hold"
        time.sleep(0.02)
    return found


class Region:
    """A coordinator and what it brings about."""

    def __init__(self, directory: Path, workers: int = 1) -> None:
        self.directory = directory
        self.swarm = f"t{uuid.uuid4().hex[:8]}"
        self.cluster = Cluster(names.namespace(self.swarm))
        self.spec = Spec(
            name=self.swarm,
            handlers=("none",),
            data_dir=str(directory),
            objects=str(directory / "objects"),
            shards=SHARDS,
            regions=(RegionSpec(name="local", leaders=2, workers=workers),),
        )
        self.seen: list[Any] = []
        self.start()

    def start(self) -> None:
        config = CoordinatorConfig(
            swarm=self.swarm,
            region="local",
            data_dir=str(self.directory),
            spec=to_dict(self.spec),
            generation=1,
            orchestrator=names.ORCHESTRATOR,
        )
        self.handle = self.cluster.create(
            Coordinator, NAME, config, "tests.swarm.fake_leader:FakeLeader"
        )

    def status(self) -> RegionReport:
        report: RegionReport = self.cluster.call(self.handle.status.remote(), 30.0)
        for leader in report.leaders:
            self.seen += [leader.process, *(worker.process for worker in leader.workers)]
        return report

    def settled(self) -> RegionReport | None:
        """The report, once both leaders have as many shards as the other."""
        report = self.status()
        spread = Counter(report.placement.values())
        even = len(report.leaders) == 2 and sorted(spread.values()) == [SHARDS // 2] * 2
        return report if report.ready and even else None

    def pid(self, leader: str) -> int:
        [found] = [one for one in self.status().leaders if one.leader == leader]
        return found.process.pid

    def log(self, what: str) -> list[dict[str, Any]]:
        return read_log(self.directory, what)

    def retire(self) -> None:
        self.status()
        self.cluster.call(self.handle.retire.remote(9), 60.0)
        self.cluster.kill(self.handle)


@pytest.fixture
def region(ray_cluster, tmp_path) -> Iterator[Region]:
    region = Region(tmp_path)
    until(region.settled)
    yield region
    region.retire()
    assert not [process for process in region.seen if processes.alive(process)]
    until(lambda: not region.cluster.names())


def test_a_killed_leaders_shards_are_ordered_before_it_is_made_again(region):
    pid, workers = region.pid(A), {w.name for w in _leader(region, A).workers}
    shards = {s for s, leader in region.status().placement.items() if leader == A}
    before = len(region.log("take"))
    os.kill(pid, signal.SIGKILL)
    until(lambda: len(region.log("made")) == 3)
    takes = [take for take in region.log("take")[before:] if take["leader"] == B]
    made = region.log("made")[-1]
    assert {take["shard"] for take in takes} == shards
    assert all(take["at"] < made["at"] for take in takes)
    assert all(workers <= set(take["former"]) for take in takes)
    assert {name for take in takes for name in take["adopt"]} == workers
    until(region.settled)
    assert region.pid(A) != pid
    assert not region.log("ended") or region.log("ended")[0]["name"] == A
    assert len(region.log("release")) == 2, "given back one by one, and no more than its share"
    assert region.status().failovers == 1


def test_a_stopped_leader_is_ended_by_those_who_take_its_shards(region):
    process = _leader(region, A).process
    os.kill(process.pid, signal.SIGSTOP)
    until(lambda: not processes.alive(process))
    assert region.log("ended")[0]["name"] == A
    until(region.settled)
    with journal(region.directory, 0) as content:
        assert content["epoch"] > 1


def test_leaders_outlive_their_coordinator_and_its_successor_keeps_them(region):
    before = region.status()
    pids = {leader.leader: leader.process.pid for leader in before.leaders}
    takes = len(region.log("take"))
    os.kill(before.process.pid, signal.SIGKILL)
    region.start()
    after = until(region.settled)
    assert {leader.leader: leader.process.pid for leader in after.leaders} == pids
    assert after.placement == before.placement
    assert after.term == before.term + 1
    assert len(region.log("take")) == takes
    handle = region.cluster.find(A)
    with pytest.raises(StaleTerm):
        region.cluster.call(handle.take.remote(TakeOrder(before.term, 0, 1)), 30.0)


def test_a_leader_that_dies_with_its_coordinator_is_failed_over_by_the_successor(region):
    before = region.status()
    workers = {w.name for w in _leader(region, A).workers}
    takes = len(region.log("take"))
    os.kill(before.process.pid, signal.SIGKILL)
    os.kill(next(one.process.pid for one in before.leaders if one.leader == A), signal.SIGKILL)
    region.start()
    until(region.settled)
    ordered = region.log("take")[takes:]
    assert any(workers <= set(take["former"]) for take in ordered)


def test_orders_of_a_former_orchestrator_are_refused_also_by_the_next_incarnation(region):
    call = region.cluster.call
    report = call(region.handle.watch.remote(names.ORCHESTRATOR, 5, 0.1), 30.0)
    assert report.region == "local"
    with pytest.raises(StaleTerm):
        call(region.handle.configure.remote(4, to_dict(region.spec), 2), 30.0)
    os.kill(region.status().process.pid, signal.SIGKILL)
    region.start()
    with pytest.raises(StaleTerm):
        call(region.handle.watch.remote(names.ORCHESTRATOR, 4, 0.1), 30.0)


def test_a_leader_that_cannot_be_made_is_a_fault_until_it_can(region):
    (region.directory / "fail").touch()
    os.kill(region.pid(A), signal.SIGKILL)
    faults = until(lambda: region.status().faults)
    assert "No space left on device" in faults[0]
    until(lambda: set(region.status().placement.values()) == {B})
    (region.directory / "fail").unlink()
    until(region.settled)
    assert not region.status().faults


def test_a_new_spec_is_durable_and_followed_when_configure_returns(region):
    spec = Spec(
        **{f: getattr(region.spec, f) for f in Spec.__struct_fields__}
        | {"regions": (RegionSpec(name="local", leaders=1),)}
    )
    region.cluster.call(region.handle.configure.remote(1, to_dict(spec), 2), 30.0)
    assert region.status().generation == 2
    until(lambda: [one.leader for one in region.status().leaders] == [A])
    assert "retire" in {entry["what"] for entry in region.log("retire")}
    until(lambda: region.status().ready)
    assert set(region.status().placement.values()) == {A}


def test_everything_done_was_audited_before_in_an_unbroken_chain(region):
    os.kill(region.pid(B), signal.SIGKILL)
    until(lambda: region.status().failovers)
    until(region.settled)
    store = ControlStore.open(region.directory / "coordinator-local.sqlite")
    try:
        actions = Counter(entry.action for entry in store.audit_entries(limit=1000))
        assert store.verify_audit() is None
        assert {seat.leader for seat in store.load_placement("local")} == {A, B}
    finally:
        store.close()
    assert actions["take"] >= len(region.log("take"))
    assert actions["make"] >= len(region.log("made")) >= 3
    assert actions["leader_lost"] >= 1


def test_placement_carries_handles_that_work(region):
    placement = region.cluster.call(region.handle.placement.remote(), 30.0)
    assert placement.ring == SHARDS
    assert set(placement.shards) == set(range(SHARDS))
    asked = placement.handles[A].watch.remote("test", placement.term, 0.0)
    report = region.cluster.call(asked, 30.0)
    assert report.leader == A


def test_a_silent_orchestrator_is_ended_and_restarted_by_ray(region):
    handle = region.cluster.create(FakeOrchestrator, names.ORCHESTRATOR, max_restarts=-1)
    try:
        pulse = region.cluster.call(handle.watch.remote("test", 0.0), 30.0)
        until(lambda: NAME in region.cluster.call(handle.watched_by.remote(), 30.0))
        os.kill(pulse.process.pid, signal.SIGSTOP)
        until(lambda: not processes.alive(pulse.process))
        store = ControlStore.open(region.directory / "coordinator-local.sqlite")
        entries = store.audit_entries(limit=1000)
        store.close()
        assert ("end", names.ORCHESTRATOR) in {(e.action, e.subject) for e in entries}
    finally:
        region.cluster.kill(handle)


def _leader(region: Region, name: str) -> Any:
    [found] = [one for one in region.status().leaders if one.leader == name]
    return found
