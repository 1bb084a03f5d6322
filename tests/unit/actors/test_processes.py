"""Ending real processes: killed, stopped, busy, idle, and never one that only has the same pid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, repeat

import pytest

from chimera.actors import processes
from chimera.actors.processes import Ended
from chimera.swarm.health import ScrutinyPolicy

#: patience so short that a test need not wait for it, and long enough to tell the cases apart
SHORT = ScrutinyPolicy(patience_s=0.5, still_s=0.2)
IDLE = "import signal; print(flush=True); signal.pause()"
BUSY = "print(flush=True)\nwhile True: pass"


@pytest.fixture
def child() -> Iterator:
    """Starts children that say when they run; ends them."""
    started = []

    def start(code: str = IDLE):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout
        process.stdout.readline()
        return process, processes.identify("child", process.pid, processes.node_id())

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def until(holds) -> None:
    end = time.monotonic() + 10.0
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_this_process_knows_itself():
    me = processes.identity("me")
    assert me.name == "me"
    assert me.pid == os.getpid()
    assert processes.alive(me) is True
    assert processes.peek(me)[0] is True


def test_an_idle_process_is_ended_once_it_has_stood_still(child):
    process, owner = child()
    assert processes.alive(owner) is True
    assert processes.end(owner, policy=SHORT) is Ended.ENDED
    assert process.wait() == -signal.SIGKILL
    assert processes.alive(owner) is False


def test_a_process_that_is_gone_needs_no_end(child):
    process, owner = child()
    process.kill()
    process.wait()
    assert processes.end(owner) is Ended.GONE
    assert processes.peek(owner) == (True, None)


def test_a_zombie_is_gone(child):
    process, owner = child()
    process.kill()
    until(lambda: processes.look(process.pid).state == "Z")
    assert processes.alive(owner) is False
    assert processes.end(owner) is Ended.GONE


def test_a_stopped_process_is_ended_without_any_patience(child):
    process, owner = child()
    process.send_signal(signal.SIGSTOP)
    until(lambda: processes.look(process.pid).state == "T")
    forever = ScrutinyPolicy(patience_s=1e9, still_s=1e9)
    assert processes.end(owner, policy=forever) is Ended.ENDED


def test_a_busy_process_is_given_its_patience_and_then_ended(child):
    _, owner = child(BUSY)
    assert processes.end(owner, policy=SHORT) is Ended.ENDED


def test_a_busy_process_that_speaks_again_is_spared(child):
    process, owner = child(BUSY)
    spoke = chain([False, False, True], repeat(True))
    forever = ScrutinyPolicy(patience_s=1e9, still_s=1e9)
    assert processes.end(owner, policy=forever, called_off=lambda: next(spoke)) is Ended.BUSY
    assert process.poll() is None


def test_a_process_that_ends_while_it_is_looked_at_is_ended(child):
    process, owner = child(BUSY)
    forever = ScrutinyPolicy(patience_s=1e9, still_s=1e9)
    killer = threading.Timer(0.1, process.kill)
    killer.start()
    assert processes.end(owner, policy=forever) is Ended.ENDED
    killer.join()


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({"start_ticks": 1}, Ended.GONE),  # the pid was given to another process
        ({"boot_id": "another"}, Ended.ELSEWHERE),
        ({"pid_ns": 1}, Ended.ELSEWHERE),
        ({"node_id": "another"}, Ended.ELSEWHERE),
    ],
)
def test_one_that_only_has_the_same_pid_is_not_touched(child, change, answer):
    process, owner = child()
    assert processes.end(replace(owner, **change), policy=SHORT) is answer
    assert process.poll() is None


@pytest.mark.parametrize(
    ("change", "lives", "here"),
    [
        ({"start_ticks": 1}, False, True),
        ({"boot_id": "another"}, None, False),
        ({"pid_ns": 1}, None, False),
        ({"node_id": "another"}, True, False),
    ],
)
def test_what_can_be_known_of_a_process(child, change, lives, here):
    _, owner = child()
    assert processes.alive(replace(owner, **change)) is lives
    assert processes.peek(replace(owner, **change))[0] is here


def test_without_pidfd_nothing_is_killed(child, monkeypatch):
    process, owner = child()

    def missing(pid):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", missing)
    assert processes.end(owner) is Ended.ELSEWHERE
    assert process.poll() is None


def test_a_name_with_blanks_and_brackets_does_not_confuse(child):
    code = "import ctypes; ctypes.CDLL(None).prctl(15, b'a) R (b', 0, 0, 0);" + IDLE
    process, owner = child(code)
    until(lambda: processes.look(process.pid).state == "S")
    assert processes.alive(owner) is True


def test_there_is_no_identity_without_a_process():
    with pytest.raises(ProcessLookupError):
        processes.identify("nobody", 2**22 - 1, "")
