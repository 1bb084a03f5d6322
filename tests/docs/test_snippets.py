"""What the documents tell a newcomer to type works as it stands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from chimera.config import make_spec
from tests.docs.execution import execute, interpreter
from tests.docs.snippets import NOT_HERE, Snippet, snippets

ROOT = Path(__file__).parent.parent.parent
RUN = ("README.md", "docs/quickstart.md", "docs/python.md", "docs/http.md")
#: documents whose commands need more than a machine → what runs them, or their like
ELSEWHERE = {
    "CONTRIBUTING.md": "CI",
    "benchmarks/README.md": "tests/swarm/test_benchmarks.py",
    "docs/backends.md": "tests/swarm/test_main_job_on_brokers.py",
    "docs/cli.md": "tests/swarm/test_ways_in.py",
    "docs/hacking.md": "CI",
    "docs/regions.md": "tests/swarm/test_two_clusters.py",
    "docs/registry.md": "tests/contract/test_confluent_clients.py",
    "docs/scale.md": "tests/swarm/test_benchmarks.py",
    "docs/simulator.md": "tests/unit/sim/test_simulator.py",
}
#: the machine that runs this may be busy
DEADLINE_S = 150.0
PORT = "8000"


def _documents() -> list[str]:
    found = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "benchmarks").glob("*.md"),
    ]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def _read(document: str) -> list[Snippet]:
    return list(snippets((ROOT / document).read_text()))


@pytest.mark.parametrize("document", _documents())
def test_every_snippet_is_run_here_or_elsewhere(document):
    assert (ROOT / document).read_text().count("\n```") == 2 * len(_read(document))
    for one in _read(document):
        assert one.language in {"python", "sh", "yaml", *NOT_HERE}, one
        runs = document in RUN or document in ELSEWHERE or one.language not in ("python", "sh")
        assert runs, f"{document}: nothing runs {one}"
    if (named := ELSEWHERE.get(document, "CI")) != "CI":
        assert (ROOT / named).exists()


@pytest.mark.parametrize("document", _documents())
def test_every_spec_is_one(document):
    for one in _read(document):
        if one.language == "yaml":
            make_spec(
                {"name": "snippet", "handlers": ["examples.hello"], **yaml.safe_load(one.text)}
            )


class Reader:
    """Somebody who does what a document says, in a directory of their own."""

    def __init__(self, port: int) -> None:
        self._port = str(port)
        self._python = interpreter()

    def follow(self, one: Snippet) -> None:
        """Save a file, give the commands, or run the program."""
        text = one.text.replace(PORT, self._port)
        if one.file is not None:
            Path(one.file).write_text(text)
        elif one.language == "sh":
            self.type(text)
        elif one.language == "python":
            printed = self._python.submit(execute, text).result(DEADLINE_S)
            assert printed.splitlines() == one.prints, one.text

    def type(self, text: str, check: bool = True) -> None:
        """Give commands to a shell that stops at the first that fails."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text], capture_output=True, text=True, check=False,
            timeout=DEADLINE_S, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert not check or done.returncode == 0, (
            f"{text}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )

    def leave(self) -> None:
        self._python.shutdown()
        self.type("chimera down", check=False)


@pytest.fixture
def reader(ray_cluster, http_port, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CHIMERA_ADDRESS", ray_cluster.address)
    monkeypatch.setenv("CHIMERA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("CHIMERA_CONFIG", str(tmp_path / "config.json"))
    monkeypatch.delenv("CHIMERA_SWARM", raising=False)
    made = Reader(http_port)
    yield made
    made.leave()


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("document", RUN)
def test_what_a_document_says_works(document, reader):
    todo = [one for one in _read(document) if one.why_not is None]
    comes_up = any("chimera up" in one.text for one in todo if one.language == "sh")
    for one in todo:
        if one.file is None and one.language in ("sh", "python") and not comes_up:
            reader.type("chimera up")
            comes_up = True
        reader.follow(one)
