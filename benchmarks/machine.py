"""What the numbers were measured on, and how steady that machine is by itself."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import ray

ROOT = Path(__file__).parent.parent


def describe(data_dir: str) -> dict[str, Any]:
    """The machine and the versions of what matters."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "filesystem": _filesystem(data_dir),
        "python": platform.python_version(),
        "ray": ray.__version__,
        "sqlite": sqlite3.sqlite_version,
        "commit": _commit(),
    }


def load() -> list[float]:
    """The load averages of 1, 5 and 15 minutes."""
    return [round(one, 2) for one in os.getloadavg()]


def _cpu_model() -> str:
    for row in Path("/proc/cpuinfo").read_text().splitlines():
        if row.startswith("model name"):
            return row.partition(":")[2].strip()
    return platform.machine()


def _filesystem(directory: str) -> str:
    """The type of the file system that a directory is on: fsync costs nothing on some."""
    path = os.path.realpath(directory)
    mounts = {one.mountpoint: one.fstype for one in psutil.disk_partitions(all=True)}
    while path not in mounts and path != "/":
        path = os.path.dirname(path)
    return mounts.get(path, "unknown")


def _commit() -> str:
    """The commit that is measured, `+` if files differ from it; empty outside a checkout."""
    try:
        found = [
            subprocess.run(
                ["git", "-C", str(ROOT), *args], capture_output=True, text=True, check=True
            ).stdout.strip()
            for args in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "-uno"))
        ]
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found[0] + ("+" if found[1] else "")


def sleep_overshoot_ms(count: int) -> list[float]:
    """By how much each of `count` sleeps of 1 ms was too long."""
    found = []
    for _ in range(count):
        began = time.perf_counter()
        time.sleep(0.001)
        found.append(1000 * (time.perf_counter() - began - 0.001))
    return found


def handoff_ms(count: int) -> list[float]:
    """Round trips of a byte between two threads, through pipes: two wake-ups each."""
    there, back = os.pipe(), os.pipe()

    def echo() -> None:
        while os.read(there[0], 1) == b"x":
            os.write(back[1], b"x")

    thread = threading.Thread(target=echo, name="echo", daemon=True)
    thread.start()
    found = []
    for _ in range(count):
        began = time.perf_counter()
        os.write(there[1], b"x")
        os.read(back[0], 1)
        found.append(1000 * (time.perf_counter() - began))
    os.write(there[1], b"q")
    thread.join()
    for end in (*there, *back):
        os.close(end)
    return found


def fdatasync_ms(directory: str, count: int) -> list[float]:
    """Appends of 100 bytes, each forced to the disk."""
    path = os.path.join(directory, "fdatasync.probe")
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    found = []
    try:
        for _ in range(count):
            began = time.perf_counter()
            os.write(file, b"." * 100)
            os.fdatasync(file)
            found.append(1000 * (time.perf_counter() - began))
    finally:
        os.close(file)
        os.unlink(path)
    return found
