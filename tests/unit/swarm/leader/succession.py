"""Leaders that follow each other in one world: each finds a journal, and workers that live on.

A worker keeps what it has finished until an owner says that it is recorded, and tells a new owner
what it holds and runs (P5, P6). Whatever was on its way to the dead leader is lost.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from chimera.frames import outcome
from chimera.swarm.facts import Scheduled
from chimera.swarm.leader import LeaderMachine, effects, events
from chimera.swarm.leader.events import Arrived, Board, NewFrame
from chimera.swarm.policy import TaskPolicy
from tests.unit.swarm.leader.world import EPOCH, FakeWorker, Run, World


class Succession(World):
    """One shard, and one leader after the other. `mute`: how often a worker does not answer."""

    def __init__(self, seed: int, *, mute: float = 0.0, **options: Any) -> None:
        self.reign = 0
        self.mute = mute
        self.kept: dict[str, dict[int, bytes]] = {}
        #: runs of dead leaders that a worker has in hand
        self.former: dict[int, int] = {}
        self.adopted: set[str] = set()  #: by the leader that lives
        #: how often an attempt of a task ended
        self.ended: Counter[tuple[int, int]] = Counter()
        super().__init__(seed, **options)

    # the shell

    def do(self, effect: effects.Effect) -> None:
        match effect:
            case effects.Send(name, _, recorded, _):
                self.forget(name, recorded)
                super().do(effect)
            case effects.TellRecorded(name, serials):
                self.forget(name, serials)
            case effects.PollHeld(name):
                self.asked(name)
            case _:
                super().do(effect)

    def policies(self) -> tuple[TaskPolicy, ...]:
        return (self.options["policy"], *self.options.get("policies", ()))

    def forget(self, name: str, serials: tuple[int, ...]) -> None:
        for serial in serials:
            self.kept.get(name, {}).pop(serial, None)

    def hand_in(self, run: Run, stop: int | None = None) -> tuple[Arrived, ...]:
        found = super().hand_in(run, stop)
        kept = self.kept.setdefault(run.worker, {})
        kept.update((item.serial, item.frame) for item in found)
        return found

    def crash(self, name: str) -> None:
        self.kept.pop(name, None)
        self.adopted.discard(name)
        super().crash(name)

    # a leader dies

    def failover(self) -> None:
        """Another leader takes the shard; it asks all workers that live."""
        self.reign += 1
        self.inbox.clear()
        self.adopted.clear()
        workers, ring = self.machine.state.worker_target, 1
        self.machine = LeaderMachine(
            f"leader/r/{self.reign}", f"w{self.reign}", workers=workers, ring=ring, checked=True
        )
        frames = [frame for each in self.frames if (frame := self.reopened(each)).ranges]
        holding = [
            Scheduled(p, due, attempt, True, *self.told(p))
            for p, (due, attempt, holds) in sorted(self.parked.items())
            if holds
        ]
        next_due = min((due for due, _, _ in self.parked.values()), default=None)
        left = self.position - len(self.outcomes)
        former = tuple(self.workers)
        self.step(
            events.Taken(
                0, EPOCH + self.reign, tuple(frames), tuple(holding), (), left, next_due, former
            )
        )

    def told(self, position: int) -> tuple[str | None, str, str, int]:
        """Key, type, tenant and priority of a task."""
        tenant, key = "default", self.keys[position]
        if key is not None:
            tenant, key = key.split("/", 1)
        return key, self.types[position][0], tenant, self.types[position][1]

    def reopened(self, frame: NewFrame) -> NewFrame:
        """What of an accepted frame is to be run."""
        ranges: list[tuple[int, int]] = []
        for p in range(frame.position, frame.position + frame.count):
            if p in self.outcomes or p in self.parked:
                continue
            if ranges and ranges[-1][1] == p:
                ranges[-1] = (ranges[-1][0], p + 1)
            else:
                ranges.append((p, p + 1))
        return replace(frame, ranges=tuple(ranges))

    # workers

    def asked(self, name: str) -> None:
        worker = self.workers.get(name)
        if worker is None:
            self.later(events.WorkerLost(name, None))
            return
        if self.random.random() < self.mute or worker.hung:
            self.later(events.Held(name, 0, silent=True))
            return
        if name not in self.adopted:
            self.adopt(name, worker)
            self.later(events.WorkerReady(name, self.policies()))
        running = tuple((run.tasks()[-1][1], 1) for run in worker.queue if id(run) in self.former)
        kept = tuple(Arrived(*one) for one in sorted(self.kept.get(name, {}).items()))
        ended = [h.position for item in kept if (h := outcome.header(item.frame)).count == 1]
        asked = (*(position for position, _ in running), *ended)
        parked = tuple(self.due_frame(p) for p in dict.fromkeys(asked) if p in self.parked)
        self.later(events.Held(name, 0, kept, running, parked=parked, policies=self.policies()))

    def run_one(
        self, name: str, worker: FakeWorker, run: Run, item: effects.Item, position: int
    ) -> bool:
        ended = super().run_one(name, worker, run, item, position)
        if ended and run.states[-1] != outcome.OPEN:
            self.ended[position, item.attempt] += 1
        return ended

    def adopt(self, name: str, worker: FakeWorker) -> None:
        """Work of the dead leader that has not begun is dropped; the task in hand goes on."""
        self.adopted.add(name)
        begun = [
            run for run in worker.queue if run.flight <= worker.begun or id(run) in self.former
        ]
        worker.queue, worker.begun, worker.void = [], 0, 0
        for run in begun:
            while run.ordinal < len(run.tasks()) and self.is_blocked(run):
                run.states.append(outcome.OPEN)
                run.ordinal += 1
            in_hand = run.ordinal < len(run.tasks()) and (
                id(run) in self.former or self.random.random() < 0.7
            )
            self.hand_in(run)
            cut(run, run.ordinal + in_hand)
            if in_hand:
                worker.queue.append(run)
                self.former[id(run)] = self.reign

    def is_blocked(self, run: Run) -> bool:
        """Whether an earlier task of the next one's key failed."""
        key = self.keys[run.tasks()[run.ordinal][1]]
        return key is not None and key in run.broken_keys

    def work(self, name: str) -> None:
        worker = self.workers[name]
        run = worker.queue[0] if worker.queue else None
        if run is None or id(run) not in self.former:
            self.lost_reply(name, worker)
            return
        if self.random.random() < 0.2:
            item, position = run.tasks()[-1]
            worker.queue.pop(0)
            del self.former[id(run)]
            worker.queue.insert(0, run)
            if self.run_one(name, worker, run, item, position):
                worker.queue.remove(run)
                self.hand_in(run)

    def lost_reply(self, name: str, worker: FakeWorker) -> None:
        """Work as ever; what a dead leader's flight brings nobody hears of."""
        adopted = name in self.adopted or not self.is_former(name)
        before = len(self.inbox)
        super().work(name)
        if not adopted:
            self.inbox = self.inbox[:before] + [
                one for one in self.inbox[before:] if not isinstance(one[1], events.Replied)
            ]

    def is_former(self, name: str) -> bool:
        """Whether a worker was made by a dead leader."""
        return not name.startswith(f"w{self.reign}-") if self.reign else False

    def board(self, worker: FakeWorker) -> Board:
        if worker.queue and id(worker.queue[0]) in self.former:
            return Board(0, None, 0)
        return super().board(worker)


def cut(run: Run, stop: int) -> None:
    """Leave out the tasks of a run from an index on."""
    kept: list[effects.Item] = []
    at = 0
    for item in run.items:
        last = min(item.stop, item.first + max(0, stop - at))
        if last > item.first:
            kept.append(item._replace(stop=last))
        at += item.stop - item.first
    run.items = tuple(kept)
