"""A new worker gets no task before the coordinator knows it (P6)."""

from __future__ import annotations

from chimera.swarm.leader.events import Board, Tick, WorkerFailed, WorkerLost, WorkerReady
from chimera.swarm.lobby import UNASKED_S, Listed, Lobby
from chimera.swarm.reports import Owner, WorkerInfo
from chimera.swarm.rosters import Numbering


def ready(worker: str) -> WorkerReady:
    return WorkerReady(worker, ())


def infos(*names: str) -> tuple[WorkerInfo, ...]:
    return tuple(WorkerInfo(name, Owner(name, "boot", 1, 1, 1, "node"), None) for name in names)


def test_a_new_worker_waits_until_it_is_listed() -> None:
    lobby = Lobby("mine")
    assert lobby.pass_on(ready("mine-1"), 0.0) == []
    assert lobby.pass_on(Listed(("mine-2",)), 0.1) == []
    assert lobby.pass_on(Listed(("mine-1",)), 0.2) == [ready("mine-1")]
    assert lobby.overdue(100.0) == []


def test_one_that_was_listed_before_it_is_ready_waits_for_nothing() -> None:
    lobby = Lobby("mine")
    lobby.pass_on(Listed(("mine-1",)), 0.0)
    assert lobby.pass_on(ready("mine-1"), 0.1) == [ready("mine-1")]


def test_an_adopted_worker_is_known_already_and_all_else_passes() -> None:
    lobby = Lobby("mine")
    assert lobby.pass_on(ready("other-1"), 0.0) == [ready("other-1")]
    assert lobby.pass_on(Tick({}), 0.0) == [Tick({})]


def test_a_worker_that_dies_in_the_lobby_is_not_let_in_afterwards() -> None:
    lobby = Lobby("mine")
    for loss in (WorkerLost("mine-1", Board(0, None, 0)), WorkerFailed("mine-1", "no")):
        lobby.pass_on(ready("mine-1"), 0.0)
        assert lobby.pass_on(loss, 0.1) == [loss]
        assert lobby.pass_on(Listed(("mine-1",)), 0.2) == []
        assert lobby.overdue(100.0) == []
        lobby.pass_on(loss, 0.3)


def test_where_no_coordinator_asks_it_is_let_in_after_a_while() -> None:
    lobby = Lobby("mine")
    lobby.pass_on(ready("mine-1"), 0.0)
    assert lobby.overdue(UNASKED_S) == []
    assert lobby.overdue(UNASKED_S + 0.1) == [ready("mine-1")]
    assert lobby.overdue(100.0) == []


def test_a_roster_tells_once_which_workers_its_asker_knows() -> None:
    numbering = Numbering()
    first = numbering.number(infos("a", "b"))
    second = numbering.number(infos("b", "c"))
    assert numbering.heard(None, 7) == ()
    assert numbering.heard((6, second), 7) == (), "of a former incarnation"
    assert numbering.heard((7, first - 1), 7) == ()
    assert numbering.heard((7, first), 7) == ("b",), "a has left"
    assert numbering.heard((7, first), 7) == ()
    assert numbering.heard((7, second), 7) == ("c",)
