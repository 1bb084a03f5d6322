"""What a leader's machine remembers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from chimera.swarm.facts import Scheduled, Settlement
from chimera.swarm.leader.events import Instant, NewFrame
from chimera.swarm.leader.keys import KeyBook
from chimera.swarm.leader.ready import Names, Piece, ReadyQueue
from chimera.swarm.leader.scaling import Bounds, Scaler
from chimera.swarm.limits import Bucket
from chimera.swarm.policy import CLASSES, TaskPolicy
from chimera.swarm.reports import Exemplar
from chimera.swarm.sketch import Sketch

#: expected work of a flight: long enough to pay for the call, short enough to stay fair
FLIGHT_S = 0.010
#: what a task of a type never seen is expected to take: one a flight, one flight a worker
UNSEEN_S = 0.1
#: a flight grows to this many times the tasks of its type that were ever measured
GROWTH = 8
#: flights in a worker's hands
FLIGHTS_MAX = 2
#: tasks and bytes of a flight, at most: eight arguments that Ray carries inline
FLIGHT_TASKS_MAX = 8000
FLIGHT_BYTES_MAX = 8 * 90 * 1024
#: command frames that a flight touches, at most
FLIGHT_ITEMS_MAX = 256
#: settlements on their way to disk, at most; beyond it nothing new is dispatched
PENDING_MAX = 64
#: finished outcomes leave a flight that runs on after this (P7)
OVERDUE_S = 0.1
#: a worker that was sent tasks and begins none is taken for dead
BEGIN_S = 30.0
#: between two questions to a former owner's worker
POLL_S = 0.1
#: a keyed frame waits this long, whole, for keys that are in flight; then it is split
HOLD_S = 0.05
#: between two looks for passed deadlines
EXPIRE_S = 0.25
#: between two looks at how long the oldest task has waited
AGE_S = 0.5
#: names of keys that are shared between frames, by tenant, and tenants; beyond it they begin anew
NAMES_MAX = 100_000
NAMED_TENANTS_MAX = 100
#: between two tries to write to a full disk
REFUSED_S = 0.5


@dataclass(slots=True)
class Flight:
    """Work in a worker's hands."""

    number: int
    pieces: list[Piece]
    tasks: int
    expected_s: float
    sent_at: float
    #: (shard, first, stop) handed in or given back before the flight ended
    done: list[tuple[int, int, int]] = field(default_factory=list)
    void: bool = False  #: given back whole: its reply says nothing new

    def at(self, ordinal: int) -> tuple[Piece, int] | None:
        """The piece and position of the task at an index of the flight."""
        for piece in self.pieces:
            if ordinal < piece.count:
                return piece, piece.first + ordinal
            ordinal -= piece.count
        return None

    def piece_at(self, shard: int, position: int) -> Piece | None:
        for piece in self.pieces:
            if piece.shard == shard and piece.first <= position < piece.stop:
                return piece
        return None

    def flying_at(self, shard: int, position: int) -> Piece | None:
        """As `piece_at`, unless that task is done here."""
        if any(s == shard and first <= position < stop for s, first, stop in self.done):
            return None
        return self.piece_at(shard, position)

    def disown(self, shard: int, first: int, stop: int) -> None:
        """Whatever becomes of tasks in [first, stop) here, somebody else sees to them."""
        self.done += [
            (shard, max(first, piece.first), min(stop, piece.stop))
            for piece in self.rest(self.done)
            if piece.shard == shard and first < piece.stop and stop > piece.first
        ]

    def rest(self, done: list[tuple[int, int, int]]) -> list[Piece]:
        """The pieces without what is done."""
        out: list[Piece] = []
        ordered = sorted(done)
        for piece in self.pieces:
            at = piece.first
            for shard, first, stop in ordered:
                if shard == piece.shard and first < piece.stop and stop > at:
                    if first > at:
                        out.append(piece.part(at, first))
                    at = max(at, stop)
            if at < piece.stop:
                out.append(piece.part(at, piece.stop))
        return out


class InHand(NamedTuple):
    """What a worker's board was first seen to say, and when."""

    flight: int
    ordinal: int | None
    since: float
    flight_since: float
    heartbeats: int
    beat_at: float


@dataclass(slots=True)
class Worker:
    """One worker of this leader."""

    name: str
    revision: str = ""  #: of what it was born with
    ready: bool = False  #: has said which types it runs
    types: frozenset[str] = frozenset()  #: those that it runs
    lacks: frozenset[str] = frozenset()  #: those that another worker runs and it does not
    flights: dict[int, Flight] = field(default_factory=dict)
    recorded: list[int] = field(default_factory=list)  #: serials it may forget: not told yet
    recorded_at: float = 0.0
    in_hand: InHand | None = None
    former_since: float | None = None  #: since when it is at what another leader had sent it
    unbegun_since: float | None = None  #: since when it was sent tasks and is at nothing
    collecting: bool = False
    collected_at: float = 0.0
    killing: str | None = None  #: why it is about to be killed
    killed: bool = False
    leaving: bool = False  #: one too many: it gets no more work
    retiring: bool = False  #: it was told to go
    idle_since: float = 0.0

    @property
    def slot(self) -> str:
        """What it does: `starting`, `idle`, `busy`, or `leaving` once it gets no more work."""
        if self.killing or self.leaving or self.retiring:
            return "leaving"
        if not self.ready:
            return "starting"
        return "busy" if self.flights else "idle"

    @property
    def outstanding_s(self) -> float:
        return sum(flight.expected_s for flight in self.flights.values())


