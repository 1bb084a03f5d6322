"""The command line for real: a swarm with a head of its own, one that a job left behind, `dev`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import psutil
import pytest

ROOT = Path(__file__).parent.parent.parent
CHIMERA = [str(Path(sys.executable).parent / "chimera")]
#: inherited by every process that the commands start
MARK = "CHIMERA_TEST_COMMAND_LINE"

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(300)]


class Home:
    """A user's directory of Chimera, and the commands that are given there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.mark = uuid.uuid4().hex
        gone = ("RAY_ADDRESS", "RAY_TMPDIR", "CHIMERA_ADDRESS")
        self.environment = {name: v for name, v in os.environ.items() if name not in gone} | {
            "CHIMERA_DATA_DIR": str(directory), MARK: self.mark, "NO_COLOR": "1",
        }  # fmt: skip

    def run(self, *words: str) -> str:
        """Give a command; returns what it printed. It must succeed."""
        done = subprocess.run(
            words, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=150,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def chimera(self, *words: str) -> Any:
        """Give a command of ours; returns what it printed as JSON."""
        return json.loads(self.run(*CHIMERA, *words, "--json"))

    def spec(self, name: str) -> Path:
        path = self.directory / f"{name}.yaml"
        path.write_text(f"name: {name}\nhandlers: [examples.hello]\nregions: [{{leaders: 1}}]\n")
        return path

    def head(self, swarm: str) -> dict[str, Any]:
        """The head that was started for a swarm."""
        found: dict[str, Any] = json.loads((self.directory / swarm / "head.json").read_text())
        return found

    def processes(self) -> list[psutil.Process]:
        """Everything that was started here and lives."""
        found = []
        for process in psutil.process_iter():
            try:
                if (
                    process.environ().get(MARK) == self.mark
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def actors(self) -> set[str]:
        """The classes of actors that live."""
        names = {process.name() for process in self.processes()}
        return {name.removeprefix("ray::").partition(".")[0] for name in names} & {
            "Orchestrator", "Coordinator", "Leader", "Worker", "Results",
        }  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path / "home")
    made.directory.mkdir()
    yield made
    for process in made.processes():
        process.kill()


def _pids(status: dict[str, Any]) -> set[int]:
    """Of all processes that a status names."""
    found: set[int] = set()
    todo: list[Any] = [status]
    while todo:
        one = todo.pop()
        if isinstance(one, dict):
            found |= {one["pid"]} if isinstance(one.get("pid"), int) else set()
            todo += one.values()
        elif isinstance(one, list):
            todo += one
    return found


def _value(stream: IO[str]) -> Any:
    """The next JSON value that a command prints."""
    text = ""
    for line in stream:
        text += line
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            continue
    raise AssertionError(f"no JSON: {text}")


def test_a_swarm_from_up_to_down_and_one_that_a_job_leaves_behind(home: Home) -> None:
    spec = str(home.spec("mine"))
    first = home.chimera("up", "-f", spec, "--dashboard")["swarm"]
    again = home.chimera("up", "-f", spec)["swarm"]
    assert first["ready"]
    assert again["ready"]
    assert again["generation"] == first["generation"]
    assert _pids(first) == _pids(again) != set()
    said = home.run(*CHIMERA, "submit", "--swarm", "mine", "hello", '"World"', "--wait")
    assert "Hello, World!" in said

    head = home.head("mine")
    job = f"cd {ROOT} && exec {' '.join(CHIMERA)} up -f configs/local.yaml"
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    home.run(*ray, "job", "submit", "--address", head["dashboard"], "--", "sh", "-c", job)
    there = ("--swarm", "local", "--address", head["address"])
    left = home.chimera("status", *there)
    assert left["ready"]
    assert _pids(left).isdisjoint(_pids(first))

    assert home.chimera("down", *there)["was_up"]
    assert not home.chimera("down", *there)["was_up"]
    living = {process.pid for process in home.processes()}
    assert living.isdisjoint(_pids(left))
    assert living >= _pids(first)
    assert home.chimera("down", "--swarm", "mine")["was_up"]
    assert home.processes() == []


def test_dev_shows_a_swarm_and_ends_it_when_it_is_interrupted(home: Home) -> None:
    command = [*CHIMERA, "dev", "-f", str(home.spec("short")), "--json"]
    running = subprocess.Popen(
        command, cwd=ROOT, env=home.environment, stdout=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    shown = _value(running.stdout)
    assert shown["swarm"]["ready"]
    assert home.actors() == {"Orchestrator", "Coordinator", "Leader", "Worker", "Results"}
    running.send_signal(signal.SIGINT)
    assert _value(running.stdout) == {"swarm": "short", "down": True}
    assert running.wait(60) == 0
    end = time.monotonic() + 10
    while home.processes() and time.monotonic() < end:
        time.sleep(0.05)
    assert home.processes() == []
