"""The Ray head of a swarm's own: begun once, recorded, and ended process by process."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chimera.cli import head
from chimera.client.address import find_head, head_file, read_head, start_ticks
from chimera.errors import ChimeraError

#: stands in for Ray: begins a child, writes the address as Ray does, ends both when told to
FAKE_RAY = """
import os, signal, subprocess, sys, time
arguments = dict(zip(sys.argv[1:-1], sys.argv[2:]))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
def end(*_):
    if "stubborn" not in os.environ.get("FAKE", ""):
        child.kill()
        child.wait()
    os._exit(0)
signal.signal(signal.SIGTERM, end)
if "broken" in os.environ.get("FAKE", ""):
    child.kill(); child.wait()
    sys.exit("no room for another head")
with open(os.path.join(arguments["--temp-dir"], "ray_current_cluster"), "w") as file:
    file.write("127.0.0.1:6666")
with open(os.path.join(arguments["--temp-dir"], "said"), "w") as file:
    file.write(" ".join(sys.argv[1:]) + "\\n" + os.environ["RAY_AUTH_MODE"])
time.sleep(600)
"""


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    """Heads are begun with a stand-in for Ray; none is left behind."""
    (tmp_path / "fake_ray.py").write_text(FAKE_RAY)
    monkeypatch.setattr(head, "RAY_START", [sys.executable, str(tmp_path / "fake_ray.py")])
    monkeypatch.setattr(head, "END_S", 1.0)
    yield tmp_path / "data"
    monkeypatch.setattr(head, "KILL_S", 5.0)
    head.end("local")


def begin(data_dir, dashboard=False):
    return head.begin("local", data_dir, dashboard, lambda text: None)


def test_it_is_begun_once_and_recorded(data_dir):
    made, is_new = begin(data_dir)
    again, is_new_again = begin(data_dir)
    assert (is_new, is_new_again) == (True, False)
    assert made == again == find_head("local") == read_head("local")
    assert made.address == "127.0.0.1:6666"
    assert len(made.processes) == 2
    assert stat.S_IMODE(head_file("local").stat().st_mode) == 0o600


def test_it_is_ended_with_all_its_processes(data_dir):
    made, _ = begin(data_dir)
    assert head.end("local") is True
    assert all(start_ticks(pid) != start for pid, start in made.processes.items())
    assert not Path(made.temp_dir).exists()
    assert find_head("local") is None
    assert head.end("local") is False


def test_processes_that_do_not_end_are_made_to(data_dir, monkeypatch):
    monkeypatch.setenv("FAKE", "stubborn")
    made, _ = begin(data_dir)
    assert head.end("local") is True
    assert all(start_ticks(pid) != start for pid, start in made.processes.items())


def test_others_processes_are_left_alone(data_dir):
    made, _ = begin(data_dir)
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        wrong = dict.fromkeys([bystander.pid], 1)  # its number, but it began at another time
        head._end_processes(head.Head("", "", "", bystander.pid, wrong))
        assert bystander.poll() is None
        assert made.is_alive()
    finally:
        bystander.communicate()


def test_a_token_is_asked_for_unless_the_user_says_otherwise(data_dir, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    made, _ = begin(data_dir)
    token = Path(made.environment["RAY_AUTH_TOKEN_PATH"])
    assert made.environment["RAY_AUTH_MODE"] == "token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert len(token.read_text()) == 64
    assert Path(made.temp_dir, "said").read_text().endswith("\ntoken")
    head.end("local")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    made, _ = begin(data_dir)
    assert made.environment == {"RAY_AUTH_MODE": "disabled"}


def test_its_dashboard_is_on_loopback_and_only_when_asked_for(data_dir):
    made, _ = begin(data_dir)
    said = Path(made.temp_dir, "said").read_text()
    assert "--include-dashboard false" in said
    assert made.dashboard == ""
    head.end("local")
    made, _ = begin(data_dir, dashboard=True)
    said = Path(made.temp_dir, "said").read_text()
    assert "--include-dashboard true --dashboard-host 127.0.0.1" in said
    assert made.dashboard.startswith("http://127.0.0.1:")


def test_a_head_that_does_not_start_says_why(data_dir, monkeypatch):
    monkeypatch.setenv("FAKE", "broken")
    with pytest.raises(ChimeraError, match="no room for another head"):
        begin(data_dir)
    assert read_head("local") is None


def test_a_head_that_was_too_slow_gets_a_second_chance(data_dir, monkeypatch):
    begun = []
    start = head._start

    def slow_at_first(*arguments):
        begun.append(arguments)
        if len(begun) == 1:
            raise ChimeraError("Ray did not start: The current node timed out during startup.")
        return start(*arguments)

    monkeypatch.setattr(head, "_start", slow_at_first)
    assert begin(data_dir)[1] is True
    assert len(begun) == 2


def test_the_record_of_a_dead_head_is_cleared(data_dir):
    made, _ = begin(data_dir)
    for pid in made.processes:
        os.kill(pid, 9)
    end = time.monotonic() + 10
    while any(start_ticks(pid) == start for pid, start in made.processes.items()):
        assert time.monotonic() < end
        head._reap(made.launcher)
    again, is_new = begin(data_dir)
    assert is_new
    assert again.launcher != made.launcher


def test_sockets_need_a_short_path(tmp_path):
    deep = tmp_path / ("x" * 60)
    assert len(str(head._temp_dir(deep))) <= head.TEMP_DIR_MAX
    short = Path("/tmp") / f"c{os.getpid()}"
    try:
        assert head._temp_dir(short) == short / "ray"
    finally:
        (short / "ray").rmdir()
        short.rmdir()
