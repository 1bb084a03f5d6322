"""Bugs in workers, coordinators and clients: what is kept, who is asked, who is obeyed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chimera.client.lanes import Lane
from chimera.client.ports import Gone, NoOwner
from chimera.client.publish import Publisher
from chimera.sim.control import Actor, Store
from chimera.sim.coordinator import CoordinatorProcess
from chimera.sim.leader import LeaderProcess
from chimera.sim.pool import Pool
from chimera.sim.worker import WorkerProcess
from chimera.swarm import merge
from chimera.swarm.coordinator import leaders, seats
from chimera.swarm.health import Scrutiny
from chimera.swarm.leader.events import WorkerReady
from chimera.swarm.lobby import Lobby
from chimera.swarm.rosters import Numbering
from chimera.swarm.worker import Worker
from tests.planted.planting import after, before, bug


@bug("P5", "a worker forgets an outcome once it is handed over, not once it is recorded")
def outcome_kept_until_taken(patch: pytest.MonkeyPatch) -> None:
    def forget(serial: int, self: Any, *_: Any) -> int:
        self.outcomes.pop(serial)
        return serial

    after(patch, Worker, "hold", forget)


@bug("P6", "a worker begins what a former owner of the shard sent")
def former_owners_obeyed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Worker, "_refuse", lambda self, run, part: None)
    patch.setattr(Worker, "check", lambda self: None)


@bug("P6", "a worker runs what was taken back from it")
def taken_back_and_run(patch: pytest.MonkeyPatch) -> None:
    def forget(answer: Any, self: Any, *_: Any) -> Any:
        self.void = 0
        return answer

    after(patch, Worker, "take_back", forget)


@bug("P3", "a lease runs by the wall clock, which jumps")
def lease_by_the_wall_clock(patch: pytest.MonkeyPatch) -> None:
    def lapsed(self: Any, now: float) -> bool:
        if self._ticked is not None:
            self._unheard_s += now - self._ticked
        self._ticked = now
        return bool(self._unheard_s >= self.lease_s)

    real = WorkerProcess._tick

    def tick(self: Any) -> None:
        machine, host = self.machine, self.kernel.unix_ms(self.host) / 1000
        self.machine = _ByWall(machine, host)
        try:
            real(self)
        finally:
            self.machine = machine

    patch.setattr(Worker, "lapsed", lapsed)
    patch.setattr(WorkerProcess, "_tick", tick)


class _ByWall:
    """A worker's machine that is told the wall clock's time."""

    def __init__(self, machine: Worker, wall: float) -> None:
        self._machine, self._wall = machine, wall

    def __getattr__(self, name: str) -> Any:
        return getattr(self._machine, name)

    def lapsed(self, _: float) -> bool:
        return self._machine.lapsed(self._wall)


@bug("P2", "a leader takes a shard whatever epoch the order names: it ends a healthy owner")
def epoch_of_an_order_not_compared(patch: pytest.MonkeyPatch) -> None:
    real = LeaderProcess.take

    def changed(self: Any, order: Any) -> str:
        epoch = self.world.disks[order.shard].memory.epoch
        return real(self, replace(order, epoch=epoch))

    patch.setattr(LeaderProcess, "take", changed)


@bug("P2", "two coordinators of one region are both obeyed")
def stale_terms_obeyed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LeaderProcess, "_check_term", lambda self, term: None)
    patch.setattr(CoordinatorProcess, "heed", lambda self, term: None)
    real = Store.write
    patch.setattr(Store, "write", lambda self, term, audit: real(self, self.term, audit))


@bug("P2", "a new coordinator gives shards away before it has heard those who have them")
def owners_not_waited_for(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(seats, "_may_be_elsewhere", lambda state, now: False)


@bug("P6", "a new coordinator asks no worker of a leader whose name is in use again")
def strays_not_asked(patch: pytest.MonkeyPatch) -> None:
    real = CoordinatorProcess._survey
    patch.setattr(
        CoordinatorProcess, "_survey", lambda self, makers, living: real(self, (), living)
    )


@bug("P6", "a leader's workers change, and its roster keeps its number: nobody above learns of it")
def roster_keeps_its_number(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Numbering, "number", lambda self, workers: 1 + bool(workers))


@bug("G8", "counters of repeated reports are added up")
def counters_added(patch: pytest.MonkeyPatch) -> None:
    real = merge.join

    def changed(*tallies: Any) -> Any:
        found = list(real(*tallies))
        newest = tallies[-1]
        for reading in newest if len(tallies) > 1 else ():
            for index, known in enumerate(found):
                if (known.leader, known.incarnation) == (reading.leader, reading.incarnation):
                    summed = {
                        name: count + reading.counters.get(name, 0)
                        for name, count in known.counters.items()
                    }
                    found[index] = replace(known, counters=summed)
        return tuple(found)

    patch.setattr(merge, "join", changed)


@bug("G9", "a coordinator acts, and the audit log does not know of it")
def acts_without_an_audit(patch: pytest.MonkeyPatch) -> None:
    real = Actor.commit
    patch.setattr(Actor, "commit", lambda self, audit, then, do: real(self, (), then, do))


@bug("P11", "two publish calls of keyed frames are in flight for one shard")
def keyed_calls_overlap(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lane, "may_start", lambda self, now: len(self.flights) < 3)


@bug("P13", "a frame that may have been accepted is made again under another shard")
def sent_work_goes_elsewhere(patch: pytest.MonkeyPatch) -> None:
    def unheard(self: Any, flight: Any, fault: Any) -> None:
        if isinstance(fault, Gone):
            for frame in flight.frames:
                frame.refusal = NoOwner("nobody")

    real = Publisher._failed

    def changed(self: Any, flight: Any, fault: Any) -> None:
        real(self, flight, NoOwner("nobody") if isinstance(fault, Gone) else fault)

    before(patch, Publisher, "_failed", unheard)
    patch.setattr(Publisher, "_failed", changed)


@bug("P2", "a leader that was stopped before it took a shard ends whoever has it by then")
def stopped_taker_ends_the_newer_owner(patch: pytest.MonkeyPatch) -> None:
    real = LeaderProcess._end_former

    def changed(self: Any, order: Any) -> None:
        real(self, replace(order, epoch=self.world.disks[order.shard].memory.epoch))

    patch.setattr(LeaderProcess, "_end_former", changed)


@bug("G6", "a coordinator does not give a dead leader's shards away")
def dead_leaders_shards_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(leaders, "_take_from", lambda state, child, now, why: False)


@bug("P6", "a worker runs what its former leader sent, though another one has adopted it")
def former_leader_obeyed(patch: pytest.MonkeyPatch) -> None:
    begin = Worker.begin
    patch.setattr(
        Worker, "begin",
        lambda self, _, dispatch, parts: begin(self, self.incarnation, dispatch, parts),
    )  # fmt: skip


@bug("P9", "a cancel that reaches a worker before its task does is dropped")
def early_cancel_dropped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Worker, "cancelled", lambda self, part: [])


@bug("P3", "a leader that works is ended for a short silence")
def busy_leader_condemned(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Scrutiny, "condemns", lambda self, state, ticks, now: True)


@bug("P6", "a worker has a task before the coordinator knows it: nobody asks it at a takeover")
def new_worker_unknown(patch: pytest.MonkeyPatch) -> None:
    real = Lobby.pass_on

    def at_once(self: Any, event: Any, now: float) -> Any:
        return [event] if isinstance(event, WorkerReady) else real(self, event, now)

    patch.setattr(Lobby, "pass_on", at_once)


@bug("P7", "a worker takes a leader that was made again for its former self")
def leaders_known_by_their_names(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Pool, "sender", property(lambda self: self.name))
