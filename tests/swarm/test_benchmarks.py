"""Each benchmark at a tiny size: it runs, finds what it is for, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import common, http, two_clusters
from benchmarks.__main__ import NAMES
from benchmarks.budgets import BUDGETS
from tests.servers import kafka, postgres

ROOT = Path(__file__).parent.parent.parent

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


#: benchmarks whose parts are run by a test of what they measure: test_shared_regions
ELSEWHERE = {"shared"}
#: of benchmarks that measure the same with one thing and with another, one is enough
ONE_PART = {"backends": "kafka + postgresql", "http": "haproxy"}


def run(*words):
    """Run the program of benchmarks in a process of its own; returns what it printed."""
    command = [sys.executable, "-m", "benchmarks", *words]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


class Results:
    """What benchmarks found and printed; each is run once, when a test first asks for it."""

    def __init__(self, directory):
        self.directory = directory
        self.printed = {}

    def of(self, name):
        """Where a benchmark's document is."""
        path = self.directory / f"{name}.json"
        if name not in self.printed:
            data = self.directory / f"data-{name}"
            data.mkdir()
            only = ["--only", ONE_PART[name]] if name in ONE_PART else []
            self.printed[name] = run(
                name, "--quick", "--fsync", "off", "--json", str(path),
                "--data-dir", str(data), *only,
            )  # fmt: skip
            data.rmdir()  # which fails if anything was left there
        return path


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return Results(tmp_path_factory.mktemp("results"))


def skip_what_is_missing(name):
    if name == "backends":
        kafka.program(), postgres.programs()
    needed = {"regions": two_clusters.needed, "http": http.needed}
    if name in needed and (missing := needed[name]()):
        pytest.skip(missing)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ELSEWHERE])
def test_a_benchmark_finds_what_it_is_for(name, results):
    skip_what_is_missing(name)
    path = results.of(name)
    found = common.load(path)
    assert found.benchmark == name
    assert found.settings.quick
    assert found.series or found.tables
    assert {one.budget for one in found.findings} >= {
        budget for budget, one in BUDGETS.items() if one.by == name and budget != "single_fsync"
    }
    assert all(one.n and one.low <= one.p50 <= one.high for one in found.series)
    assert all(one.name in results.printed[name] for one in found.series)


@pytest.mark.timeout(300)
def test_kept_results_make_a_report(tmp_path, results):
    kept = results.of("startup")
    report, plot = tmp_path / "RESULTS.md", tmp_path / "results.png"
    run("report", "--json", str(kept.parent), "--out", str(report), "--plot", str(plot))
    made = report.read_text()
    assert "startup" in made.lower()
    assert all(one.name in made for one in common.load(kept).series)
    assert plot.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
