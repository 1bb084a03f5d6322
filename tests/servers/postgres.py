"""A PostgreSQL of our own, from Debian's binaries, in a directory of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from tests.servers.certificates import Certificates
from tests.servers.processes import Server, free_ports, run, wait_until

PASSWORD = "s3cret-in-tests"


def binaries() -> Path | None:
    """Where the newest server's programs are."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return found[-1].parent if found else None


def programs() -> Path:
    """The same; skips where none is installed."""
    if (found := binaries()) is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    return found


class Postgres:
    """A server, started and stopped at will; its data stays."""

    def __init__(self, home: Path, programs: Path, *settings: str) -> None:
        self.home = home
        (self.port,) = free_ports(1)
        self._programs = programs
        self._as: list[str] = []
        if os.getuid() == 0:  # as whom the server refuses to run
            user = pwd.getpwnam("postgres")
            os.chown(home, user.pw_uid, user.pw_gid)
            self._as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        settings = (
            "listen_addresses=127.0.0.1", "shared_buffers=64MB", "max_connections=80",
            f"unix_socket_directories={home}", f"port={self.port}", *settings,
        )  # fmt: skip
        options = [part for setting in settings for part in ("-c", setting)]
        command = [*self._as, f"{programs}/postgres", "-D", "db", *options]
        self.server = Server("postgres", command, home, self._answers)

    def create(self) -> None:
        """Make the data directory."""
        secret = self.home / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        run(
            [*self._as, f"{self._programs}/initdb", "-D", "db", "-A", "scram-sha-256",
             "-U", "postgres", "--pwfile", "password", "-E", "UTF8", "--locale", "C.UTF-8",
             "--no-sync"],
            self.home,
        )  # fmt: skip

    def follow(self, primary: Postgres) -> None:
        """Make the data directory of a standby."""
        run(
            [*self._as, f"{self._programs}/pg_basebackup", "-d", primary.url(), "-D", "db", "-R",
             "-c", "fast", "-X", "stream"],
            self.home,
        )  # fmt: skip

    def secure(self, certificates: Certificates) -> None:
        """Have it speak TLS, from its next start on."""
        for source, name in ((certificates.cert, "server.crt"), (certificates.key, "server.key")):
            path = self.home / "db" / name
            shutil.copy(source, path)
            path.chmod(0o600)
            if self._as:
                shutil.chown(path, "postgres", "postgres")

    def url(self, database: str = "postgres", *, password: str = PASSWORD) -> str:
        return f"postgresql://postgres:{password}@127.0.0.1:{self.port}/{database}"

    def _answers(self) -> bool:
        try:
            return self.ask("select 1") == [(1,)]
        except (OSError, asyncpg.PostgresError):
            return False

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.server.start()

    def kill(self) -> None:
        """As if its machine had crashed."""
        self.server.kill()
        # its processes end when they notice; until then a new one refuses to start
        wait_until(lambda: not self._processes(), "the killed server's processes to end")

    def _processes(self) -> list[psutil.Process]:
        """Those that work in its data directory: each is in a session of its own."""
        found = []
        for process in psutil.process_iter():
            try:
                if Path(process.cwd()) == self.home / "db":
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def ask(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a statement that its administrator runs."""

        rows = asyncio.run(_connected(self.url(), lambda link: link.fetch(sql, *values)))
        return [tuple(row) for row in rows]

    def run_script(self, url: str, sql: str) -> None:
        """Run statements in one of its databases, all of them or none."""
        asyncio.run(_connected(url, lambda link: link.execute(sql)))

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"d{os.urandom(6).hex()}"
        self.ask(f"create database {name}")
        return self.url(name)


async def _connected(url: str, work: Callable[[Any], Any]) -> Any:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        return await work(connection)
    finally:
        await connection.close()


@contextlib.contextmanager
def prepared(*settings: str) -> Iterator[Postgres]:
    """A server without data, which is gone afterwards; skips where none is installed."""
    found = programs()
    # not below a directory that only one user may enter
    home = Path(tempfile.mkdtemp(prefix="chimera-postgres-", dir="/tmp"))
    server = Postgres(home, found, *settings)
    try:
        yield server
    finally:
        server.kill()
        shutil.rmtree(home, ignore_errors=True)


def fresh(*settings: str) -> Iterator[Postgres]:
    """A server that runs, and is gone afterwards."""
    with prepared(*settings) as server:
        server.create()
        server.start()
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for all tests, which take databases of their own; nobody stops it."""
    yield from fresh("fsync=off")


@dataclass(frozen=True)
class SmallSpace:
    """A database on a disk of its own, which has little room."""

    url: str
    disk: Path

    def fill(self) -> None:
        """Leave no room at all."""
        with (self.disk / "filler").open("ab", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"\0" * size)

    def free(self) -> None:
        """Give the room back that `fill` took."""
        (self.disk / "filler").unlink()


@pytest.fixture
def small_space(postgres: Postgres) -> Iterator[SmallSpace]:
    """Skips where no disk can be mounted."""
    name = f"s{os.urandom(4).hex()}"
    disk = postgres.home / name
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m,mode=777", "tmpfs", str(disk)]
    if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk takes the right to mount one")
    (disk / "space").mkdir()
    shutil.chown(disk / "space", "postgres")
    postgres.ask(f"create tablespace {name} location '{disk}/space'")
    postgres.ask(f"create database {name} tablespace {name}")
    yield SmallSpace(postgres.url(name), disk)
    postgres.ask(f"drop database {name} with (force)")
    postgres.ask(f"drop tablespace {name}")
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server that the test may kill and start."""
    yield from fresh()
