"""Server processes of tests: own ports on loopback, own directory, ended by their own pid."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

#: below what the kernel gives to outgoing connections, so that none of them takes a port of ours
_PORTS = range(10_240, 32_000)
#: seconds; a server that burns CPU at its start shares two cores with other tests
READY_S = 150.0


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody has now; random, so that parallel sessions do not meet."""
    found: list[int] = []
    while len(found) < count:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def cache_dir(name: str) -> Path:
    """Where fetched servers are kept between sessions."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(base) / "chimera-tests" / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def wait_until(holds: Callable[[], object], what: str, timeout: float = READY_S) -> None:
    """Wait for a condition; fail with its name when it does not come."""
    end = time.monotonic() + timeout
    while not holds():
        if time.monotonic() > end:
            pytest.fail(f"waited {timeout:.0f} s for {what}")
        time.sleep(0.02)


class Server:
    """One process of a server, which can be killed and started again."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        directory: Path,
        is_ready: Callable[[], object],
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._command = list(command)
        self._directory = directory
        self._is_ready = is_ready
        self._env = {**os.environ, **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start, and wait until it answers in its own protocol."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        log = (self._directory / f"{self.name}.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        def answers() -> bool:
            assert self._process is not None
            if self._process.poll() is not None:
                pytest.fail(f"{self.name} ended with {self._process.returncode}:\n{self.log()}")
            return bool(self._is_ready())

        wait_until(answers, f"{self.name} to answer")

    def log(self, lines: int = 30) -> str:
        """The end of what it printed."""
        text = (self._directory / f"{self.name}.log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def kill(self) -> None:
        """SIGKILL to the whole process group, as a lost machine looks to its clients."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Let it end well; kill it if that takes too long."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        for what in (how, signal.SIGKILL):
            try:
                os.killpg(process.pid, what)
                process.wait(15)
                break
            except ProcessLookupError:
                process.wait(15)
                break
            except subprocess.TimeoutExpired:
                continue
        self._process = None


def run(command: Sequence[str], directory: Path, env: Mapping[str, str] | None = None) -> str:
    """Run to the end, fail with what it said; returns its output."""
    done = subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{command[0]} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout
