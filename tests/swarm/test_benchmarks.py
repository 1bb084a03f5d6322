"""Each benchmark at a tiny size: it runs, finds what it is for, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import common, http, two_clusters
from benchmarks.__main__ import NAMES
from benchmarks.budgets import BUDGETS

ROOT = Path(__file__).parent.parent.parent

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


#: benchmarks whose parts are run by a test of what they measure: test_shared_regions
ELSEWHERE = {"shared"}


def run(*words):
    """Run the program of benchmarks in a process of its own; returns what it printed."""
    command = [sys.executable, "-m", "benchmarks", *words]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ELSEWHERE])
def test_a_benchmark_finds_what_it_is_for(name, tmp_path, request):
    more = []
    if name == "backends":  # skips where there are no servers; one part is enough
        request.getfixturevalue("kafka"), request.getfixturevalue("postgres")
        more = ["--only", "kafka + postgresql"]
    needed = {"regions": two_clusters.needed, "http": http.needed}
    if name in needed and (missing := needed[name]()):
        pytest.skip(missing)
    (tmp_path / "data").mkdir()
    path = tmp_path / f"{name}.json"
    printed = run(
        name, "--quick", "--fsync", "off", "--json", str(path),
        "--data-dir", str(tmp_path / "data"), *more,
    )  # fmt: skip
    found = common.load(path)
    assert found.benchmark == name
    assert found.settings.quick
    assert found.series or found.tables
    assert {one.budget for one in found.findings} >= {
        budget for budget, one in BUDGETS.items() if one.by == name and budget != "single_fsync"
    }
    assert all(one.n and one.low <= one.p50 <= one.high for one in found.series)
    assert all(one.name in printed for one in found.series)
    assert not list((tmp_path / "data").iterdir())


@pytest.mark.timeout(300)
def test_kept_results_make_a_report(tmp_path):
    kept = tmp_path / "results"
    kept.mkdir()
    (tmp_path / "data").mkdir()
    run(
        "startup", "--quick", "--fsync", "off", "--json", str(kept / "startup.json"),
        "--data-dir", str(tmp_path / "data"),
    )  # fmt: skip
    report, plot = tmp_path / "RESULTS.md", tmp_path / "results.png"
    run("report", "--json", str(kept), "--out", str(report), "--plot", str(plot))
    made = report.read_text()
    assert "startup" in made.lower()
    assert all(one.name in made for one in common.load(kept / "startup.json").series)
    assert plot.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
