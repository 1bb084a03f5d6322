"""The region link between two ends in one process, without Ray: refusals, silence, reconnecting."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import Future
from typing import Any

import pytest

from chimera.actors.cluster import Cluster, Reply, Silent
from chimera.actors.control.remote import RemoteRegion, _translate
from chimera.actors.control.server import LinkServer
from chimera.actors.control.v1 import control_pb2 as pb
from chimera.actors.watch import Watch
from chimera.errors import InvalidRequest, StaleTerm, Unavailable
from chimera.swarm import rosters
from chimera.swarm.reports import LeaderReport, Owner, Placement, RegionReport, WorkerInfo
from chimera.swarm.rosters import Known

OWNER = Owner("leader/far/0", "boot", 1, 4711, 99, "node")
LEADER = LeaderReport(
    "leader/far/0", OWNER, 3, True, (), (WorkerInfo("worker/far/0/a", OWNER, None),), {},
    incarnation=2**62, roster=5,
)  # fmt: skip
REPORT = RegionReport(
    "coordinator/far", "far", 2, OWNER, 3, True, (LEADER,), {1: "leader/far/0"}, 4
)


class FakeRegion:
    """A coordinator without anything below it."""

    def __init__(self) -> None:
        self.orders: list[Any] = []
        self.stale = False
        self.hold = threading.Event()

    def watch(self, orchestrator: str, term: int, hold_s: float, known: Known) -> RegionReport:
        if self.stale:
            raise StaleTerm("there is term 9", term=9)
        self.hold.wait(min(hold_s, 0.05))
        return rosters.brief(REPORT, known)

    def configure(self, term: int, spec: dict[str, Any], generation: int) -> None:
        self.orders.append((term, spec, generation))

    def retire(self, term: int) -> None:
        self.orders.append(("retire", term))

    def placement(self) -> Placement:
        return Placement(term=2, shards={1: "leader/far/0"}, handles={}, ring=4)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def link(free_port: int) -> tuple[FakeRegion, str]:
    region, endpoint = FakeRegion(), f"127.0.0.1:{free_port}"
    LinkServer(region, endpoint, lambda: region.orders.append("left"))
    return region, endpoint


def until(holds: Any, within_s: float = 20.0) -> None:
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_orders_and_reports_pass(link: tuple[FakeRegion, str]) -> None:
    region, endpoint = link
    far, cluster = RemoteRegion(endpoint), Cluster("none")
    assert cluster.call(far.watch.remote("orchestrator", 3, 0.1), 5.0) == REPORT
    brief = cluster.call(far.watch.remote("orchestrator", 3, 0.1, rosters.known(REPORT)), 5.0)
    assert brief.leaders[0].workers == ()
    assert rosters.whole(brief, REPORT) == REPORT
    cluster.call(far.configure.remote(3, {"name": "x", "n": [1]}, 4), 5.0)
    assert region.orders == [(3, {"name": "x", "n": [1]}, 4)]
    assert cluster.call(far.placement.remote(), 5.0).shards == {1: "leader/far/0"}
    cluster.call(far.retire.remote(3), 5.0)
    until(lambda: region.orders[-1] == "left")
    far.close()


def test_a_refusal_arrives_as_the_error_that_it_was(link: tuple[FakeRegion, str]) -> None:
    region, endpoint = link
    region.stale = True
    far = RemoteRegion(endpoint)
    with pytest.raises(StaleTerm, match="there is term 9") as caught:
        Cluster("none").call(far.watch.remote("orchestrator", 3, 0.1), 5.0)
    assert caught.value.details == {"term": 9}
    with pytest.raises(Unavailable, match="no leader of the region has shard 3"):
        far.ask("cancel", 3, ("t", 1, 3, 2, "why"), 5.0)
    with pytest.raises(InvalidRequest, match="nonsense"):
        _ask_raw(far)
    far.close()


def test_a_question_is_given_up_when_nobody_expects_an_answer(free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)):  # takes connections, and says nothing
        far = RemoteRegion(f"127.0.0.1:{free_port}")
        asked: list[int] = []

        def gives_up() -> bool:
            asked.append(1)
            return len(asked) == 2

        with pytest.raises(Silent, match="does not answer"):
            far.ask("types", None, (), 600.0, gives_up)
        far.close()


def _ask_raw(far: RemoteRegion) -> None:
    """A verb that this version's own end would not let pass."""
    try:
        far._stub.Ask(pb.AskRequest(verb="nonsense", shard=1), timeout=5.0)
    except Exception as fault:
        raise _translate(fault) from fault


def test_the_watch_goes_on_when_the_other_side_comes_back(free_port: int) -> None:
    far = RemoteRegion(f"127.0.0.1:{free_port}")
    heard: list[Any] = []
    lost: list[Any] = []
    watch = Watch(
        Cluster("none"), lambda: far.watch.remote("orchestrator", 1, 0.1), heard.append, lost.append
    )
    watch.start()
    with pytest.raises(Silent):
        Cluster("none").call(far.placement.remote(), 5.0)
    LinkServer(FakeRegion(), f"127.0.0.1:{free_port}", lambda: None)
    until(lambda: len(heard) > 2)
    assert not lost
    watch.stop()
    far.close()


@pytest.mark.parametrize("endpoint", ["0.0.0.0:7443", "10.1.2.3:7443", "example.org:7443", ":1"])
def test_nothing_but_loopback_is_listened_at_or_called(endpoint: str) -> None:
    with pytest.raises(InvalidRequest, match="not on loopback"):
        LinkServer(FakeRegion(), endpoint, lambda: None)
    with pytest.raises(InvalidRequest, match="not on loopback"):
        RemoteRegion(endpoint)


def test_a_port_that_is_taken_is_an_error(link: tuple[FakeRegion, str]) -> None:
    with pytest.raises(Unavailable, match="cannot listen"):
        LinkServer(FakeRegion(), link[1], lambda: None)


def test_an_answer_that_does_not_come_is_silence() -> None:
    with pytest.raises(Silent):
        Cluster("none").call(Reply(Future()), 0.01)
