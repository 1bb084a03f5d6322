"""Leaders in memory for tests of the client: fake journals, faults by script, a clock by hand.

What a leader keeps and answers comes from `MemoryJournal`, which passes the suite of all journals.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import msgspec

from chimera.client.core import Core
from chimera.client.engine import Answered
from chimera.client.parcels import Accepted
from chimera.client.ports import Gone, NoOwner, Pending, Promise, Settings, Silent, failed
from chimera.errors import ChimeraError, InvalidRequest, NotFound, NotOwner
from chimera.frames import command, outcome
from chimera.store.memory import MemoryJournal
from chimera.store.memory_disk import MemoryDisk
from chimera.store.protocol import Receipt
from chimera.swarm.facts import Settlement, Single
from chimera.swarm.policy import TaskPolicy
from chimera.swarm.reports import Owner

#: what may happen to a call
LOST = "the request is lost: never run, never answered"
MUTE = "the answer is lost"
DIES_BEFORE = "the leader dies before it runs the call"
DIES_AFTER = "the leader dies after it ran the call"
HELD = "the answer comes with `release`"

#: seconds that a test waits for what is to happen, at most
DEADLINE_S = 20.0

TYPES = ("echo", "slow")
_ME = Owner("leader", "boot", 1, 1, 1, "node")


def eventually(condition: Callable[[], Any]) -> None:
    """Wait until it holds: what is waited for happens on another thread."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "never happened"
        threading.Event().wait(0.002)


class Reply(NamedTuple):
    """As the leader's `OutcomesReply`."""

    singles: tuple[Single, ...]
    complete: bool


@dataclass
class Call:
    """A call that was made, for tests to look at."""

    verb: str
    shard: int
    args: tuple[Any, ...]
    promise: Promise[Any]

    @property
    def frames(self) -> list[command.Header]:
        return [command.header(data) for data in self.args[1:]]


