"""A swarm that a test may hurt: its processes, what its handlers noted, what its journals hold."""

from __future__ import annotations

import copy
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import chimera
from benchmarks import ledger
from benchmarks.ledger import outcomes_by_count, outcomes_in_database
from chimera import names
from chimera.actors import boot, processes
from chimera.actors.cluster import Cluster
from chimera.client.options import ShardByKey
from chimera.config import make_spec
from chimera.errors import ChimeraError
from chimera.sim.history import Stored
from chimera.swarm.reports import LeaderReport, Owner, RegionReport, SwarmStatus, WorkerInfo

HANDLERS = "tests.guarantees.handlers"
#: nothing may take longer, even on a machine that does much else, seconds
PATIENCE_S = 100.0


def until(
    holds: Callable[[], Any],
    within_s: float = PATIENCE_S,
    tell: Callable[[], str] = lambda: "it did not come to hold",
) -> Any:
    """Wait for a condition; what it returned at last. `tell` says why it may not have come."""
    end = time.monotonic() + within_s
    while not (found := holds()):
        assert time.monotonic() < end, tell()
        time.sleep(0.05)  # a look at a swarm costs it and us 3 ms of processor
    return found


# -- what handlers noted -----------------------------------------------------------------------


class Note(NamedTuple):
    """A line that a handler wrote."""

    event: str
    task_id: str
    attempt: int
    pid: int  #: of the worker
    at: int  #: monotonic nanoseconds, of all processes
    n: str  #: the payload's


def notes(path: Path, event: str | None = None) -> list[Note]:
    """What handlers wrote down, in the order in which they did."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text().splitlines():
        what, task_id, attempt, pid, at, n = line.split()
        found.append(Note(what, task_id, int(attempt), int(pid), int(at), n))
    return found if event is None else [one for one in found if one.event == event]


class Lines:
    """How many notes there are in a file; each look reads only what is new."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._count = 0

    def __call__(self) -> int:
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read)
                new = file.read()
            self._read += len(new)
            self._count += new.count(b"\n")
        return self._count


# -- the swarm ---------------------------------------------------------------------------------


