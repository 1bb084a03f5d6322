"""A local Ray head of a swarm's own: begun as a daemon, recorded, and ended process by process.

Ray listens on all interfaces, so the head asks for a token that only this user can read, unless
RAY_AUTH_MODE says otherwise.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from chimera.client.address import Head, find_head, head_file, read_head, start_ticks
from chimera.errors import ChimeraError, WaitTimeout

#: begins a head, and stays to watch it
RAY_START = [sys.executable, "-m", "ray.scripts.scripts", "start"]
#: seconds that a head may take to begin
START_S = 90.0
#: seconds that its processes may take to end when they are asked to, and when they are made to
END_S = 15.0
KILL_S = 5.0
POLL_S = 0.05
#: Unix sockets have paths of at most 107 bytes, of which Ray needs about 66 for its own
TEMP_DIR_MAX = 40
#: the object store holds what handlers put there themselves: Chimera's own data is inline
OBJECT_STORE_BYTES = 256 * 1024 * 1024
#: Ray's word for a busy machine: it gives itself 30 s, which nothing can change
_SLOW = "timed out during startup"
#: written by Ray into its directory when the head is there
ADDRESS_FILE = "ray_current_cluster"


def begin(
    swarm: str, data_dir: Path, dashboard: bool, say: Callable[[str], None]
) -> tuple[Head, bool]:
    """The swarm's own head, and whether it was begun just now.

    Raises WaitTimeout if it does not come up, ChimeraError with the last words of its log if it
    ends at once.
    """
    record = head_file(swarm)
    record.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _lock(record.with_suffix(".lock")):
        head = find_head(swarm)
        if head is not None:
            return head, False
        _clear(swarm)
        say("starting a Ray head on this machine")
        try:
            head = _start(record.parent, data_dir, dashboard)
        except ChimeraError as fault:
            if _SLOW not in fault.message:
                raise
            say("Ray was too slow to start; once more")
            head = _start(record.parent, data_dir, dashboard)
        _write(record, msgspec.json.encode(head))
        return head, True


def end(swarm: str) -> bool:
    """End exactly the processes of the swarm's own head; whether there was one.

    Raises ChimeraError if some do not end.
    """
    record = head_file(swarm)
    if not record.parent.is_dir():
        return False
    with _lock(record.with_suffix(".lock")):
        return _clear(swarm)


def _clear(swarm: str) -> bool:
    head = read_head(swarm)
    if head is None:
        return False
    _end_processes(head)
    shutil.rmtree(head.temp_dir, ignore_errors=True)
    head_file(swarm).unlink(missing_ok=True)
    return True


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One command at a time begins or ends a head."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _start(home: Path, data_dir: Path, dashboard: bool) -> Head:
    temp_dir = _temp_dir(data_dir)
    log = data_dir / "ray-head.log"
    environment = _environment(home)
    arguments = [
        "--head", "--block", "--port", "0", "--temp-dir", str(temp_dir),
        "--include-dashboard", str(dashboard).lower(), "--dashboard-host", "127.0.0.1",
        "--dashboard-agent-listen-port", "0", "--min-worker-port", "0", "--max-worker-port", "0",
        "--ray-client-server-port", str(_free_port()),
        "--object-store-memory", str(OBJECT_STORE_BYTES),
        "--disable-usage-stats", "--log-style", "record", "--log-color", "false",
    ]  # fmt: skip
    if dashboard:
        port = _free_port()
        arguments += ["--dashboard-port", str(port)]
    with log.open("wb") as words:
        launcher = subprocess.Popen(
            [*RAY_START, *arguments],
            env={**os.environ, **_FOR_RAY, **environment},
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a terminal that closes takes its own session along, not ours
        )
    begun = start_ticks(launcher.pid) or 0
    try:
        address = _wait(launcher, temp_dir / ADDRESS_FILE, log)
    except BaseException:
        _end_processes(Head("", "", str(temp_dir), launcher.pid, {launcher.pid: begun}))
        raise
    kept = {name: environment[name] for name in environment if name in _LET_IN}
    return Head(
        address=address,
        ray=_ray_version(),
        temp_dir=str(temp_dir),
        launcher=launcher.pid,
        processes={launcher.pid: begun, **_session(launcher.pid)},
        environment=kept,
        dashboard=f"http://127.0.0.1:{port}" if dashboard else "",
    )


#: workers are as important as their callers; a busy machine takes longer to start them
_FOR_RAY = {"RAY_worker_niceness": "0", "RAY_raylet_start_wait_time_s": "60"}
#: what another process needs of the head's environment in order to be let in
_LET_IN = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH")


def _environment(home: Path) -> dict[str, str]:
    """The head's authentication, always explicit: else Ray decides by what it finds."""
    mode = os.environ.get("RAY_AUTH_MODE")
    if mode:
        return {name: os.environ[name] for name in _LET_IN if name in os.environ}
    token = home / "auth_token"
    if not token.exists():
        _write(token, secrets.token_hex(32).encode())
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}


