"""Servers written in Java: their jars through Maven, fetched once a machine."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.servers.processes import cache_dir, run

_POM = """<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>chimera</groupId><artifactId>test-server</artifactId><version>1</version>
  <packaging>pom</packaging>
  <dependencies>{}</dependencies>
</project>
"""
_DEPENDENCY = (
    "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
)
#: small and quick to start; what is tested is not the JVM
JVM = (
    "-Xms64m", "-Xmx256m", "-Xss512k", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
    "-XX:ReservedCodeCacheSize=64m", "-XX:-UsePerfData",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)  # fmt: skip


def jars(name: str, artifacts: Sequence[str]) -> Path:
    """A directory with the jars of artifacts (`group:name:version`) and all that they need.

    Skips the test when there is no Java or Maven.
    """
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: a real server in Java cannot be started")
    home = cache_dir(name)
    done = home / "jars"
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.is_dir():
            work = Path(tempfile.mkdtemp(dir=home))
            listed = "".join(_DEPENDENCY.format(*one.split(":")) for one in artifacts)
            (work / "pom.xml").write_text(_POM.format(listed))
            run(
                ["mvn", "-q", "-B", "-f", "pom.xml", "dependency:copy-dependencies",
                 "-DincludeScope=runtime", f"-DoutputDirectory={work / 'jars'}"],
                work,
            )  # fmt: skip
            (work / "jars").rename(done)  # whole or not at all
            shutil.rmtree(work)
    return done


def java(jar_dir: Path, *arguments: str) -> list[str]:
    """The command that runs a class with all jars of a directory; java expands the star."""
    return ["java", *JVM, "-cp", f"{jar_dir}/*", *arguments]
