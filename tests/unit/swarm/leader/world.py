"""A leader's machine in a world of its own: journal, workers and clock as small models.

Everything that happens follows from one seed. The journal models P8 (the first recorded outcome
wins); workers run, fail, crash and fall silent; answers arrive late and in any order.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from chimera.frames import outcome
from chimera.frames.outcome import Failure
from chimera.swarm.leader import LeaderMachine, effects, events
from chimera.swarm.leader.events import Arrived, Board, Instant, NewFrame
from chimera.swarm.policy import TaskPolicy

EPOCH = 7


@dataclass
class Run:
    """A flight at a worker."""

    flight: int
    items: tuple[effects.Item, ...]
    worker: str = ""
    ordinal: int = 0
    states: list[int] = field(default_factory=list)
    delivered: int = 0
    broken_keys: set[str] = field(default_factory=set)

    def tasks(self) -> list[tuple[effects.Item, int]]:
        return [(item, p) for item in self.items for p in range(item.first, item.stop)]


@dataclass
class FakeWorker:
    queue: list[Run] = field(default_factory=list)
    void: int = 0
    begun: int = 0
    hung: bool = False


class World:
    """One leader, one shard."""

    def __init__(self, seed: int, *, workers: int = 3, **options: Any) -> None:
        self.random = random.Random(seed)
        self.options: dict[str, Any] = {
            "fail": 0.0, "crash": 0.0, "hang": 0.0, "keys": 0, "delay": 0.0, "refuse": 0.0,
            "policy": TaskPolicy(type="t", attempt_timeout_s=5.0), **options,
        }  # fmt: skip
        self.is_strict = True  #: nothing may run after its outcome
        self.now = 100.0
        self.machine = LeaderMachine("leader/r/0", "w", workers=workers, ring=1, checked=True)
        self.inbox: list[tuple[float, events.Event]] = []
        self.workers: dict[str, FakeWorker] = {}
        self.keys: dict[int, str | None] = {}
        self.types: dict[int, tuple[str, int]] = {}
        self.delayed: set[int] = set()  #: they join their keys' order later
        self.frames: list[NewFrame] = []  #: as they were accepted
        self.outcomes: dict[int, int] = {}
        self.parked: dict[int, tuple[int, int, bool]] = {}
        self.runs: dict[int, int] = defaultdict(int)
        self.order: dict[str, list[int]] = defaultdict(list)
        self.running: dict[str, int] = {}
        self.position = 0
        self.serial = 0
        self.overlap: list[str] = []
        self.step(events.Taken(0, EPOCH, (), (), (), 0, None, ()))

    # time

    def instant(self) -> Instant:
        return Instant(self.now, int(self.now * 1000))

    def later(self, event: events.Event, most: float = 0.02) -> None:
        self.inbox.append((self.now + self.random.random() * most, event))

    def step(self, event: events.Event) -> None:
        for effect in self.machine.step(event, self.instant()):
            self.do(effect)

    def turn(self) -> None:
        """A little time goes by."""
        self.now += 0.01
        due = sorted((e for e in self.inbox if e[0] <= self.now), key=lambda e: e[0])
        self.inbox = [e for e in self.inbox if e[0] > self.now]
        for _, event in due:
            self.step(event)
        for name in list(self.workers):
            self.work(name)
        if self.random.random() < 0.3:
            self.step(events.Tick({name: self.board(w) for name, w in self.workers.items()}))

    def until_settled(self, turns: int = 60_000) -> None:
        for _ in range(turns):
            if len(self.outcomes) == self.position and not self.inbox:
                return
            self.turn()
        missing = sorted(set(range(self.position)) - self.outcomes.keys())
        raise AssertionError(f"{len(missing)} tasks never ended: {missing[:10]}")

    # clients

    def submit(
        self, count: int, type: str = "t", priority: int = 1, tenant: str = "default"
    ) -> None:
        position, self.position = self.position, self.position + count
        keys: list[str | None] | None = None
        if self.options["keys"]:
            keys = [f"k{self.random.randrange(self.options['keys'])}" for _ in range(count)]
        parked = {p for p in range(position, position + count)
                  if self.random.random() < self.options["delay"]}  # fmt: skip
        self.delayed |= parked
        for p in range(position, position + count):
            self.keys[p] = f"{tenant}/{keys[p - position]}" if keys else None
            self.types[p] = (type, priority)
            if p in parked:
                due = int(self.now * 1000) + self.random.randrange(3000)
                self.parked[p] = (due, 1, False)
        ranges: list[tuple[int, int]] = []
        for p in range(position, position + count):
            if p in parked:
                continue
            if ranges and ranges[-1][1] == p:
                ranges[-1] = (ranges[-1][0], p + 1)
            else:
                ranges.append((p, p + 1))
        frame = NewFrame(position, count, count * 80, type, tenant, priority, tuple(ranges), keys)
        self.frames.append(frame)
        due_at = min((self.parked[p][0] for p in parked), default=None)
        self.step(events.Appended(0, (frame,) if ranges else (), count, due_at))

    # the shell

    def do(self, effect: effects.Effect) -> None:
        match effect:
            case effects.Spawn(name):
                self.workers[name] = FakeWorker()
                policies = (self.options["policy"], *self.options.get("policies", ()))
                self.later(events.WorkerReady(name, policies))
            case effects.Send(name, flight, _, items):
                if name in self.workers:
                    self.workers[name].queue.append(Run(flight, items, name))
            case effects.Record():
                self.record(effect)
            case effects.Collect(name, through):
                self.collect(name, through)
            case effects.Kill(name, _):
                self.crash(name)
            case effects.ReadDue(_, until, limit):
                self.read_due(until, limit)
            case effects.Retire(name):
                self.crash(name)

    def record(self, effect: effects.Record) -> None:
        if self.random.random() < self.options["refuse"]:
            self.later(events.RecordRefused(0, effect.token))
            return
        recorded = 0
        for frame in effect.settlement.frames:
            header = outcome.verify(frame)
            for index, state in enumerate(outcome.states(frame, header)):
                assert state != outcome.ATTEMPT_FAILED
                recorded += state != outcome.OPEN and self.settle(header.position + index, state)
        recorded += sum(self.settle(s.position, s.state) for s in effect.settlement.singles)
        for park in effect.settlement.parks:
            if park.position not in self.outcomes:
                self.parked[park.position] = (park.due, park.attempt, park.holds_key)
        self.later(events.Recorded(0, effect.token, recorded))

    def settle(self, position: int, state: int) -> bool:
        if position in self.outcomes:
            return False
        self.outcomes[position] = state
        self.parked.pop(position, None)
        return True

    def read_due(self, until: int, limit: int) -> None:
        loaded = self.machine.state.shards[0].loaded
        due = sorted((d, p) for p, (d, _, _) in self.parked.items() if p not in loaded)
        tasks = []
        for when, p in due[:limit]:
            if when > until:
                break
            tasks.append(self.due_frame(p))
        rest = [d for d, p in due if p not in {t.position for t in tasks}]
        self.later(events.Due(0, tuple(tasks), min(rest, default=None)))

    def due_frame(self, position: int) -> NewFrame:
        """A parked task, as it is read from the schedule."""
        _, attempt, holds = self.parked[position]
        tenant, key = "default", self.keys[position]
        if key is not None:
            tenant, key = key.split("/", 1)
        type_, priority = self.types[position]
        return NewFrame(
            position, 1, 80, type_, tenant, priority, ((position, position + 1),),
            None if key is None else [key], None, None, attempt, True, holds,
        )  # fmt: skip

    # workers

    def board(self, worker: FakeWorker) -> Board:
        run = worker.queue[0] if worker.queue and worker.queue[0].flight <= worker.begun else None
        return Board(run.flight if run else 0, run.ordinal if run else 0, 0)

    def work(self, name: str) -> None:
        worker = self.workers[name]
        if worker.hung or not worker.queue:
            return
        run = worker.queue[0]
        if run.flight <= worker.void and run.flight > worker.begun:
            worker.queue.pop(0)
            self.later(events.Replied(name, run.flight, (), ()))
            return
        worker.begun = max(worker.begun, run.flight)
        tasks = run.tasks()
        for _ in range(self.random.randrange(1, 60)):
            if run.ordinal >= len(tasks):
                break
            if not self.run_one(name, worker, run, *tasks[run.ordinal]):
                return
        if run.ordinal >= len(tasks):
            worker.queue.pop(0)
            self.later(events.Replied(name, run.flight, self.hand_in(run), ()))

    def run_one(
        self, name: str, worker: FakeWorker, run: Run, item: effects.Item, position: int
    ) -> bool:
        key = self.keys[position]
        if key is not None and key in run.broken_keys:
            run.states.append(outcome.OPEN)
            run.ordinal += 1
            return True
        if position in self.outcomes and self.is_strict:
            self.overlap.append(f"{position} ran after its outcome")
        if key is not None:
            other = self.running.get(key)
            if other is not None and other != position and other not in self.outcomes:
                self.overlap.append(f"{key}: {position} began while {other} is open")
            self.running[key] = position
        self.runs[position] += 1
        dice = self.random.random()
        if dice < self.options["crash"]:
            self.crash(name)
            return False
        if dice < self.options["crash"] + self.options["hang"]:
            worker.hung = True
            return False
        if dice < self.options["crash"] + self.options["hang"] + self.options["fail"]:
            run.states.append(outcome.ATTEMPT_FAILED)
            if key is not None:
                run.broken_keys.add(key)
        else:
            run.states.append(outcome.SUCCEEDED)
            if key is not None:
                self.order[key].append(position)
                if self.running.get(key) == position:
                    del self.running[key]
        run.ordinal += 1
        return True

    def hand_in(self, run: Run, stop: int | None = None) -> tuple[Arrived, ...]:
        """What is finished and was not delivered yet."""
        out: list[Arrived] = []
        at = 0
        end = run.ordinal if stop is None else stop
        for item in run.items:
            count = item.stop - item.first
            a, b = max(at, run.delivered), min(at + count, end)
            if a < b:
                states = bytes(run.states[a:b])
                failure = outcome.encode_failure(Failure("E", "no"))
                bodies = [failure if s == outcome.ATTEMPT_FAILED else b"1" for s in states]
                self.serial += 1
                frame = outcome.pack(
                    0, EPOCH, item.first + a - at, states, bodies, attempt=item.attempt,
                    duration_us=50 * len(states),
                )  # fmt: skip
                out.append(Arrived(self.serial, frame))
            at += count
        run.delivered = max(run.delivered, end)
        return tuple(out)

    def collect(self, name: str, through: int) -> None:
        worker = self.workers.get(name)
        if worker is None:
            return
        worker.void = max(worker.void, through)
        run = next((r for r in worker.queue if r.flight == worker.begun), None)
        arrived: tuple[Arrived, ...] = ()
        returned: list[tuple[int, int, int]] = []
        if run is not None and worker.hung:
            arrived = self.hand_in(run)
            tasks = run.tasks()
            returned = [(0, p, 1) for _, p in tasks[run.ordinal + 1 :]]
            kept: list[effects.Item] = []
            at = 0
            for item in run.items:
                stop = min(item.stop, item.first + max(0, run.ordinal + 1 - at))
                if stop > item.first:
                    kept.append(item._replace(stop=stop))
                at += item.stop - item.first
            run.items = tuple(kept)
        self.later(
            events.Replied(name, None, arrived, tuple(returned), (), worker.begun, through), 0.001
        )

    def crash(self, name: str) -> None:
        worker = self.workers.pop(name, None)
        if worker is None:
            return
        for _, event in [e for e in self.inbox if getattr(e[1], "worker", None) == name]:
            if isinstance(event, events.Replied):
                self.inbox = [e for e in self.inbox if e[1] is not event]
                if self.random.random() < 0.5:  # it was on its way already
                    self.step(event)
        for key in [k for k, p in self.running.items() if p not in self.outcomes]:
            del self.running[key]
        self.later(events.WorkerLost(name, self.board(worker)))
