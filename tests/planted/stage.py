"""A world in which only what a script says happens, and when: for what no seed meets by chance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from chimera.frames import command
from chimera.sim.batch import Chore
from chimera.sim.control import Actor
from chimera.sim.kernel import Kernel, Process
from chimera.sim.leader import LeaderProcess
from chimera.sim.run import Result, carry_out
from chimera.sim.worker import WorkerProcess
from chimera.sim.world import Plan, World
from chimera.swarm.policy import TaskPolicy
from tests.planted.planting import Bug

#: no attempt of a script's is ever too long
POLICY = TaskPolicy(
    type="t", max_attempts=3, backoff_initial_s=0.1, backoff_cap_s=0.5, attempt_timeout_s=60.0
)
#: tasks from which a leader learns how long the type takes
WARM_UP = 8
#: a client's patience, seconds
PATIENCE_S = 30.0

#: (shard, position)
Place = tuple[int, int]
#: whether a script goes on
Until = Callable[[], bool]


class _Kernel(Kernel):
    """Lets a script look after each thing that happens, however close the next one is."""

    look: Callable[[], None] | None = None

    def run_one(self) -> bool:
        more = super().run_one()
        if more and self.look is not None:
            self.look()
        return more


class Stage(World):
    """A small swarm, and what its script does to it. The script yields what it waits for."""

    kernel_type = _Kernel
    kernel: _Kernel

    def __init__(self, plan: Plan, script: Script) -> None:
        super().__init__(plan, [])
        self._steps = script(self)
        self._until: Until | None = self._is_settled
        self.kernel.look = self._look

    def _schedule_work(self) -> None:
        """The script submits, nobody else."""

    def _look(self) -> None:
        while self._until is not None and self._until():
            self._until = next(self._steps, None)

    def run(self) -> None:
        """Raises Broken, and AssertionError if the script did not come to its end."""
        super().run()
        assert self._until is None, "the script still waits"

    # what a script does

    def offer(self, shard: int, *seconds: float, key: str = "", once: bool = False) -> list[Place]:
        """Submit tasks that take so long, as one frame; where they will stand."""
        first = len(self.disks[shard].memory.tasks)
        chores = [
            msgspec.json.encode(Chore(1000 * shard + first + index, took_s, o=once))
            for index, took_s in enumerate(seconds)
        ]
        columns = command.Columns([key] * len(seconds), None, None, None) if key else None
        client = self.clients[0]
        client.deliver(lambda: self.submit(client, chores, columns, shard, PATIENCE_S))
        return [(shard, first + index) for index in range(len(seconds))]

    def warm_up(self, shard: int) -> Iterator[Until]:
        """Have a shard's leader learn that tasks are quick: it sends several at once then."""
        places = self.offer(shard, *(0.001,) * WARM_UP)
        yield lambda: all(self.is_recorded(place) for place in places)

    def cancel(self, place: Place) -> None:
        """Ask its leader to cancel a task."""
        leader = self.leader(place[0])
        self.kernel.call(
            self.clients[0], leader, lambda reply: leader.cancel(*place, reply), lambda _: None
        )

    def cancel_waiting(self, place: Place) -> None:
        """Ask its leader to end a task if nobody is at it."""
        leader = self.leader(place[0])
        self.kernel.call(
            self.clients[0], leader, lambda reply: leader.cancel_waiting(*place, reply),
            lambda _: None,
        )  # fmt: skip

    def kill(self, *processes: Process) -> None:
        for process in processes:
            self.kernel.kill(process, "as its script says")

    def slow(self, process: Process, lag_s: float, span_s: float) -> None:
        """All that a process does comes late for a while."""
        process.lag_s, process.troubled_at = lag_s, self.kernel.now
        self.kernel.after(span_s, lambda: setattr(process, "lag_s", 0.0))

    def cut(self, one: str, other: str) -> None:
        """Cut the link of two hosts."""
        self.kernel.cut_off(one, other)
        self.kernel.cut_off(other, one)

    def mend(self, one: str, other: str) -> None:
        self.kernel.heal(one, other)
        self.kernel.heal(other, one)

    # what a script sees

    def _is_settled(self) -> bool:
        """All is as declared, and no worker is still to be made or let go."""
        pools = [len(p.machine.state.workers) for p in self.kernel.processes.values()
                 if isinstance(p, LeaderProcess)]  # fmt: skip
        return set(pools) == {self.plan.workers} and not self.missing()

    def leader(self, shard: int) -> LeaderProcess:
        """Who has a shard."""
        found = self.kernel.names[self.owners(self.head)[shard]]
        assert isinstance(found, LeaderProcess)
        return found

    def shards(self, leader: LeaderProcess) -> list[int]:
        """What a leader has."""
        owners = self.owners(self.head)
        return sorted(shard for shard, name in owners.items() if name == leader.name)

    def worker(self, leader: LeaderProcess) -> WorkerProcess:
        """A leader's only worker."""
        (link,) = leader.links.values()
        return link.process

    def coordinator(self, leader: LeaderProcess) -> Actor:
        """Of a leader's region."""
        (found,) = (
            process
            for process in self.kernel.processes.values()
            if isinstance(process, Actor) and process.host == leader.host
        )
        return found

    def is_running(self, place: Place, on: Process | None = None) -> bool:
        """Whether a handler is at a task, or that of a certain worker."""
        running = self.oracle.attempts.running[place]
        return bool(running) if on is None else on.pid in running

    def has_run(self, place: Place) -> bool:
        """Whether a task's first attempt is over."""
        return (place, 1) in self.oracle.attempts.ended

    def is_recorded(self, place: Place) -> bool:
        return place[1] in self.disks[place[0]].recorded

    def epoch(self, shard: int) -> int:
        return self.disks[shard].memory.epoch

    def later(self, span_s: float) -> Until:
        """So many seconds from now on."""
        until = self.kernel.now + span_s
        return lambda: self.kernel.now >= until


#: yields, step by step, what it waits for
Script = Callable[[Stage], Iterator[Until]]


@dataclass(frozen=True)
class Scenario:
    """A swarm and the script that shows one bug in it."""

    plan: Plan
    script: Script
    says: str  #: the rule that is broken with the bug

    def play(self) -> Result:
        """Run it, with what is planted now."""
        return carry_out(Stage(self.plan, self.script))

    def shown(self, bug: Bug) -> Result | None:
        """How it breaks its rule with a bug planted; None if it does not, or does without it."""
        if self.play().fault:
            return None
        with bug.planted():
            found = self.play()
        return found if found.fault.startswith(f"{self.says} ") else None


def small(*, lease_s: float = 4.0, regions: int = 1, leaders: int = 2) -> Plan:
    """A swarm whose leaders have two shards and one worker each."""
    return Plan(
        seed=0, regions=regions, leaders=leaders, workers=1, shards=2 * leaders * regions, tasks=0,
        keys=1, fsync=True, span_s=20.0, lease_s=lease_s, shared=regions > 1, policies=(POLICY,),
    )  # fmt: skip
