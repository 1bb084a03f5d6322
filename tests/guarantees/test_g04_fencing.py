"""G4: only the owner of a shard's current epoch can append, record, park, cancel or acknowledge,
checked in the same database transaction that writes."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks.ledger import journals
from chimera import names
from chimera.actors import processes
from chimera.actors.cluster import Cluster, node_id, on_this_node
from chimera.actors.leader import Leader
from chimera.config import make_spec
from chimera.errors import NotOwner, StaleEpoch, from_wire
from chimera.frames import command
from chimera.store.journal import schema
from chimera.store.protocol import Receipt
from chimera.swarm.reports import LeaderReport, Owner, TakeOrder, WorkerInfo
from chimera.swarm.spec import leader_config
from tests.guarantees import chronicle
from tests.guarantees.kit import (
    HANDLERS,
    Lines,
    notes,
    open_gate,
    outcomes_by_count,
    payloads,
    times_run,
    until,
)

pytestmark = pytest.mark.cluster

A, B = names.leader("local", 0), names.leader("local", 1)


class Pair:
    """Two leaders without a coordinator: the test gives the orders."""

    def __init__(self, directory: Path) -> None:
        self.dir = directory
        self.spec = make_spec(
            {
                "name": f"g{uuid.uuid4().hex[:8]}",
                "handlers": [HANDLERS],
                "data_dir": str(directory),
                "shards": 1,
            }
        )
        self.cluster = Cluster(names.namespace(self.spec.name))
        config = leader_config(self.spec, "local", 1)
        self.handles = {
            name: self.cluster.create(
                Leader, name, config, names.coordinator("local"), **on_this_node()
            )
            for name in (A, B)
        }
        self.seen: list[Owner] = []

    def call(self, leader: str, method: str, *args: Any) -> Any:
        return self.cluster.call(getattr(self.handles[leader], method).remote(*args), 60.0)

    def report(self, leader: str) -> LeaderReport:
        found: LeaderReport = self.call(leader, "watch", "the test", 1, 0.0)
        self.seen += [found.process, *(worker.process for worker in found.workers)]
        return found

    def take(self, leader: str, epoch: int, former: tuple[WorkerInfo, ...] = ()) -> None:
        """Order a leader to take the shard; returns when it serves it."""
        until(lambda: self.report(leader).ready)
        self.call(leader, "take", TakeOrder(1, 0, epoch, former))
        until(lambda: self.call(leader, "owned").get(0) == epoch + 1)

    def frame(self, first: int, bodies: list[dict[str, Any]]) -> bytes:
        head = command.Head("work", "default", at=int(time.time() * 1000))
        encoded = [msgspec.json.encode(body) for body in bodies]
        return command.pack(9, 0, first, command.encode_head(head), encoded, None)

    def disguise_owner(self) -> None:
        """Let the journal say that its owner runs on a machine that nobody here can reach."""
        with closing(sqlite3.connect(journals(self.dir)[0], isolation_level=None)) as db:
            (blob,) = db.execute("SELECT owner FROM shard").fetchone()
            owner = replace(msgspec.json.decode(blob, type=Owner), boot_id="another machine")
            db.execute("UPDATE shard SET owner = ?", (msgspec.json.encode(owner),))

    def end(self) -> None:
        for handle in self.handles.values():
            self.cluster.call_all([handle.retire.remote(2)], 30.0)
            self.cluster.kill(handle)
        until(lambda: not any(processes.alive(process) for process in self.seen))


@pytest.fixture
def pair(ray_cluster, tmp_path) -> Iterator[Pair]:
    pair = Pair(tmp_path)
    yield pair
    pair.end()


def test_a_stopped_leader_that_nobody_could_end_is_refused_every_write_when_it_goes_on(pair):
    log, gate = pair.dir / "log", pair.dir / "gate"
    pair.take(A, 0)
    bodies = payloads(20, log, gate=str(gate))
    (receipt,) = pair.call(A, "append", 0, pair.frame(0, bodies))
    assert isinstance(receipt, Receipt)
    until(Lines(log))
    zombie = pair.report(A)

    pair.cluster.call(pair.handles[B].__ray_ready__.remote(), 60)
    _signal(zombie.process, signal.SIGSTOP)
    pair.disguise_owner()
    pair.take(B, 1, zombie.workers)
    assert processes.alive(zombie.process)
    _signal(zombie.process, signal.SIGCONT)

    with pytest.raises(StaleEpoch):
        pair.call(A, "memoise", 0, 0, "step", b"1")
    with pytest.raises(StaleEpoch):
        pair.call(A, "cancel", "default", 9, 0, 5, "too late")
    (answer,) = pair.call(A, "append", 0, pair.frame(20, bodies))
    assert isinstance(from_wire(answer), NotOwner)
    assert pair.call(A, "owned") == {}
    open_gate(gate)  # the worker of A ends its task, and tells both

    until(lambda: outcomes_by_count(pair.dir) == {1: 20})
    assert set(times_run(notes(log)).values()) == {1}
    assert pair.report(B).counters["succeeded"] == 20
    assert pair.report(A).counters.get("succeeded", 0) == 0


def test_a_journal_is_taken_from_an_owner_that_is_stopped_inside_a_transaction(pair):
    script = """