@dataclass(slots=True)
class Shard:
    """One shard that this leader owns."""

    number: int
    epoch: int
    taken_at: float = 0.0  #: by the machine's clock
    take_s: float = 0.0  #: what it took until then, from the order on
    phase: str = "adopting"  #: then `serving`, and perhaps `releasing`
    finishing: bool = False  #: nothing more of it is started; it is released when all is recorded
    open: int = 0  #: tasks accepted and not settled
    keys: KeyBook = field(default_factory=KeyBook)
    #: tasks that are to be cancelled → why, as far as this owner was told
    cancelling: dict[int, str] = field(default_factory=dict)
    #: tasks that may have killed a worker: run alone (P7)
    suspects: set[int] = field(default_factory=set)
    holding: list[Scheduled] = field(default_factory=list)  #: to be put in order once adopted
    #: parked tasks that were read from the schedule
    loaded: set[int] = field(default_factory=set)
    next_due: int | None = None  #: Unix ms of the earliest parked task not loaded
    reading_due: bool = False
    asking: set[str] = field(default_factory=set)  #: former workers that have not answered once
    silent: set[str] = field(default_factory=set)  #: former workers that do not answer
    #: what former workers run: they will hand it in, or die
    away: dict[str, list[Piece]] = field(default_factory=dict)
    polling: set[str] = field(default_factory=set)
    polled_at: float = 0.0
    #: positions that former workers run and that are not to be run again, e.g. cancelled ones
    strays: dict[str, set[int]] = field(default_factory=dict)
    #: since when a former worker is at what it is at, or says nothing
    since: dict[str, float] = field(default_factory=dict)
    overstayed: set[str] = field(default_factory=set)  #: of these, those that were ended for it
    #: serials that former workers told, while they are asked
    seen: dict[str, set[int]] = field(default_factory=dict)
    #: to be queued once adopted; later those with keys, behind a silent worker (P15)
    stash: list[NewFrame] = field(default_factory=list)
    #: given back by former workers, to be queued once adopted: their keys are busy
    back: list[Piece] = field(default_factory=list)
    pending: int = 0  #: settlements on their way to disk
    refused: int = 0  #: of these, how many the disk had no room for

    def is_unheard(self) -> bool:
        """Whether some former worker may have tasks in hand that nobody here knows of."""
        return self.phase == "adopting" or bool(self.silent)

    def abroad(self) -> set[str]:
        """Former workers that run something of this shard."""
        return self.away.keys() | self.strays.keys()

    def pieces(self) -> Iterator[Piece]:
        """Every piece that is neither ready nor in flight."""
        yield from self.keys.pieces()
        yield from self.back
        for pieces in self.away.values():
            yield from pieces


@dataclass(slots=True)
class Pending:
    """A settlement on its way to disk, and what rests on it."""

    shard: int
    settlement: Settlement
    serials: list[tuple[str, int]]
    final: list[tuple[int, int]]  #: [first, stop) that get their outcome
    parked: list[tuple[int, int]]  #: (position, due)
    tally: Counter[str]
    retry_at: float | None = None


@dataclass(slots=True)
class Type:
    """What is known of one task type."""

    cost_s: float = UNSEEN_S
    samples: int = 0
    flying: int = 0  #: tasks in flight, counted only under a limit
    bucket: Bucket | None = None
    run: Sketch = field(default_factory=Sketch)  #: what its handler took, a task

    def learn(self, duration_us: int, count: int) -> None:
        """A moving mean of the service time; big frames teach more."""
        measured = max(duration_us, 1) / count / 1e6
        if not self.samples:
            self.cost_s = measured
        else:
            weight = 0.5 if count >= 16 else 0.2
            self.cost_s += weight * (measured - self.cost_s)
        self.samples += count


@dataclass(slots=True)
class PolicyBook:
    """The policy of each type: what its handler declares, what the spec and the frame override."""

    declared: dict[str, TaskPolicy] = field(default_factory=dict)
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)
    _resolved: dict[Any, TaskPolicy] = field(default_factory=dict)

    def declare(self, policies: tuple[TaskPolicy, ...]) -> bool:
        """Learn what a worker runs; says whether anything is new."""
        news = {p.type: p for p in policies if self.declared.get(p.type) != p}
        self.declared.update(news)
        if news:
            self._resolved.clear()
        return bool(news)

    def override(self, overrides: dict[str, dict[str, Any]]) -> None:
        self.overrides = overrides
        self._resolved.clear()

    def of(self, type: str) -> TaskPolicy:
        """The policy of a type, without a frame's own options."""
        return self.resolve(type, None, None)

    def all(self) -> list[TaskPolicy]:
        """The policies of all types that workers run."""
        return [self.of(type) for type in self.declared]

    def resolve(
        self, type: str, priority: int | None, options: dict[str, Any] | None
    ) -> TaskPolicy:
        key = (type, priority, msgspec.json.encode(options) if options else None)
        found = self._resolved.get(key)
        if found is None:
            changes: dict[str, Any] = dict(self.overrides.get(type, {}))
            changes.update(options or {})
            if priority is not None:
                changes["priority"] = priority
            base = self.declared.get(type) or TaskPolicy(type=type)
            found = self._resolved[key] = msgspec.structs.replace(base, **changes)
            if len(self._resolved) > 10_000:
                self._resolved = {key: found}
        return found


