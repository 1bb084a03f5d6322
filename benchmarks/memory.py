"""How much memory a leader takes for a million commands that wait for their turn."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks import clients, rig
from benchmarks.budgets import judge
from benchmarks.common import Document, Settings

TASKS = 1_000_000
MIB = 1 << 20
#: for the queue to be worked off once the gate is open
DRAIN_S = 600.0
#: for the leader's memory to settle once everything is accepted
SETTLE_S = 2.0


def memory_mib(pid: int) -> tuple[float, float]:
    """Resident memory of a process, and that which is its own alone."""
    found = psutil.Process(pid).memory_full_info()
    return found.rss / MIB, found.uss / MIB


def _fill(swarm: rig.Swarm, keyed: bool, tasks: int, gate: Path) -> Any:
    payloads = ({"gate": str(gate), "i": i, "path": f"/srv/data/{i:08d}"} for i in range(tasks))
    key = list(itertools.islice(itertools.cycle(clients.KEYS), tasks)) if keyed else None
    return swarm.client().submit_many("bench.gate", payloads, key=key)


def _measure(document: Document, data_dir: Path, keyed: bool, tasks: int) -> None:
    """One leader, so that all of the commands are its own; then they are run, and counted."""
    how = "2,000 keys" if keyed else "no keys"
    with rig.swarm(data_dir, leaders=1, workers=1, queue_bound=tasks) as swarm:
        swarm.client().call("bench.noop", clients.PAYLOADS[0], 60)
        leader = swarm.leaders(1)[0].process.pid
        before, own_before = memory_mib(leader)
        gate = data_dir / f"gate-{keyed}"
        began = time.monotonic()
        bulk = _fill(swarm, keyed, tasks, gate)
        took_s = time.monotonic() - began
        queued = rig.until(lambda: _open_tasks(swarm) >= tasks, 60, "report of a full queue")
        time.sleep(SETTLE_S)
        full, own_full = memory_mib(leader)
        gate.touch()
        began = time.monotonic()
        counts = bulk.wait(timeout_s=DRAIN_S)
        drained_s = time.monotonic() - began
        after, _ = memory_mib(leader)
    if not queued or counts.succeeded != tasks:
        raise clients.WrongResult(f"{counts} of {tasks} tasks")
    document.add(f"resident memory of the leader before, {how}", "MiB", [before])
    document.add(f"resident memory of the leader, {tasks:,} queued, {how}", "MiB", [full])
    document.add(f"its own alone, {tasks:,} queued, {how}", "MiB", [own_full])
    document.add(f"a queued task, {how}", "B", [(own_full - own_before) * MIB / tasks])
    document.add(f"resident memory of the leader after, {how}", "MiB", [after])
    document.add(f"accepted, {how}", "/s", [tasks / took_s])
    document.add(f"worked off, {how}", "/s", [tasks / drained_s])
    judge(document, "memory", how, full, f"{before:.0f} MiB before; {tasks:,} tasks")


def _open_tasks(swarm: rig.Swarm) -> int:
    return sum(shard.open for one in swarm.region().leaders for shard in one.shards)


def run(document: Document, settings: Settings) -> None:
    """A queue of tasks without keys, and one with."""
    with rig.ray_cluster(settings.data_dir) as data_dir:
        for keyed in (False, True):
            _measure(document, data_dir, keyed, settings.pick(TASKS, 20_000))