def _temp_dir(data_dir: Path) -> Path:
    """Where the head keeps sockets and logs: below the data directory if paths stay short."""
    data_dir.mkdir(parents=True, exist_ok=True)
    own = data_dir.resolve() / "ray"
    if len(str(own)) <= TEMP_DIR_MAX:
        shutil.rmtree(own, ignore_errors=True)
        own.mkdir(mode=0o700)
        return own
    return Path(tempfile.mkdtemp(prefix="chimera-"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _ray_version() -> str:
    from importlib.metadata import version

    return version("ray")


def _wait(launcher: subprocess.Popen[bytes], file: Path, log: Path) -> str:
    """The head's address, once it is there."""
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        with contextlib.suppress(FileNotFoundError):
            if address := file.read_text().strip():
                return address
        if launcher.poll() is not None:
            last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
            raise ChimeraError(f"Ray did not start: {last[-1] if last else 'no word'} (see {log})")
        time.sleep(POLL_S)
    raise WaitTimeout(f"Ray did not start in {START_S:g} s (see {log})")


def _write(path: Path, data: bytes) -> None:
    """Write a file that only this user can read, whole or not at all."""
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    part.replace(path)


def _session(leader: int) -> dict[int, int]:
    """Living processes of the session that `leader` began: pid → start."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                is_member = os.getsid(int(entry)) == leader
            except (ProcessLookupError, PermissionError):
                continue
            start = start_ticks(int(entry)) if is_member else None
            if start is not None:
                found[int(entry)] = start
    return found


def _end_processes(head: Head) -> None:
    """First the one that ends the others in order, then whoever is left."""
    launcher = head.launcher
    # a session keeps its number as long as it has members; without any it may be another's by now
    is_ours = any(start_ticks(pid) == start for pid, start in head.processes.items())
    _signal(launcher, head.processes.get(launcher, 0), signal.SIGTERM)
    for wait_s, number in ((END_S, signal.SIGKILL), (KILL_S, None)):
        until = time.monotonic() + wait_s
        while True:
            left = {p: s for p, s in head.processes.items() if start_ticks(p) == s}
            if is_ours:
                left |= _session(launcher)
            if not left:
                return
            if time.monotonic() >= until:
                break
            _reap(launcher)
            time.sleep(POLL_S)
        for pid, start in left.items():
            if number is not None:
                _signal(pid, start, number)
    raise ChimeraError(f"processes of the Ray head do not end: {sorted(left)}")


def _signal(pid: int, start: int, number: int) -> None:
    """Signal a process, if it is still the one that began at `start`."""
    try:
        descriptor = os.pidfd_open(pid)
    except (ProcessLookupError, PermissionError):
        return
    try:
        if start_ticks(pid) == start:
            signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)


def _reap(pid: int) -> None:
    """Take note of its end, if it is a child of ours."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
