"""The GCS killed with kill -9: what goes on without it, and what comes back with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]


def test_a_killed_gcs_stops_no_task_and_actors_are_made_again_when_it_is_back(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "tests.swarm.head_outage", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=380, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["ran_once"], "some task ran twice, or not at all"
    assert seen["served_without_gcs_s"] < 30
    assert seen["down"]
