"""A simulated leader: the machine of chimera.swarm.leader, its journals and its workers.

It carries out what actors/leader.py, leader_loop.py, shards.py, recorder.py and pool.py do, in the
same order: what is durable before it is told there is so here. Between a decision, its commit and
the answer lies time in which the process may be stopped or killed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chimera import names
from chimera.errors import (
    ChimeraError,
    Fenced,
    NotFound,
    NotOwner,
    NotReady,
    StaleEpoch,
    StaleTerm,
    StoreFull,
    Unavailable,
)
from chimera.frames import command
from chimera.sim.disk import SimJournal
from chimera.sim.kernel import Reply
from chimera.sim.shelf import Hosted, Shelf
from chimera.store import opened
from chimera.store.protocol import Receipt
from chimera.swarm import rosters
from chimera.swarm.leader import LeaderMachine, effects, events
from chimera.swarm.leader.events import Instant
from chimera.swarm.lobby import Listed, Lobby
from chimera.swarm.reports import (
    LeaderConfig,
    LeaderReport,
    ShardInfo,
    TakeOrder,
)
from chimera.swarm.rosters import Known, Numbering

if TYPE_CHECKING:
    from chimera.sim.world import World


class LeaderProcess(Shelf):
    """One leader process."""

    def __init__(self, world: World, name: str, host: str, config: LeaderConfig) -> None:
        super().__init__(world, name, host, config)
        self.kernel.born(self)
        self.term = 0
        self.number = 0
        self.numbering = Numbering()
        self.lobby = Lobby(names.worker(name, f"{self.pid:x}"))
        self.hosted: dict[int, Hosted] = {}
        self.watchers: list[Callable[[], None]] = []
        self.machine = LeaderMachine(
            name, names.worker(name, f"{self.pid:x}"), workers=config.workers,
            ring=config.shards, policies=config.policies, checked=world.plan.checked,
        )  # fmt: skip
        self.later(0.0, lambda: self.step(events.Configured(config)))
        self._tick()

    # the loop

    def _tick(self) -> None:
        self.later(self.world.plan.leader_tick_s, self._tick)
        self.overdue()
        boards = {
            name: link.process.board
            for name, link in self.links.items()
            if link.own and not link.lost
        }
        for late in self.lobby.overdue(self.kernel.now):
            self.kernel.counters["coordinator_unheard"] += 1
            self.run_step(late)
        self.run_step(events.Tick(boards))

    def run_step(self, event: events.Event) -> None:
        if not self.alive:
            return
        if isinstance(event, events.Held) and not event.silent:
            event = self.with_parked(event)
        now = Instant(self.kernel.now, self.kernel.unix_ms(self.host))
        made = self.machine.step(event, now)
        if made or not isinstance(event, events.Tick):
            done = " ".join(type(one).__name__ for one in made)
            self.kernel.note(self.name, f"{type(event).__name__} -> {done}")
        for effect in made:
            self._do(effect)

    def _do(self, effect: effects.Effect) -> None:
        match effect:
            case effects.Send():
                self.send(effect)
            case effects.Record(shard):
                hosted = self.recording(shard)
                if hosted is None:
                    self.later(0.0, lambda: self.step(events.ShardLost(shard)))
                else:
                    hosted.records.append(effect)
                    self._write(shard, hosted)
            case effects.Collect(worker, through):
                self.collect(worker, through)
            case effects.TellRecorded(worker, serials):
                self.tell(worker, lambda process: process.recorded(serials))
            case effects.TellCancelled(worker, shard, position):
                self.tell(worker, lambda process: process.cancel(shard, position))
            case effects.PollHeld(worker, shard, epoch):
                self.poll_held(worker, shard, epoch)
            case effects.ReadDue():
                self.read_due(effect)
            case effects.Spawn(worker):
                self.spawn_soon(worker)
            case effects.Kill(worker):
                self.end_worker(worker)
            case effects.Retire(worker):
                self.tell(worker, lambda process: process.retire())
            case effects.CloseShard(shard):
                self.drop(shard)
                self.announce()
            case _:
                raise AssertionError(f"the simulator does not know {effect}")

    # journals

    def _write(self, shard: int, hosted: Hosted) -> None:
        """All that is queued in one transaction, one transaction at a time."""
        if hosted.writing or not hosted.records:
            return
        hosted.writing = True
        batch, hosted.records = hosted.records, []
        self.later(hosted.journal.disk.latency(), lambda: self._commit(shard, hosted, batch))

    def _commit(self, shard: int, hosted: Hosted, batch: list[effects.Record]) -> None:
        hosted.writing = False
        told: list[events.Event]
        try:
            if self.hosted.get(shard) is not hosted:
                raise NotOwner("the journal is closed")
            settlement = opened.joined([one.settlement for one in batch])
            settled = hosted.journal.settle(settlement, self.kernel.unix_ms())
        except StoreFull:
            told = [events.RecordRefused(shard, one.token) for one in batch]
        except ChimeraError as fault:
            self.kernel.counters["settle_fenced"] += isinstance(fault, Fenced)
            if self.hosted.get(shard) is hosted:
                self.drop(shard)
                told = [events.ShardLost(shard)]
            else:
                told = []
        else:
            told = []
            already = settled.already
            for one in batch:
                tasks = opened.tasks(one.settlement)
                masked = min(already, tasks)
                already -= masked
                told.append(events.Recorded(shard, one.token, tasks - masked))
        # a process may die between a commit and what rests on it
        self.later(self.kernel.dice(0.001), lambda: self._all(told))
        self._write(shard, hosted)

    def _all(self, told: list[events.Event]) -> None:
        for event in told:
            self.step(event)

    # clients

    def append(self, shard: int, frames: Sequence[bytes], reply: Reply) -> None:
        """Accept frames: the answer comes after the commit."""
        hosted = self.hosted.get(shard)
        if hosted is None or hosted.state != "serving":
            reply([NotOwner("not served here").to_wire()] * len(frames))
        elif not self.ready:
            reply([NotReady("no worker is ready", retry_after=0.2).to_wire()] * len(frames))
        else:
            wait_s = hosted.journal.disk.latency()
            self.later(wait_s, lambda: self._append(shard, hosted, frames, reply))

    def _append(self, shard: int, hosted: Hosted, frames: Sequence[bytes], reply: Reply) -> None:
        now = self.kernel.unix_ms()
        try:
            answers = hosted.journal.append(frames, now, self.config.queue_bound)
        except StaleEpoch:
            self.kernel.counters["append_fenced"] += 1
            if self.hosted.get(shard) is hosted:
                self.drop(shard)
                self.step(events.ShardLost(shard))
            reply([NotOwner("it has a new owner").to_wire()] * len(frames))
            return
        except ChimeraError as fault:
            if not isinstance(fault, StoreFull) and self.hosted.get(shard) is hosted:
                # what was written is not known: read it again, as its owner (P22)
                self.drop(shard)
                self.step(events.ShardLost(shard))
            reply([fault.to_wire()] * len(frames))
            return
        out: list[Receipt | dict[str, Any]] = []
        for frame, answer in zip(frames, answers, strict=True):
            if isinstance(answer, ChimeraError):
                out.append(answer.to_wire())
                continue
            out.append(answer)
            if not answer.duplicate:
                self._accepted(shard, frame, answer)
        reply(out)

    def _accepted(self, shard: int, frame: bytes, receipt: Receipt) -> None:
        new = opened.new_frame(frame, command.head(frame), receipt)
        accepted = receipt.count - len(receipt.skipped)
        self.world.oracle.accepted(shard, frame, receipt)
        if accepted:
            self.step(
                events.Appended(
                    shard, (new,) if new.ranges else (), accepted, opened.earliest(frame, receipt)
                )
            )

    def outcomes(self, shard: int, ranges: Sequence[tuple[int, int]]) -> Any:
        """What is recorded. Raises NotOwner."""
        return self.journal(shard).outcomes(ranges, 1 << 40)

    def memoise(self, shard: int, position: int, step: str, value: bytes, reply: Reply) -> None:
        """What `ctx.once` stores; the first one wins (P18)."""
        journal = self.journal(shard)
        wait_s = journal.disk.latency()

        def write() -> None:
            try:
                reply(journal.memoise(position, step, value))
            except NotFound:
                reply(value)
            except ChimeraError as fault:
                reply(fault)

        self.later(wait_s, write)

    # the coordinator

    def _check_term(self, term: int) -> None:
        if term < self.term:
            self.kernel.counters["stale_term_refused"] += 1
            raise StaleTerm(f"term {term} is over: there is {self.term}")
        self.term = term

    def _obey(self, term: int) -> None:
        self._check_term(term)
        self.world.oracle.obeyed(f"{self.name}#{self.pid}", term)

    def watch(self, term: int, hold_s: float, known: Known, reply: Reply) -> None:
        """Heartbeat and status, without the roster that is known. Raises StaleTerm."""
        self._obey(term)
        listed = self.numbering.heard(known.get(self.name), self.pid)
        if listed:
            self.step(Listed(listed))
        sent = False

        def answer() -> None:
            nonlocal sent
            if not sent:
                sent = True
                reply(rosters.brief(self.report(), known))

        self.watchers.append(answer)
        self.later(hold_s, answer)

    def announce(self) -> None:
        watchers, self.watchers = self.watchers, []
        for answer in watchers:
            self.deliver(answer)

    def report(self) -> LeaderReport:
        self.number += 1
        self.watchers = self.watchers[-2:]
        state = self.machine.state
        shards = tuple(
            ShardInfo(
                number, hosted.journal.epoch, hosted.state,
                state.shards[number].open if number in state.shards else 0,
            )
            for number, hosted in sorted(self.hosted.items())
        )  # fmt: skip
        workers = tuple(link.process.info for link in self.links.values() if link.own)
        return LeaderReport(
            self.name, self.owner, self.config.generation, self.ready, shards, workers,
            dict(state.counters), tuple(state.faults.values()), 0.0, self.pid, self.number,
            {}, self.config.revision, state.worker_target,
            roster=self.numbering.number(workers), brand=state.incarnation,
        )  # fmt: skip

    def take(self, order: TakeOrder) -> str:
        """Take a shard over (P2). Raises StaleTerm, StaleEpoch."""
        self._obey(order.term)
        if order.shard in self.hosted:
            return "ok"
        journal = SimJournal(self.world.disks[order.shard], self)
        epoch, former = journal.owner()
        if epoch != order.epoch:
            self.kernel.counters["stale_order_refused"] += 1
            by = former.name if former is not None else ""
            raise StaleEpoch("another epoch", epoch=epoch, shard=order.shard, owner=by)
        if former is not None and former.generation > order.generation:
            self.kernel.counters["stale_generation_refused"] += 1
            raise NotOwner("a newer spec gave it to another region")
        self.hosted[order.shard] = Hosted(journal, "taking")
        self.later(journal.disk.latency(), lambda: self._end_former(order))
        self.world.taking(self)
        return "ok"

    def _end_former(self, order: TakeOrder) -> None:
        """A working process is given time (P3), a stopped one is not."""
        hosted = self.hosted.get(order.shard)
        if hosted is None:
            return
        epoch, former = hosted.journal.owner()
        if epoch != order.epoch:
            self._take_lost(order.shard)
            return
        process = self.kernel.alive(former) if former is not None else None
        wait_s = 0.0
        if process is not None and process.host != self.host:
            self.kernel.counters["taken_from_another_region"] += 1  # fenced out, not ended
        elif process is not None and process is not self:
            wait_s = 0.0 if process.paused else 2.0
            self.later(wait_s, lambda: self.world.oracle.end_owner(process, f"by {self.name}"))
        self.later(wait_s + self.kernel.dice(0.02), lambda: self._taken(order, hosted))

    def _taken(self, order: TakeOrder, hosted: Hosted) -> None:
        if self.hosted.get(order.shard) is not hosted:
            return
        journal = hosted.journal
        try:
            journal.take(order.epoch, replace(self.owner, generation=order.generation))
        except Unavailable:
            self.drop(order.shard)
            self.announce()
            return
        except StaleEpoch:
            self._take_lost(order.shard)
            return
        self.world.oracle.taken(self.name, order.shard, order.epoch)
        recovered = journal.recover()
        frames = tuple(opened.reopened(journal, found) for found in recovered.open)
        first = journal.due(0, 1 << 62, 1)
        hosted.state = "serving"
        self.kernel.counters["takeover"] += 1
        for info in order.former_workers:
            self.adopt(info, info.name in order.adopt)
        self.step(
            events.Taken(
                order.shard, journal.epoch, frames, recovered.holding, recovered.cancelling,
                recovered.open_tasks, first[0].due if first else None,
                tuple(info.name for info in order.former_workers),
            )
        )  # fmt: skip
        self.announce()

    def _take_lost(self, shard: int) -> None:
        """Another leader has raised the epoch since the order was checked."""
        self.kernel.counters["take_lost"] += 1
        self.drop(shard)
        self.announce()

    def release(self, term: int, shard: int, finish: bool) -> None:
        """Hand a shard over, if `finish` after what runs of it. Raises StaleTerm."""
        self._obey(term)
        hosted = self.hosted.get(shard)
        if hosted is not None:
            hosted.state = "draining"
        self.kernel.counters["release_finishes"] += finish
        self.step(events.ReleaseAsked(shard, finish))

    def configure(self, term: int, config: LeaderConfig) -> None:
        """Work by new settings. Raises StaleTerm."""
        self._obey(term)
        self.config = config
        self.step(events.Configured(config))

    def retire(self, term: int) -> None:
        """End: workers first, then the journals. Raises StaleTerm."""
        self._obey(term)
        for link in list(self.links.values()):
            if link.own:
                self.kernel.kill(link.process, "its leader retires")
        for shard in list(self.hosted):
            self.drop(shard)
