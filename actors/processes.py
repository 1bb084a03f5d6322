"""Who a process is, whether it lives, and how it is ended without ever hitting another one (P3).

A pid alone is never killed: boot, pid namespace, pid, start time and Ray node must all match, and
the signal goes through a pidfd opened before the last look, which no reused pid can receive.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from chimera.actors.cluster import node_id
from chimera.swarm.health import Scrutiny, ScrutinyPolicy
from chimera.swarm.reports import Owner

#: between two looks at a process, seconds
LOOK_S = 0.05
_POLICY = ScrutinyPolicy()
#: for a process that Ray was told to end: a signal on top would make Ray report a crash
AFTER_RAY = ScrutinyPolicy(patience_s=1.0, still_s=1.0)
#: for a killed process to be gone; longer only in uninterruptible I/O, seconds
DEATH_S = 5.0


class Ended(str, Enum):
    """What became of a process that was to be ended."""

    ENDED = "ended"  #: it lived, and is gone now
    GONE = "gone"  #: it was gone already
    ELSEWHERE = "elsewhere"  #: another machine, pid namespace or Ray node: not ours to kill
    BUSY = "busy"  #: it lives: called off, or it did not die in time


class Stat(NamedTuple):
    """What /proc says of a process."""

    state: str  #: R, S, D, T, t, Z or X
    cpu_ticks: int
    start_ticks: int


def identity(name: str) -> Owner:
    """This process, as the actor `name`."""
    return identify(name, os.getpid(), node_id())


def identify(name: str, pid: int, node: str) -> Owner:
    """A process of this machine and pid namespace. Raises ProcessLookupError."""
    stat = look(pid)
    if stat is None:
        raise ProcessLookupError(pid)
    return Owner(
        name=name,
        boot_id=_boot_id(),
        pid_ns=_pid_ns(),
        pid=pid,
        start_ticks=stat.start_ticks,
        node_id=node,
    )


def alive(owner: Owner) -> bool | None:
    """Whether the process lives; None if that cannot be known from here."""
    if not _same_machine(owner):
        return None
    stat = look(owner.pid)
    return stat is not None and stat.start_ticks == owner.start_ticks and stat.state not in "ZX"


def end(
    owner: Owner,
    *,
    policy: ScrutinyPolicy = _POLICY,
    called_off: Callable[[], bool] = lambda: False,
) -> Ended:
    """Kill the process, after a look at it (P3); returns when it is gone, within about 7 s.

    Stopped or dying: killed at once. Working, by its CPU time: given the policy's patience, in
    which `called_off` may save it (it spoke again).
    """
    if not _same_machine(owner):
        return Ended.ELSEWHERE
    try:
        descriptor = os.pidfd_open(owner.pid)
    except ProcessLookupError:
        return Ended.GONE
    except OSError:  # no pidfd here: a pid alone is not killed
        return Ended.ELSEWHERE
    try:
        stat = look(owner.pid)
        if stat is None or stat.start_ticks != owner.start_ticks or _exited(descriptor, 0.0):
            return Ended.GONE
        if owner.node_id != node_id():
            return Ended.ELSEWHERE
        if not _wait_while_working(descriptor, owner, policy, called_off):
            return Ended.BUSY
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        except ProcessLookupError:
            return Ended.ENDED
        return Ended.ENDED if _exited(descriptor, DEATH_S) else Ended.BUSY
    finally:
        os.close(descriptor)


def look(pid: int) -> Stat | None:
    """What /proc says of `pid`; None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # the command's name may hold blanks and brackets: what follows the last ')' is regular
    fields = text[text.rindex(b")") + 2 :].split()
    return Stat(fields[0].decode(), int(fields[11]) + int(fields[12]), int(fields[19]))


def peek(owner: Owner) -> tuple[bool, Stat | None]:
    """Whether the process can be seen and ended from here, and what /proc says of it.

    None if it is gone, also when its pid has been given to another one since.
    """
    if not _same_machine(owner) or owner.node_id != node_id():
        return False, None
    stat = look(owner.pid)
    return True, stat if stat is not None and stat.start_ticks == owner.start_ticks else None


def _wait_while_working(
    descriptor: int, owner: Owner, policy: ScrutinyPolicy, called_off: Callable[[], bool]
) -> bool:
    """Return when the process should be killed (True) or was saved (False)."""
    scrutiny = Scrutiny(time.monotonic(), policy)
    while True:
        stat = look(owner.pid)
        state, ticks = (stat.state, stat.cpu_ticks) if stat else (None, 0)
        if scrutiny.condemns(state, ticks, time.monotonic()):
            return True
        if called_off():
            return False
        if _exited(descriptor, LOOK_S):
            return True


def _exited(descriptor: int, wait_s: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(wait_s * 1000))


def _same_machine(owner: Owner) -> bool:
    return owner.boot_id == _boot_id() and owner.pid_ns == _pid_ns()


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def _pid_ns() -> int:
    return os.stat("/proc/self/ns/pid").st_ino