class World:
    """A swarm of its own, with its data in `directory / "data"`."""

    def __init__(self, name: str, directory: Path, **settings: Any) -> None:
        """`settings` are those of a spec, and `leaders` and `workers` (of each leader)."""
        leaders = settings.pop("leaders", 2)
        workers = settings.pop("workers", 1)
        self.dir = directory
        self.data_dir = Path(settings.pop("data_dir", directory / "data"))
        self.spec = make_spec(
            {
                "name": name,
                "handlers": [HANDLERS],
                "data_dir": str(self.data_dir),
                "regions": [{"name": "local", "leaders": leaders, "workers": workers}],
                **settings,
            }
        )
        self.cluster = Cluster(names.namespace(name))
        self.seen: dict[int, Owner] = {}  #: every process that was heard of, by pid
        self.client: chimera.Swarm = None  # type: ignore[assignment]  # `up` makes it

    @property
    def name(self) -> str:
        return self.spec.name

    def up(self) -> None:
        """Bring it up, and wait until it is as declared."""
        boot.up(self.spec, timeout_s=PATIENCE_S)
        self.client = chimera.connect(self.name, timeout_s=PATIENCE_S)
        self.settle()

    def down(self) -> None:
        """End it; no process of it is left."""
        if self.client is not None:
            self.client.close()
        for process in self.seen.values():  # one that is stopped cannot end by itself
            if processes.alive(process) and processes.look(process.pid).state in "Tt":
                self.kill(process)
        boot.down(self.name, timeout_s=60.0)
        until(lambda: not self.living(), 30.0)

    def living(self) -> list[Owner]:
        """The processes of it that were ever heard of, and live."""
        return [process for process in self.seen.values() if processes.alive(process)]

    def for_tenant(self, tenant: str, directory: Path) -> World:
        """The same swarm for another tenant, with notes in another directory."""
        view = copy.copy(self)
        view.dir = directory
        view.client = chimera.connect(self.name, tenant, timeout_s=PATIENCE_S)
        return view

    # what is observed

    def status(self) -> SwarmStatus | None:
        """The swarm's status; None while its orchestrator does not answer."""
        try:
            found = boot.status(self.name, timeout_s=5.0)
        except ChimeraError:
            return None
        for process in (found.process, *found.processes()):
            self.seen[process.pid] = process
        return found

    def region(self) -> RegionReport:
        """The region's report, waited for."""

        def heard() -> RegionReport | None:
            found = self.status()
            return found.regions.get("local") if found is not None else None

        report: RegionReport = until(heard)
        return report

    def converged(self) -> SwarmStatus | None:
        """The status, if it is just what the spec declares."""
        found = self.status()
        if found is None or not found.ready or "local" not in found.regions:
            return None
        region, declared = found.regions["local"], self.spec.region("local")
        shares = Counter(region.placement.values())
        each = self.spec.shards // declared.leaders
        even = len(region.leaders) == declared.leaders == len(shares)
        staffed = all(len(leader.workers) == declared.workers for leader in region.leaders)
        return found if even and staffed and max(shares.values()) - each <= 1 else None

    def settle(self, within_s: float = PATIENCE_S) -> SwarmStatus:
        """Wait until it is just what its spec declares."""
        status: SwarmStatus = until(self.converged, within_s, self.tell)
        return status

    def tell(self) -> str:
        """The status in a few lines, for a test that failed."""
        found = self.status()
        if found is None:
            return "the orchestrator does not answer"
        told = [f"ready {found.ready}, waits for {found.waiting_for!r}, faults {found.faults}"]
        for region in found.regions.values():
            told.append(f"{region.coordinator}: ready {region.ready}, {region.placement}")
            for leader in region.leaders:
                shards = ", ".join(f"{s.shard} {s.state} {s.epoch}" for s in leader.shards)
                workers = ", ".join(worker.name for worker in leader.workers)
                told.append(f"{leader.leader}: ready {leader.ready}; {shards}; {workers}")
        return "\n".join(told)

    def leaders(self) -> dict[str, LeaderReport]:
        return {report.leader: report for report in self.region().leaders}

    def workers(self) -> dict[str, WorkerInfo]:
        """Every worker that a leader reports, by name."""
        return {w.name: w for leader in self.region().leaders for w in leader.workers}

    def counter(self, name: str) -> int:
        """A counter of the leaders that live, added up."""
        return sum(leader.counters.get(name, 0) for leader in self.region().leaders)

    def shard_of(self, key: str) -> int:
        """Where a key sends the client's tasks."""
        return ShardByKey(self.client.tenant, self.spec.shards)(key)

    def owner_of(self, key: str) -> LeaderReport:
        """The leader that serves a key."""
        region = self.region()
        name = region.placement[self.shard_of(key)]
        return next(report for report in region.leaders if report.leader == name)

    def keys_of(self, leader: str, count: int) -> list[str]:
        """Keys that a leader serves, each in another shard if there are enough."""
        placement = self.region().placement
        by_shard: dict[int, list[str]] = {}
        for number in range(1000):
            key = f"key-{number}"
            shard = self.shard_of(key)
            if placement.get(shard) == leader:
                by_shard.setdefault(shard, []).append(key)
        ranks = range(max(map(len, by_shard.values())))
        in_turn = [keys[rank] for rank in ranks for keys in by_shard.values() if rank < len(keys)]
        return in_turn[:count]

    # what is done to it

    def kill(self, process: Owner) -> None:
        """kill -9, if it lives; returns when it is gone."""
        self.signal(process, signal.SIGKILL)
        until(lambda: not processes.alive(process))

    def signal(self, process: Owner, number: int) -> None:
        if processes.alive(process):
            os.kill(process.pid, number)

    def kill_all(self, *, for_good: bool = False) -> None:
        """kill -9 of every process; Ray makes the orchestrator again, unless it is `for_good`."""
        status: SwarmStatus = until(self.status)
        if for_good:
            for name in (names.ORCHESTRATOR, names.RESULTS):
                handle = self.cluster.find(name)
                if handle is not None:
                    self.cluster.kill(handle)
        # parents first: they would make their children again
        for process in (status.process, *status.processes()):
            self.signal(process, signal.SIGKILL)
        for process in (status.process, *status.processes()):
            until(lambda process=process: not processes.alive(process))
        if for_good:
            until(lambda: not self.cluster.names())

    # what its journals say

    def check_one_outcome_each(self, tasks: int | None = None) -> None:
        """Every accepted task has one recorded outcome; `tasks` of them, if that is known."""
        spec = self.spec
        found = (
            outcomes_in_database(spec.store, spec.name, spec.shards)
            if spec.store
            else outcomes_by_count(self.data_dir)
        )
        assert set(found) <= {1}, f"tasks by outcomes: {dict(found)}"
        assert tasks is None or found[1] == tasks

    def kept(self) -> Iterator[Stored]:
        """What the embedded journals know of each task."""
        return ledger.kept(self.data_dir, self.name)


def open_gate(path: Path) -> None:
    """Let the handlers through that wait for this file."""
    path.touch()


def payloads(count: int, log: Path, **more: Any) -> list[dict[str, Any]]:
    """Payloads of numbered tasks that take notes."""
    return [{"log": str(log), "n": n, **more} for n in range(count)]


def times_run(found: Iterable[Note]) -> Counter[str]:
    """How often each task was run."""
    return Counter(one.task_id for one in found)
