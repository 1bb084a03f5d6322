"""P10: when the disk is full submits are refused, while settling and reading go on; all mends by
itself when there is room."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chimera.errors import StoreFull
from chimera.serve.checks import swarm_checks
from tests.guarantees.kit import Lines, World, open_gate, payloads, until

pytestmark = pytest.mark.cluster

SIZE = "96m"


def _run(*command: str) -> bool:
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if shutil.which(command[0]) is None or (root and shutil.which("sudo") is None):
        return False
    done = subprocess.run([*root, *command], capture_output=True, check=False)
    return done.returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir()
    if not _run("mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=777", "none", str(path)):
        pytest.skip("a small file system cannot be mounted here: that takes root")
    yield path
    _run("umount", "-l", str(path))


def test_a_full_disk_refuses_submits_only_and_mends_by_itself(small_disk, make_swarm):
    world = make_swarm(leaders=1, shards=2, data_dir=str(small_disk / "data"))
    log, gate = world.dir / "log", world.dir / "gate"
    key = "k"
    done = world.client.submit("echo", "before", key=key)
    assert done.result(timeout_s=100) == "before"
    waiting = world.client.submit_many("work", payloads(50, log, gate=str(gate)), key=key)
    until(Lines(log))
    _fill_up(small_disk / "filler")

    def refused() -> bool:
        try:
            world.client.submit("echo", "x" * 60_000, key=key, timeout_s=10)
        except StoreFull:
            return True
        return False

    until(refused)
    until(lambda: unwell(world) == {"store/leader/local/0"})  # and nobody else is blamed
    # reads go on, and what was accepted is run and recorded
    assert world.client.handle(done.id).result(timeout_s=100) == "before"
    assert waiting[40].status().state == "queued"
    open_gate(gate)
    assert list(waiting.results(timeout_s=100)) == list(range(50))
    with pytest.raises(StoreFull):
        world.client.submit("echo", "still full", key=key, timeout_s=10)

    (small_disk / "filler").unlink()
    after = world.client.submit_many("echo", ["after"] * 10, key=key, timeout_s=100)
    assert list(after.results(timeout_s=100)) == ["after"] * 10
    assert world.client.submit("echo", "again", key=key).result(timeout_s=100) == "again"
    world.settle()
    until(lambda: not unwell(world))
    world.check_one_outcome_each()


def unwell(world: World) -> set[str]:
    """What `/readyz` would name."""
    status = world.status()
    return {"?"} if status is None else {one.name for one in swarm_checks(status) if not one.ok}


def _fill_up(path: Path) -> None:
    """Leave no room at all."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