class FakeLeaders:
    """A LeaderLink to leaders in memory. Safe for threads."""

    def __init__(self, ring: int = 4, leaders: int = 2, queue_bound: int = 1_000_000) -> None:
        self.settings = Settings(ring, "memory:///", 1024 * 1024)
        self.queue_bound = queue_bound
        self.now_ms: Callable[[], int] = lambda: command.head(self._newest).at
        self.disks = [MemoryDisk() for _ in range(ring)]
        self.journals = [MemoryJournal(disk, shard) for shard, disk in enumerate(self.disks)]
        for journal in self.journals:
            journal.take(0, _ME)
        self.map = {shard: f"leader/local/{shard % leaders}" for shard in range(ring)}
        self.true_map = dict(self.map)
        self.calls: list[Call] = []
        #: what happens to the next calls: asked for each, None for nothing special
        self.fault: Callable[[str, int], str | ChimeraError | None] = lambda verb, shard: None
        #: what a task of a type becomes as soon as it is accepted; None: it stays open
        self.handler: Callable[[Any], Any] | None = None
        self.running: set[tuple[int, int]] = set()  #: (shard, position) of what is left alone
        self.progress: dict[tuple[int, int], Any] = {}  #: of what runs, by its place
        self.known_types: tuple[str, ...] = TYPES
        self.policies: tuple[TaskPolicy, ...] = ()  #: of further types
        self._held: list[tuple[Promise[Any], Any]] = []
        self._waiting: list[tuple[Call, int]] = []
        self._newest = b""
        self._lock = threading.RLock()

    # -- the port

    def ask(self, shard: int, verb: str, *args: Any) -> Pending[Any]:
        if shard not in self.map:
            return failed(NoOwner("nobody"))
        return self._call(verb, shard, args)

    def ask_any(self, verb: str, *args: Any) -> Pending[Any]:
        return self._call(verb, -1, args)

    def owners(self) -> dict[int, str]:
        return self.map

    def look(self) -> Promise[None]:
        with self._lock:
            if self.map != self.true_map:
                self.map = dict(self.true_map)
        promise: Promise[None] = Promise()
        promise.keep(None)
        return promise

    def close(self) -> None:
        """Nothing is held."""

    def result(self, task_id: str, tenant: str) -> Any:
        return ("ref", task_id, tenant)

    def results(self, accepted: Accepted, tenant: str) -> Any:
        return ("refs", accepted.count, tenant)

    # -- what tests do

    def move(self, shard: int, leader: str | None) -> None:
        """The shard has another owner, or none; clients learn it when they look."""
        with self._lock:
            if leader is None:
                self.true_map.pop(shard, None)
            else:
                self.true_map[shard] = leader

    def release(self) -> None:
        """The held answers come."""
        with self._lock:
            held, self._held = self._held, []
        for promise, answer in held:
            _answer(promise, answer)

    def payloads(self, shard: int) -> list[Any]:
        """Payloads of a shard's tasks, in order of acceptance."""
        frames = [frame.arrival.frame for frame in self.disks[shard].frames]
        return [msgspec.json.decode(one) for data in frames for one in command.payloads(data)]

    def settle(self, shard: int, settlement: Settlement) -> None:
        """Outcomes are recorded; whoever waits for them is answered."""
        with self._lock:
            self.journals[shard].settle(settlement, 1)
            waiting, self._waiting = self._waiting, []
        for call, least in waiting:
            self._serve_wait(call, least)

    def succeed(self, shard: int, start: int, stop: int, value: Any = None) -> None:
        """Tasks at these positions succeed, recorded as one frame."""
        body = msgspec.json.encode(value)
        count = stop - start
        frame = outcome.pack(shard, 1, start, bytes([outcome.SUCCEEDED]) * count, [body] * count)
        self.settle(shard, Settlement(frames=(frame,)))

    def expire_polls(self) -> None:
        """The leaders' hold time is over: they answer with what there is."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for call, _ in waiting:
            self._serve_wait(call, 0)

    @property
    def polls(self) -> list[Call]:
        """Polls that wait."""
        return [call for call, _ in self._waiting]

    def appends(self, shard: int | None = None) -> list[Call]:
        return [c for c in self.calls if c.verb == "append" and shard in {None, c.shard}]

    # -- the leaders

    def _call(self, verb: str, shard: int, args: tuple[Any, ...]) -> Pending[Any]:
        promise: Promise[Any] = Promise()
        call = Call(verb, shard, args, promise)
        with self._lock:
            self.calls.append(call)
            fault = self.fault(verb, shard)
            if fault == LOST:
                return promise
            if fault == DIES_BEFORE:
                promise.fail(Gone("dead"))
                return promise
            if isinstance(fault, ChimeraError):
                promise.fail(fault)
                return promise
            if verb == "outcomes":
                self._serve_wait(call, args[3])
                return promise
            try:
                answer: Any = self._run(verb, shard, args)
            except ChimeraError as error:
                answer = error
            if fault == DIES_AFTER:
                answer = Gone("dead")
            if fault == HELD:
                self._held.append((promise, answer))
            elif fault != MUTE:
                _answer(promise, answer)
        return promise

    def _run(self, verb: str, shard: int, args: tuple[Any, ...]) -> Any:
        if verb == "types":
            return (*(TaskPolicy(type=name) for name in self.known_types), *self.policies)
        is_moved = self.true_map.get(shard) != self.map.get(shard)
        if verb == "append":
            if is_moved:
                return [NotOwner("moved").to_wire() for _ in args[1:]]
            return self._append(shard, args[1:])
        if is_moved:
            raise NotOwner("moved")
        journal = self.journals[shard]
        match verb:
            case "call":
                (receipt,) = self._append(shard, args[2:])
                return (receipt, *self._outcome(shard, receipt))
            case "get":
                return [self._get(args[0], key) for key in args[1]]
            case "list_tasks":
                return journal.list(*args[1:])
            case "cancel":
                position = journal.find(args[0], args[1], args[3]).position
                state = journal.cancel(position, args[4], 1)
                return outcome.NAMES.get(state, "cancelling")
            case "cancel_waiting":
                position = journal.find(args[0], args[1], args[3]).position
                if (shard, position) in self.running:
                    return "running"
                end = Single(position, outcome.CANCELLED, 0, b"")
                self.settle(shard, Settlement(singles=(end,)))
                return journal.find(args[0], args[1], args[3]).state
            case "replay":
                position = journal.find(args[0], args[1], args[3]).position
                return journal.replay(position, 1)[0]
            case "progress_of":
                return self.progress.get((shard, args[1]))
            case "discard":
                return journal.discard(journal.find(args[0], args[1], args[3]).position)
        raise InvalidRequest(verb)

    def _append(self, shard: int, frames: tuple[bytes, ...]) -> list[Any]:
        self._newest = frames[-1]
        answers = self.journals[shard].append(frames, self.now_ms(), self.queue_bound)
        for frame, answer in zip(frames, answers, strict=True):
            if self.handler is not None and isinstance(answer, Receipt) and not answer.duplicate:
                self._execute(shard, frame, answer)
        return [one.to_wire() if isinstance(one, ChimeraError) else one for one in answers]

    def _execute(self, shard: int, frame: bytes, receipt: Receipt) -> None:
        assert self.handler is not None
        states, bodies = bytearray(), []
        for payload in command.payloads(frame):
            try:
                bodies.append(msgspec.json.encode(self.handler(msgspec.json.decode(payload))))
                states.append(outcome.SUCCEEDED)
            except ValueError as error:
                failure = outcome.Failure("builtins.ValueError", str(error), "Traceback ...")
                bodies.append(outcome.encode_failure(failure))
                states.append(outcome.FAILED)
        for skipped in receipt.skipped:
            states[skipped.index], bodies[skipped.index] = outcome.OPEN, b""
        packed = outcome.pack(shard, 1, receipt.position, states, bodies)
        self.settle(shard, Settlement(frames=(packed,)))

    def _outcome(self, shard: int, receipt: Any) -> tuple[int | None, bytes | None, bool]:
        if isinstance(receipt, Receipt) and not receipt.skipped:
            found = self.journals[shard].outcomes([(receipt.position, receipt.position + 1)], 10**6)
            for single in found.singles:
                return single.state, single.body, False
            for frame in found.frames:
                state, body = outcome.body(frame, receipt.position - outcome.header(frame).position)
                if state:
                    return state, body, False
        return None, None, False

    def _get(self, tenant: str, key: tuple[int, int, int]) -> Any:
        try:
            found = self.journals[key[1]].find(tenant, key[0], key[2])
            runs = found.state == "queued" and (key[1], found.position) in self.running
            return replace(found, state="running") if runs else found
        except ChimeraError as error:
            return error.to_wire()

    def _serve_wait(self, call: Call, least: int) -> None:
        """Answer a poll, or let it wait for more."""
        if self.true_map.get(call.shard) != self.map.get(call.shard):
            call.promise.fail(NotOwner("moved"))
            return
        ranges = call.args[1]
        with self._lock:
            found = self.journals[call.shard].outcomes(ranges, 10**9)
            tasks = self.disks[call.shard].tasks
            wanted = [p for start, stop in ranges for p in range(start, stop)]
            settled = sum(p < len(tasks) and not tasks[p].open for p in wanted)
            if not settled and least:  # a real leader gathers some more, for a moment
                self._waiting.append((call, least))
                return
        frames = found.frames[:8]
        complete = settled == len(wanted) and len(found.frames) <= 8
        call.promise.keep((Reply(found.singles, complete), *frames, *(None,) * (8 - len(frames))))


def _answer(promise: Promise[Any], answer: Any) -> None:
    if isinstance(answer, ChimeraError):
        promise.fail(answer)
    else:
        promise.keep(answer)


class HandEngine:
    """An engine whose clock the test moves."""

    def __init__(self) -> None:
        self.clock = 1000.0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._ready: deque[Callable[[], None]] = deque()
        self._serials = itertools.count()
        self.woken = 0  #: how often it was given work from outside

    def do(self, work: Callable[[], None]) -> None:
        self.woken += 1
        self._ready.append(work)

    def now(self) -> float:
        return self.clock

    def later(self, delay_s: float, work: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (self.clock + delay_s, next(self._serials), work))

    def watch(self, pending: Pending[Any], timeout_s: float, answered: Answered) -> None:
        waiting = [answered]

        def settle(value: Any, fault: BaseException | None) -> None:
            if waiting:
                waiting.pop()(value, fault)

        def read(_: Any) -> None:
            future = pending.future()
            fault = future.exception()
            value = None if fault else future.result()
            self._ready.append(lambda: settle(value, fault))

        pending.future().add_done_callback(read)
        self.later(timeout_s, lambda: settle(None, Silent("late")))

    def run(self) -> None:
        """All that is ready now."""
        while self._ready or (self._timers and self._timers[0][0] <= self.clock):
            if self._ready:
                self._ready.popleft()()
            else:
                heapq.heappop(self._timers)[2]()

    def advance(self, seconds: float) -> None:
        """Let time pass, timer by timer."""
        until = self.clock + seconds
        self.run()
        while self._timers and self._timers[0][0] <= until:
            self.clock = max(self.clock, self._timers[0][0])
            self.run()
        self.clock = until


class MemoryBlobs:
    """An object store in memory."""

    def __init__(self) -> None:
        self.kept: dict[bytes, bytes] = {}

    def put(self, body: bytes) -> bytes:
        claim = b'"claim %d"' % len(self.kept)
        self.kept[claim] = body
        return claim

    def get(self, claim_check: bytes) -> bytes:
        if claim_check not in self.kept:
            raise NotFound("no such object")
        return self.kept[claim_check]


def core(leaders: FakeLeaders) -> Core:
    """A client's core on leaders in memory, with its own thread."""
    blobs = MemoryBlobs()
    return Core("test", leaders, lambda url: blobs)
