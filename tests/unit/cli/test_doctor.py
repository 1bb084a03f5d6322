"""`chimera doctor`: each check says what it saw, and how to mend it."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from chimera.actors import boot
from chimera.cli import doctor
from chimera.client import link
from chimera.errors import WrongVersion
from tests.unit.cli.kit import chimera, printed
from tests.unit.cli.test_lifecycle import status


class Usage(NamedTuple):
    """As `shutil.disk_usage` answers."""

    total: int
    used: int
    free: int


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def spec(tmp_path, handlers="examples.stdlib_audit.tasks"):
    file = tmp_path / "spec.yaml"
    file.write_text(f"name: local\nhandlers: [{handlers}]\ndata_dir: {tmp_path}/data\n")
    return str(file)


def checks(*arguments) -> dict[str, dict]:
    found = printed(chimera("doctor", "--json", *arguments))
    return {one["check"]: one for one in found["checks"]}


def test_a_sound_machine(tmp_path):
    run = chimera("doctor", "-f", spec(tmp_path))
    assert run.exit_code == 0, run.output
    found = checks("-f", spec(tmp_path))
    assert {one["state"] for one in found.values()} <= {"ok", "warn"}
    assert found["handlers"]["saw"].startswith("1 task types: audit.file")
    assert "not up" in found["swarm"]["saw"]
    assert found["ray"]["saw"].startswith("Ray 2.60")
    assert (tmp_path / "data").is_dir()


def test_a_module_that_does_not_load(tmp_path):
    run = chimera("doctor", "-f", spec(tmp_path, "no.such.module"))
    assert run.exit_code == 1
    assert "fail  handlers" in run.stdout
    assert "correct the module" in run.stdout


def test_a_faulty_spec(tmp_path):
    (tmp_path / "bad.yaml").write_text("handlers: 5\n")
    found = checks("-f", "bad.yaml")
    assert found["spec"]["state"] == "fail"
    assert "handlers" not in found


def test_a_wrong_ray(monkeypatch):
    def wrong():
        raise WrongVersion("Ray 1.0 is installed")

    monkeypatch.setattr(boot, "check_version", wrong)
    assert checks()["ray"]["state"] == "fail"


def test_a_data_directory_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    found = doctor.check_writable(tmp_path / "file" / "data")
    assert (found.state, "make" in found.mend) == ("fail", True)


@pytest.mark.parametrize(
    ("kind", "state"),
    [("ext4", "ok"), ("tmpfs", "warn"), ("nfs4", "fail"), ("fuse.sshfs", "fail")],
)
def test_file_systems(tmp_path, monkeypatch, kind, state):
    monkeypatch.setattr(doctor, "file_system", lambda path: (kind, "/mnt"))
    found = doctor.check_file_system(tmp_path / "not" / "yet")
    assert (found.state, found.saw) == (state, f"{kind} at /mnt")


def test_the_file_system_of_proc():
    assert doctor.file_system(doctor.Path("/proc/self")) == ("proc", "/proc")


@pytest.mark.parametrize(("free", "state"), [(10**6, "fail"), (10**9, "warn"), (10**11, "ok")])
def test_space(tmp_path, monkeypatch, free, state):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: Usage(0, 0, free))
    assert doctor.check_space(tmp_path).state == state


def test_shared_memory(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: Usage(0, 0, 2**20))
    assert "--shm-size" in doctor.check_shared_memory().mend


def test_the_clock_is_judged():
    assert doctor.check_clock().state in {"ok", "warn"}


@pytest.mark.parametrize(
    ("found", "state", "says"),
    [
        (status(), "ok", "local is ready"),
        (status(ready=False), "fail", "waits for shard 0"),
        (status(faults=("disk full",)), "warn", "disk full"),
    ],
)
def test_the_swarm(monkeypatch, found, state, says):
    monkeypatch.setattr(link, "join_ray", lambda swarm, where: None)
    monkeypatch.setattr(boot, "status", lambda swarm, **_: found)
    seen = checks("--address", "x:1")
    assert (seen["swarm"]["state"], says in seen["swarm"]["saw"]) == (state, True)
    assert seen["cluster"]["saw"].startswith("x:1 (--address)")
