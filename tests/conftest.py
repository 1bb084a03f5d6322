"""What every test relies on: one isolated Ray a session, and nothing left running after it."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, settings

from tests.servers.processes import free_ports

#: one of each server for all directories of tests
pytest_plugins = ("tests.servers.fixtures",)

#: inherited by every process that this session starts, so that one left behind can be told
MARK = "CHIMERA_TEST_SESSION"
#: processes that end by themselves get this long to do so, seconds
STRAGGLERS_S = 15.0
#: the helper of Python's own that a process has from its first `multiprocessing` to its end
ENDS_WITH_US = "multiprocessing.resource_tracker"
#: directory names of Ray's sockets take about 80 of the 107 bytes that Unix allows
TMP_LENGTH_MAX = 24

#: what the workers of a session with several found wrong at their end
WORKERS_FAULTS = pytest.StashKey[list[str]]()

os.environ[MARK] = uuid.uuid4().hex
os.environ["RAY_AUTH_MODE"] = "disabled"  # else Ray writes a token into the user's home
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
os.environ["RAY_worker_niceness"] = "0"
os.environ.pop("RAY_ADDRESS", None)
os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)

settings.register_profile(
    "chimera", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("chimera")


@dataclass(frozen=True)
class RayCluster:
    """A Ray of this session's own; the test process is connected to it as a driver."""

    address: str  #: for other processes: `RAY_ADDRESS`
    temp_dir: Path


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayCluster]:
    """One local Ray for the whole session, in its own directory and on ports that it picks."""
    import ray

    base = tempfile.gettempdir()
    if len(base) > TMP_LENGTH_MAX:
        base = "/tmp"
    temp_dir = Path(tempfile.mkdtemp(prefix="cr", dir=base))
    # Ray's address book for `auto` lies in RAY_TMPDIR: ours must not lead anybody else astray
    os.environ["RAY_TMPDIR"] = str(temp_dir)
    context = ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=100_000_000,
        log_to_driver=False,
        namespace="chimera-tests",
        _temp_dir=str(temp_dir),
    )
    try:
        yield RayCluster(context.address_info["gcs_address"], temp_dir)
    finally:
        ray.shutdown()
        os.environ.pop("RAY_TMPDIR")
        _wait_until_ended()  # what still runs would make the directory anew
        shutil.rmtree(temp_dir, ignore_errors=True)


@pytest.fixture(scope="session")
def http_port(ray_cluster: RayCluster) -> int:
    """Where every gateway of the session listens: a Serve that runs cannot move to another port."""
    return free_ports(1)[0]


def _left_behind() -> list[psutil.Process]:
    """Living processes, this one aside, that inherited the session's mark."""
    mark = os.environ[MARK]
    found = []
    for process in psutil.process_iter():
        try:
            if (
                process.pid != os.getpid()
                and ENDS_WITH_US not in " ".join(process.cmdline())
                and process.status() != psutil.STATUS_ZOMBIE
                and process.environ().get(MARK) == mark
            ):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def _wait_until_ended() -> list[psutil.Process]:
    """Give what this session started time to end; returns what did not."""
    end = time.monotonic() + STRAGGLERS_S
    while (left := _left_behind()) and time.monotonic() < end:
        time.sleep(0.1)
    return left


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the session for a process left behind, and in CI for a skipped test.

    With several workers (`-n`) each looks for what its own tests left, and the one that hands out
    the tests reports it.
    """
    hands_out = session.config.pluginmanager.hasplugin("dsession")
    faults = [] if hands_out else _end_what_is_left()
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["faults"] = faults
        return
    faults += session.config.stash.get(WORKERS_FAULTS, [])
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CHIMERA_TESTS_NO_SKIP") and reporter is not None:
        faults += [f"skipped: {report.nodeid}" for report in reporter.stats.get("skipped", ())]
    if faults:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if reporter is not None:
            reporter.section("not allowed at the end of a session", sep="!")
            for fault in faults:
                reporter.line(fault)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Keep what a worker that ends says of its tests."""
    output = getattr(node, "workeroutput", {})
    node.config.stash.setdefault(WORKERS_FAULTS, []).extend(output.get("faults", ()))


def _end_what_is_left() -> list[str]:
    faults = []
    for process in _wait_until_ended():
        try:
            faults.append(f"left running: {process.pid} {' '.join(process.cmdline())[:150]}")
            process.kill()
        except psutil.NoSuchProcess:
            continue
    return faults
