"""Where the processor's time goes for a no-op and a ruled task: by process and by function."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from benchmarks import clients, rig
from benchmarks.common import Document, Settings

#: tasks of one bulk, and of one go of ruled traffic
BULK = 100_000
RULED = 240_000
#: in the order of the table
ROLES = (
    "client", "leaders", "workers", "coordinator", "orchestrator", "results", "raylet", "gcs",
    "rest of Ray",
)  # fmt: skip
#: Ray names the processes of its actors by their classes
_CLASSES = {
    "Leader": "leaders",
    "Worker": "workers",
    "Coordinator": "coordinator",
    "Orchestrator": "orchestrator",
    "Results": "results",
}
#: samples a second that py-spy takes; more of them slow down what is measured
SPY_HZ = 200
#: functions of each role in the table
TOP = 12


def role_of(command: Iterable[str]) -> str:
    """Which role a process of Ray has, by its command line."""
    words = list(command)
    program = words[0] if words else ""
    actor = re.match(r"ray::(\w+)", program)
    if actor:
        return _CLASSES.get(actor[1], "rest of Ray")
    if program.endswith("raylet"):
        return "raylet"
    return "gcs" if program.endswith("gcs_server") else "rest of Ray"


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


class Spent:
    """Processor time by role, since it was made."""

    def __init__(self) -> None:
        self.processes = {psutil.Process(): "client"}
        for process in rig.marked():
            self.processes[process] = role_of(process.cmdline())
        self._before = {process: _cpu_s(process) for process in self.processes}

    def seconds(self) -> Counter[str]:
        spent: Counter[str] = Counter()
        for process, role in self.processes.items():
            try:
                spent[role] += _cpu_s(process) - self._before[process]
            except psutil.NoSuchProcess:
                continue
        return spent


Traffic = Callable[[rig.Swarm], clients.Span]


def _noop(swarm: rig.Swarm) -> clients.Span:
    return clients.submit_and_read(swarm.client(), clients.Work("bench.noop"), BULK)


def _ruled(swarm: rig.Swarm) -> clients.Span:
    return clients.submit_ruled(swarm.client, RULED)


TRAFFIC: dict[str, Traffic] = {"no-op": _noop, "ruled": _ruled}


def _loop(swarm: rig.Swarm, seconds: float, traffic: Traffic = _noop) -> tuple[int, float]:
    """Tasks for so long; returns how many, and how long it was."""
    began = time.monotonic()
    done = 0
    while time.monotonic() - began < seconds:
        done += traffic(swarm).count
    return done, time.monotonic() - began


def _by_process(document: Document, swarm: rig.Swarm, name: str, how: str, seconds: float) -> None:
    _loop(swarm, seconds / 5, TRAFFIC[name])
    spent = Spent()
    done, took_s = _loop(swarm, seconds, TRAFFIC[name])
    by_role = spent.seconds()
    rows = [
        [role, f"{1e6 * by_role[role] / done:.2f}", f"{100 * by_role[role] / took_s:.0f}"]
        for role in ROLES
        if by_role[role]
    ]
    total = sum(by_role.values())
    rows.append(["all", f"{1e6 * total / done:.2f}", f"{100 * total / took_s:.0f}"])
    document.table(
        f"Processor time of {done:,} {name} tasks at {done / took_s:,.0f}/s, {how}",
        ["who", "µs a task", "% of a core"],
        rows,
    )


# -- by function -------------------------------------------------------------------------------


def tops(collapsed: Iterable[str], top: int) -> list[tuple[str, float, float]]:
    """(function, share of samples in itself, share in it and below), the busiest first.

    Takes py-spy's raw lines: frames from the outside in, separated by `;`, then a count.
    """
    own: Counter[str] = Counter()
    below: Counter[str] = Counter()
    total = 0
    for row in collapsed:
        stack, _, times = row.rpartition(" ")
        if not stack or not times.isdigit():
            continue
        frames = [re.sub(r":\d+\)$", ")", frame) for frame in stack.split(";")]
        own[frames[-1]] += int(times)
        below.update(dict.fromkeys(frames, int(times)))
        total += int(times)
    return [
        (name, count / total, below[name] / total) for name, count in own.most_common(top)
    ]  # fmt: skip


def _record(spy: str, pid: int, seconds: float, path: Path) -> subprocess.Popen[bytes]:
    command = [
        spy, "record", "--pid", str(pid), "--rate", str(SPY_HZ), "--duration",
        str(max(int(seconds), 1)), "--format", "raw", "--output", str(path), "--nonblocking",
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _by_function(document: Document, swarm: rig.Swarm, how: str, seconds: float, spy: str) -> None:
    """Which functions the busy threads are in, of one process of each role at a time."""
    picked: dict[str, psutil.Process] = {}
    for process, role in Spent().processes.items():
        if role in ("client", "leaders", "workers"):
            picked.setdefault(role, process)
    with tempfile.TemporaryDirectory() as directory:
        for role, process in picked.items():
            path = Path(directory) / role
            recording = _record(spy, process.pid, seconds, path)
            while recording.poll() is None:
                _loop(swarm, 0.5)
            found = tops(path.read_text().splitlines(), TOP) if path.exists() else []
            if not found:
                document.note(f"py-spy could not look into {role}: it may need more rights")
                continue
            document.table(
                f"Where {role} are busy, {how}: % of samples (py-spy)",
                ["function", "in it", "and below"],
                [[name, f"{100 * own:.0f}", f"{100 * all_:.0f}"] for name, own, all_ in found],
            )


def run(document: Document, settings: Settings) -> None:
    """Processes first, then functions: py-spy slows down what it looks at."""
    seconds = float(settings.pick(10, 1))
    with rig.ray_cluster(settings.data_dir) as data_dir:
        for fsync in settings.fsyncs:
            how = "fsync" if fsync else "no fsync"
            with rig.swarm(data_dir, fsync=fsync) as swarm:
                for name in TRAFFIC:
                    _by_process(document, swarm, name, how, seconds)
                _idle(document, how, seconds)
                spy = _find_spy()
                if spy is None:
                    document.note("py-spy is not installed: no profile by function")
                else:
                    _by_function(document, swarm, how, seconds, spy)


def _find_spy() -> str | None:
    """py-spy of this environment, or any."""
    beside = os.path.dirname(sys.executable)
    return shutil.which("py-spy", path=os.pathsep.join([beside, os.environ.get("PATH", "")]))


def _idle(document: Document, how: str, seconds: float) -> None:
    """What a swarm takes that has nothing to do."""
    spent = Spent()
    time.sleep(seconds)
    by_role = spent.seconds()
    rows = [[role, f"{100 * by_role[role] / seconds:.1f}"] for role in ROLES if by_role[role]]
    rows.append(["all", f"{100 * sum(by_role.values()) / seconds:.1f}"])
    document.table(f"An idle swarm of 2 leaders and 2 workers, {how}", ["who", "% of a core"], rows)
