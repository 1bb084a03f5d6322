"""The example end to end, on a swarm of its own, with parts of it killed half way."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.style.sources import ROOT


@pytest.mark.slow
@pytest.mark.cluster
def test_killing_parts_of_the_swarm_changes_no_byte_of_the_report(tmp_path):
    arguments = ["--chaos", "--limit", "120", "--output", str(tmp_path)]
    run = subprocess.run(
        [sys.executable, "-m", "examples.stdlib_audit.main", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("kill -9") == 2
    assert "byte for byte" in run.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["totals"]["files"] == 120
    assert "</html>" in (tmp_path / "report.html").read_text()