@dataclass(slots=True)
class State:
    """A leader."""

    name: str
    incarnation: str  #: makes its workers' names new
    worker_target: int  #: workers that there should be now
    ring: int  #: shards of the swarm
    shards: dict[int, Shard] = field(default_factory=dict)
    workers: dict[str, Worker] = field(default_factory=dict)
    ready: ReadyQueue = field(default_factory=ReadyQueue)
    types: dict[str, Type] = field(default_factory=dict)
    policies: PolicyBook = field(default_factory=PolicyBook)
    names: dict[str, Names] = field(default_factory=dict)  #: of keys, by tenant
    pending: dict[int, Pending] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)  #: shards that it has, or once had
    #: of these, taken more than once: flights sent before may have tasks of them
    retaken: set[int] = field(default_factory=set)
    deadlines: bool = False  #: some queued task has one
    aged_at: float = 0.0  #: when `oldest` was looked for last
    oldest: float | None = None  #: since when the longest waiting task waits
    expired_at: float = 0.0  #: when the queues were last looked through for passed deadlines
    counters: Counter[str] = field(default_factory=Counter)
    run: Sketch = field(default_factory=Sketch)  #: what handlers took, a task
    #: from acceptance, or when due, to dispatch; by priority class
    queue: dict[str, Sketch] = field(default_factory=lambda: {one: Sketch() for one in CLASSES})
    total: Sketch = field(default_factory=Sketch)  #: from then to the outcome's arrival
    #: the last traced task, by what was measured of it
    exemplars: dict[str, Exemplar] = field(default_factory=dict)
    takeover: Sketch = field(default_factory=Sketch)  #: from the order to take a shard until served
    flights: int = 0  #: numbers given so far
    tokens: int = 0
    spawned: int = 0
    spawn_failures: int = 0
    spawn_at: float = 0.0
    surplus_since: float | None = None  #: since when there are more workers than the target
    bounds: Bounds = field(default_factory=lambda: Bounds(0, 0))  #: of `worker_target`
    scaler: Scaler = field(default_factory=Scaler)
    revision: str = ""  #: what workers should be of
    drained: frozenset[str] = frozenset()  #: workers to be let go, among other names
    paused_types: frozenset[str] = frozenset()  #: nothing of these is started
    paused_tenants: frozenset[str] = frozenset()
    faults: dict[str, str] = field(default_factory=dict)
    #: serials that workers of other leaders may forget: not told yet
    strangers: dict[str, list[int]] = field(default_factory=dict)

    def declare(self, policies: tuple[TaskPolicy, ...]) -> None:
        """Learn what a worker runs: what waits is run by it from now on."""
        if not self.policies.declare(policies):
            return
        waiting = [piece for shard in self.shards.values() for piece in shard.pieces()]
        for piece in (*self.ready.pieces(), *waiting):
            policy = piece.policy
            piece.policy = self.policies.resolve(policy.type, policy.priority, piece.options)

    def count(self, name: str, tasks: int) -> None:
        """Count tasks; of `NAME@CLASS/TYPE` also as `NAME/TYPE` and `NAME`."""
        self.counters[name] += tasks
        key, _, type = name.partition("/")
        if type:
            all_classes, _, _ = key.partition("@")
            self.counters[f"{all_classes}/{type}"] += tasks
            self.counters[all_classes] += tasks

    def exemplify(self, what: str, piece: Piece, seconds: float, now: Instant) -> None:
        """Keep a task that was measured, if it can be found by its trace."""
        if piece.trace_id is not None:
            self.exemplars[what] = Exemplar(piece.trace_id, seconds, now.unix_ms)

    def slots(self) -> dict[str, int]:
        """Workers by what they do; for other threads, too."""
        found = dict.fromkeys(("starting", "idle", "busy", "leaving"), 0)
        for worker in list(self.workers.values()):
            found[worker.slot] += 1
        return found

    def is_paused(self, piece: Piece) -> bool:
        """Whether a person said that none of its kind be started."""
        return piece.policy.type in self.paused_types or piece.tenant in self.paused_tenants

    def names_of(self, tenant: str) -> Names:
        """The names of a tenant's keys."""
        names = self.names.get(tenant)
        if names is None or len(names) > NAMES_MAX:
            if len(self.names) >= NAMED_TENANTS_MAX:
                self.names.clear()
            names = self.names[tenant] = Names(tenant)
        return names

    def type(self, name: str) -> Type:
        found = self.types.get(name)
        if found is None:
            found = self.types[name] = Type()
        return found
