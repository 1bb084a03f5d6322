"""A real Apicurio Registry, which speaks the REST API of Confluent's; from Maven Central."""

from __future__ import annotations

import fcntl
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.servers.processes import Server, cache_dir, free_ports, run

#: the last one that runs on Java 17
VERSION = "3.0.9"
_JAR = f"apicurio-registry-app-{VERSION}-runner.jar"


def apicurio(directory: Path) -> Iterator[str]:
    """URL of the Confluent API of a registry in memory. Skips without Java or Maven."""
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: a real server in Java cannot be started")
    port = free_ports(1)[0]
    url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
    settings = (
        "quarkus.http.host=127.0.0.1", f"quarkus.http.port={port}", "apicurio.storage.kind=sql",
        "apicurio.storage.sql.kind=h2", "apicurio.datasource.url=jdbc:h2:mem:registry",
        "quarkus.log.level=WARN",
    )  # fmt: skip
    command = [
        "java", "-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
        "-XX:-UsePerfData", *(f"-D{one}" for one in settings), "-jar", str(_home() / _JAR),
    ]  # fmt: skip
    server = Server("apicurio", command, directory, lambda: _answers(url))
    try:
        server.start()
        yield url
    finally:
        server.stop()


def _answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/subjects", timeout=2).status_code == 200
    except httpx2.HTTPError:
        return False


def _home() -> Path:
    """The unpacked distribution, fetched once a machine."""
    home = cache_dir(f"apicurio-{VERSION}")
    done = home / "app"
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.is_dir():
            work = Path(tempfile.mkdtemp(dir=home))
            artifact = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
            run(
                ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={artifact}",
                 f"-DoutputDirectory={work}"],
                work,
            )  # fmt: skip
            with tarfile.open(next(work.glob("*.tar.gz"))) as archive:
                archive.extractall(work / "app", filter="data")
            (work / "app").rename(done)  # whole or not at all
            shutil.rmtree(work)
    return done
