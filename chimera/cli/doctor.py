"""`chimera doctor`: what this machine, the spec and the swarm look like, and how to mend them."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from chimera.cli.backends import (
    look_at_bus,
    look_at_objects,
    look_at_registry,
    look_at_store,
)
from chimera.cli.output import ERROR, Output, address_option, command
from chimera.cli.status import read_status
from chimera.cli.up import DEFAULT_FILE, spec_option
from chimera.client.address import home, resolve
from chimera.config import load_spec
from chimera.errors import ChimeraError, NotFound
from chimera.swarm.spec import Spec

PYTHON_MIN = (3, 10)
#: bytes free below which journals soon refuse, and below which it is time to look
FREE_FAIL = 200 * 1024**2
FREE_WARN = 2 * 1024**3
#: bytes of shared memory that Ray wants at least
SHARED_MIN = 64 * 1024**2
#: file systems on which SQLite's write-ahead log does not work, or not safely
NETWORKED = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre"}
#: file systems whose content does not survive the machine's restart
FLEETING = {"tmpfs", "ramfs"}
#: what adjtimex answers while the clock is not kept in time
_TIME_ERROR = 5

_MARKS = {"ok": "[green]ok[/]  ", "warn": "[yellow]warn[/]", "fail": "[red]fail[/]"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw."""

    check: str
    state: str  #: `ok`, `warn` or `fail`
    saw: str
    mend: str = ""  #: what to do about it


@command()
@spec_option
@address_option
def doctor(out: Output, swarm: str, path: Path | None, address: str | None) -> int:
    """Look at this machine, the spec and the swarm; say what is wrong and how to mend it.

    Ends with 1 if a check failed; warnings are for a person to judge.

    \b
    Examples:
      chimera doctor
      chimera doctor -f swarm.yaml -o json
    """
    findings: list[Finding] = []

    def say(finding: Finding) -> None:
        findings.append(finding)
        if not out.is_structured:
            out.console.print(f"{_MARKS[finding.state]}  {finding.check}:", end=" ")
            out.console.print(finding.saw, markup=False)
            if finding.mend:
                out.console.print(f"        {finding.mend}", markup=False)

    for finding in examine(swarm, path, address):
        say(finding)
    failed = sum(one.state == "fail" for one in findings)
    out.result({"ok": not failed, "checks": findings}, lambda: None)
    return ERROR if failed else 0


def examine(swarm: str, path: Path | None, address: str | None) -> Iterator[Finding]:
    """All checks, one after the other; what one cannot look at, it says."""
    yield check_python()
    yield check_ray()
    spec = None
    if path is not None or Path(DEFAULT_FILE).is_file():
        finding, spec = check_spec(path or Path(DEFAULT_FILE))
        yield finding
    if spec is not None:
        swarm = spec.name
        yield check_handlers(spec)
        yield from check_backends(spec)
    data_dir = Path(spec.data_dir) if spec is not None else home() / swarm
    yield check_writable(data_dir)
    yield check_file_system(data_dir)
    yield check_space(data_dir)
    yield check_shared_memory()
    yield check_clock()
    yield check_address(swarm, address)
    yield check_swarm(swarm, address)


def check_python() -> Finding:
    """Whether this Python will do."""
    saw = f"Python {platform.python_version()} at {sys.executable}"
    if sys.version_info < PYTHON_MIN:
        return Finding("python", "fail", saw, "install Python 3.10 or newer")
    return Finding("python", "ok", saw)


def check_ray() -> Finding:
    """Whether the installed Ray is the one that Chimera is built on."""
    from chimera.actors import boot

    try:
        boot.check_version()
    except ChimeraError as fault:
        return Finding("ray", "fail", fault.message, "install the version named above")
    import ray

    return Finding("ray", "ok", f"Ray {ray.__version__}")


def check_spec(path: Path) -> tuple[Finding, Spec | None]:
    """Whether the spec is well-formed."""
    try:
        spec = load_spec(path)
    except ChimeraError as fault:
        return Finding("spec", "fail", fault.message, f"correct {path}"), None
    return Finding("spec", "ok", f"{path} describes swarm {spec.name}"), spec


def check_handlers(spec: Spec) -> Finding:
    """Whether the modules of handlers can be loaded here, as the workers load them."""
    from chimera.actors import code
    from chimera.api import registry

    try:
        with code.as_actors_see():
            types = registry.load(spec.handlers).policies()
    except ChimeraError as fault:
        return Finding("handlers", "fail", fault.message, "correct the module, or the spec")
    named = ", ".join(sorted(policy.type for policy in types))
    return Finding("handlers", "ok", f"{len(types)} task types: {named}")