import os, signal, sqlite3, sys
from chimera.actors import processes
from chimera.store.journal import SqliteJournal
path, swarm, node = sys.argv[1:]
os.makedirs(os.path.dirname(path), exist_ok=True)
journal = SqliteJournal(path, 0, fsync=False, swarm_id=swarm)
journal.take(0, processes.identify("leader/local/7", os.getpid(), node))
db = sqlite3.connect(path, isolation_level=None)
db.execute("BEGIN IMMEDIATE")
db.execute("UPDATE shard SET commits = commits + 1000")
print("stopped", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
db.execute("COMMIT")
"""
    path = pair.dir / "journals" / names.journal(0)
    owner = subprocess.Popen(
        [sys.executable, "-c", script, str(path), pair.spec.name, node_id()],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "stopped\n"
        until(lambda: (look := processes.look(owner.pid)) and look.state == "T")
        pair.take(B, 1)
        assert owner.wait(30) == -signal.SIGKILL
        log = pair.dir / "log"
        (receipt,) = pair.call(B, "append", 0, pair.frame(0, payloads(20, log)))
        assert isinstance(receipt, Receipt)
        until(lambda: outcomes_by_count(pair.dir) == {1: 20})
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close()


def test_a_leader_that_is_stopped_is_ended_and_its_journals_move(make_swarm):
    world = make_swarm()
    log = world.dir / "log"
    bulk = world.client.submit_many("work", payloads(3000, log, ms=1))
    until(lambda: Lines(log)() > 300)
    victim = world.region().leaders[0]
    epochs = {shard.shard: shard.epoch for shard in victim.shards}
    world.signal(victim.process, signal.SIGSTOP)

    until(lambda: not processes.alive(victim.process))
    assert list(bulk.results(timeout_s=100)) == list(range(3000))
    assert set(times_run(notes(log)).values()) == {1}
    world.settle()
    now = {shard.shard: shard.epoch for one in world.region().leaders for shard in one.shards}
    assert all(now[shard] > epoch for shard, epoch in epochs.items())
    world.check_one_outcome_each(3000)
    assert chronicle.violations(world.kept(), [bulk], [log]) == []


def test_a_leader_that_is_stopped_while_it_writes_loses_its_journals_too(make_swarm):
    world = make_swarm(durability="fsync")
    bulks: list[Any] = []
    stopped = threading.Event()

    def flood() -> None:
        while not stopped.is_set() or len(bulks) < 4:
            bulks.append(world.client.submit_many("echo", range(4000), timeout_s=100))
            until(lambda: len(bulks) < 2 or bulks[-2].wait(timeout_s=100))

    flooding = threading.Thread(target=flood, daemon=True)
    flooding.start()
    victim = world.region().leaders[0]
    paths = [journals(world.data_dir)[shard.shard] for shard in victim.shards]

    def stop_inside() -> bool:
        world.signal(victim.process, signal.SIGSTOP)
        until(lambda: (look := processes.look(victim.process.pid)) and look.state == "T")
        if any(map(_is_locked, paths)):
            return True
        world.signal(victim.process, signal.SIGCONT)
        return False

    until(stop_inside)
    stopped.set()
    until(lambda: not processes.alive(victim.process))
    flooding.join(100)
    assert not flooding.is_alive()
    for bulk in bulks:
        assert list(bulk.results(timeout_s=100)) == list(range(4000))
    world.check_one_outcome_each(4000 * len(bulks))
    assert chronicle.violations(world.kept(), bulks) == []


def _signal(process: Owner, number: int) -> None:
    assert processes.alive(process)
    os.kill(process.pid, number)


def _is_locked(path: Path) -> bool:
    """Whether somebody is in the middle of a transaction that writes."""
    with closing(schema.connect(str(path), fsync=False)) as db:
        db.execute("PRAGMA busy_timeout = 0")
        try:
            db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        db.execute("ROLLBACK")
        return False
