"""Virtual time, processes and the network: everything that happens follows from one seed.

A call is what Ray's is: it reaches its callee once, in the order of its caller's calls, waits where
a callee is stopped, and ends with `Gone` when the callee dies. What a cut link holds up arrives
when the link heals, as TCP has it. `Kernel.step` lines are the trace; their hash is the run's.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from chimera.client.ports import Gone
from chimera.swarm.reports import Owner

Work = Callable[[], None]
Reply = Callable[[Any], None]

#: a call on one machine, seconds, at most; the least is a tenth
HOP_S = 0.002
#: the machine that journals on shared storage are on
STORE = "store"
#: until a process's death is noticed by those who wait for it, seconds
DEATH_S = 0.01


@dataclass(eq=False)
class Process:
    """One incarnation of one actor."""

    kernel: Kernel
    name: str
    host: str
    pid: int = 0
    alive: bool = True
    paused: bool = False
    stuck: bool = False  #: it works, but does nothing of what it is told
    lag_s: float = 0.0  #: everything it is told comes so much later
    #: when it was last stopped, slowed or cut off, or its host was: it may be taken for dead
    troubled_at: float = float("-inf")
    #: when it was last stopped or cut off: it could say nothing, where a slow one speaks late
    mute_at: float = float("-inf")
    backlog: list[Work] = field(default_factory=list)
    pending: dict[int, Work] = field(default_factory=dict)  #: calls to it, by number: their end
    spoke_at: float = 0.0
    unordered: bool = False  #: what it sends may be overtaken by what it sends later

    @property
    def owner(self) -> Owner:
        """How others name this incarnation (P3)."""
        return Owner(self.name, self.host, 1, self.pid, self.pid, self.host)

    def later(self, delay_s: float, work: Work) -> None:
        """Run something in this process after a while, unless it is dead by then."""
        self.kernel.at(self.kernel.now + delay_s + self.lag_s, lambda: self.deliver(work))

    def deliver(self, work: Work) -> None:
        """Run it now, or when the process goes on."""
        if not self.alive:
            return
        if self.paused or self.stuck:
            self.backlog.append(work)
        else:
            work()

    def ended(self) -> None:
        """Called once, when the process is dead."""


class Kernel:
    """The clock, the queue of what is to happen, the links, and who lives."""

    def __init__(self, seed: int, keep_trace: bool = False) -> None:
        self.random = random.Random(seed)
        self.now = 1.0
        self.counters: Counter[str] = Counter()
        self.trace: list[str] | None = [] if keep_trace else None
        self.names: dict[str, Process] = {}  #: what a look-up by name finds
        self.processes: dict[int, Process] = {}  #: every incarnation that lives, by pid
        self.cut: set[tuple[str, str]] = set()  #: (from, to) hosts
        self.cut_at: dict[str, float] = {}  #: host → when it was cut off, or healed, last
        self.slow: dict[str, float] = {}  #: host → further seconds for each message
        self.skew_ms: dict[str, int] = {}
        self.down: set[str] = set()  #: hosts that are off
        self._held: dict[tuple[str, str], list[Work]] = {}
        self._fifo: dict[tuple[int, int], float] = {}
        self._queue: list[tuple[float, int, Work]] = []
        self._serial = 0
        self._hash = hashlib.blake2b(digest_size=16)
        self.events = 0

    # time

    def at(self, when: float, work: Work) -> None:
        self._serial += 1
        heapq.heappush(self._queue, (when, self._serial, work))

    def after(self, delay_s: float, work: Work) -> None:
        self.at(self.now + delay_s, work)

    def run_one(self) -> bool:
        """The next thing that happens; False if nothing will."""
        if not self._queue:
            return False
        when, _, work = heapq.heappop(self._queue)
        self.now = max(self.now, when)
        work()
        return True

    def next_at(self) -> float:
        return self._queue[0][0] if self._queue else float("inf")

    def unix_ms(self, host: str = "") -> int:
        """What a host's wall clock says; only some hosts are right."""
        return 1_800_000_000_000 + int(self.now * 1000) + self.skew_ms.get(host, 0)

    def note(self, who: str, what: str) -> None:
        """One line of the trace."""
        line = f"{self.now:.6f} {who} {what}"
        self._hash.update(line.encode())
        self.events += 1
        if self.trace is not None:
            self.trace.append(line)

    def digest(self) -> str:
        """The hash of all that was noted."""
        return self._hash.hexdigest()

    def dice(self, most: float) -> float:
        return most * (0.1 + 0.9 * self.random.random())

    # processes

    def born(self, process: Process) -> None:
        self._serial += 1
        process.pid = self._serial
        process.spoke_at = self.now
        self.processes[process.pid] = process
        self.names[process.name] = process
        self.note(process.name, f"born {process.pid} on {process.host}")

    def kill(self, process: Process, why: str) -> None:
        """kill -9: those who wait for its answers learn of it soon."""
        if not process.alive:
            return
        process.alive = False
        self.note(process.name, f"dead {process.pid}: {why}")
        self.processes.pop(process.pid, None)
        if self.names.get(process.name) is process:
            self.after(DEATH_S / 2, lambda: self._unname(process))
        process.backlog.clear()
        for end in list(process.pending.values()):
            self.after(self.dice(DEATH_S), end)
        process.pending.clear()
        process.ended()

    def _unname(self, process: Process) -> None:
        if self.names.get(process.name) is process:
            del self.names[process.name]

    def pause(self, process: Process) -> None:
        process.paused = True
        process.troubled_at = process.mute_at = self.now

    def resume(self, process: Process) -> None:
        process.troubled_at = process.mute_at = self.now
        process.paused = False
        backlog, process.backlog = process.backlog, []
        for work in backlog:
            self.at(self.now, lambda work=work: process.deliver(work))  # type: ignore[misc]

    def alive(self, owner: Owner) -> Process | None:
        """The process that an owner's record names, if it lives."""
        return self.processes.get(owner.pid)

    # the network

    def call(self, source: Process, target: Process | None, do: Callable[[Reply], None],
             done: Reply, asked: object = None) -> None:  # fmt: skip
        """Have `target` run `do`; `done` gets, in `source`, its answer or an exception.

        `asked` is what the request says beside its name, for who counts bytes.
        """
        if target is None or not target.alive:
            source.later(DEATH_S, lambda: done(Gone("it is dead")))
            return
        self._serial += 1
        number = self._serial
        answered = False

        def back(value: Any) -> None:
            nonlocal answered
            if answered or not target.alive:
                return
            answered = True
            target.pending.pop(number, None)
            self._carry(target, source, lambda: done(value))

        def gone() -> None:
            nonlocal answered
            if not answered:
                answered = True
                source.deliver(lambda: done(Gone(f"{target.name} died")))

        target.pending[number] = gone

        def arrive() -> None:
            if answered:
                return
            try:
                do(back)
            except Exception as fault:
                from chimera.errors import ChimeraError

                if not isinstance(fault, ChimeraError):
                    raise
                back(fault)

        self._carry(source, target, arrive)

    def _carry(self, source: Process, target: Process, work: Work) -> None:
        route = (source.host, target.host)
        if route in self.cut:
            self.counters["message_held"] += 1
            self._held.setdefault(route, []).append(lambda: self._carry(source, target, work))
            return
        delay = self.dice(HOP_S) + target.lag_s
        if source.host != target.host:
            delay += self.slow.get(source.host, 0.0) + self.slow.get(target.host, 0.0)
        line = (source.pid, target.pid)
        when, last = self.now + delay, self._fifo.get(line, 0.0)
        if not source.unordered:
            when = max(when, last + 1e-6)
        elif when < last:
            self.counters["message_overtaken"] += 1
        self._fifo[line] = max(when, last)
        self.at(when, lambda: target.deliver(work))

    def cut_off(self, source: str, target: str) -> None:
        """No message passes this way; those on the way still arrive."""
        self.cut.add((source, target))
        self.cut_at[source] = self.cut_at[target] = self.now
        for process in self.processes.values():
            if process.host in (source, target):
                process.troubled_at = process.mute_at = self.now

    def heal(self, source: str, target: str) -> None:
        """Messages pass again; those held up arrive now."""
        self.cut.discard((source, target))
        self.cut_at[source] = self.cut_at[target] = self.now
        for process in self.processes.values():
            if process.host in (source, target):
                process.troubled_at = process.mute_at = self.now
        for work in self._held.pop((source, target), ()):
            work()