def check_writable(data_dir: Path) -> Finding:
    """Whether files can be made and synced in the data directory."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=data_dir) as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
    except OSError as fault:
        mend = f"make {data_dir} writable for this user, or set data_dir in the spec"
        return Finding("data directory", "fail", f"{data_dir}: {fault.strerror}", mend)
    return Finding("data directory", "ok", f"{data_dir} can be written")


def check_file_system(data_dir: Path) -> Finding:
    """Whether journals are safe on the file system."""
    kind, mount = file_system(existing(data_dir))
    saw = f"{kind} at {mount}"
    if kind in NETWORKED or kind.startswith("fuse."):
        mend = "journals need a local disk: their write-ahead log is not safe on this one"
        return Finding("file system", "fail", saw, mend)
    if kind in FLEETING:
        return Finding("file system", "warn", saw, "what is kept there ends with the machine")
    return Finding("file system", "ok", saw)


def check_space(data_dir: Path) -> Finding:
    """Whether there is room for journals."""
    free = shutil.disk_usage(existing(data_dir)).free
    saw = f"{free / 1024**3:,.1f} GiB free"
    if free < FREE_FAIL:
        return Finding("space", "fail", saw, "free some: submits are refused when it is full")
    if free < FREE_WARN:
        return Finding("space", "warn", saw, "a million small tasks take about 0.2 GiB a day kept")
    return Finding("space", "ok", saw)


def check_backends(spec: Spec) -> Iterator[Finding]:
    """Whether broker, database and object store are there, and safe."""
    if spec.bus:
        yield from (Finding("bus", *seen) for seen in look_at_bus(spec))
    if spec.store:
        yield from (Finding("store", *seen) for seen in look_at_store(spec))
    if spec.registry:
        yield from (Finding("registry", *seen) for seen in look_at_registry(spec.registry))
    yield Finding("objects", *look_at_objects(spec))


def check_shared_memory() -> Finding:
    """Whether Ray has the shared memory that its object store lives in."""
    try:
        free = shutil.disk_usage("/dev/shm").free
    except OSError as fault:
        return Finding("shared memory", "warn", f"/dev/shm: {fault.strerror}", "Ray uses the disk")
    saw = f"{free / 1024**2:,.0f} MiB free in /dev/shm"
    if free < SHARED_MIN:
        return Finding("shared memory", "warn", saw, "give the container more, e.g. --shm-size=1g")
    return Finding("shared memory", "ok", saw)


def check_clock() -> Finding:
    """Whether something keeps the clock in time: delays, deadlines and retention rest on it."""
    # larger than the kernel's struct timex; its first field, `modes`, is 0: change nothing
    buffer = ctypes.create_string_buffer(1024)
    try:
        answer = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    except (OSError, AttributeError):
        answer = -1
    if answer == _TIME_ERROR:
        mend = "run a time service (chrony, systemd-timesyncd), on the host of a container"
        return Finding("clock", "warn", "nothing keeps it in time", mend)
    if answer < 0:
        return Finding("clock", "ok", "the kernel does not say who keeps it in time")
    return Finding("clock", "ok", "kept in time")


def check_address(swarm: str, address: str | None) -> Finding:
    """Which Ray cluster the commands would use."""
    try:
        where = resolve(swarm, address)
    except ChimeraError as fault:
        return Finding("cluster", "fail", fault.message, "remove that file if no head is running")
    if where is None:
        return Finding("cluster", "ok", "none is named: `chimera up` starts one here")
    mode = where.environment.get("RAY_AUTH_MODE") or os.environ.get("RAY_AUTH_MODE", "Ray's choice")
    return Finding("cluster", "ok", f"{where.address} ({where.source}), authentication: {mode}")


def check_swarm(swarm: str, address: str | None) -> Finding:
    """Whether the swarm is up, and well."""
    try:
        status = read_status(swarm, address)
    except NotFound as fault:
        return Finding("swarm", "ok", f"not up ({fault.message})")
    except ChimeraError as fault:
        return Finding("swarm", "fail", fault.message, f"see `chimera status --swarm {swarm}`")
    if not status.ready:
        saw = f"{swarm} waits for {status.waiting_for or 'its parts'}"
        return Finding("swarm", "fail", saw, f"see `chimera status --swarm {swarm}`")
    if status.faults:
        return Finding("swarm", "warn", "; ".join(status.faults), "see `chimera status`")
    return Finding("swarm", "ok", f"{swarm} is ready: {status.summary}")


def existing(path: Path) -> Path:
    """The path, or the nearest directory above it that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def file_system(path: Path) -> tuple[str, str]:
    """Kind and mount point of the file system that a path is on."""
    real = os.path.realpath(path)
    best = ("unknown", "/")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, kind, *_ = line.split(" ")
        mount = mount.encode().decode("unicode_escape")
        if os.path.commonpath([mount, real]) == mount and len(mount) >= len(best[1]):
            best = (kind, mount)
    return best
