"""`chimera up`, `dev`, `down` and `status`: what they begin, end, print and leave behind."""

from __future__ import annotations

import os
import signal
import threading
from types import SimpleNamespace

import pytest

from chimera.actors import boot
from chimera.cli import head
from chimera.client import address, link
from chimera.errors import HandlerLoadError, NotFound, WaitTimeout
from chimera.swarm.budget import Counts, evaluated
from chimera.swarm.reports import (
    LeaderReport,
    Owner,
    RegionReport,
    ShardInfo,
    SwarmStatus,
    WorkerInfo,
)
from chimera.swarm.slo import SloSpec
from tests.unit.cli.kit import chimera, printed


def owner(name: str, pid: int) -> Owner:
    return Owner(name, "boot", 1, pid, 1, "node")


def status(ready: bool = True, **changes) -> SwarmStatus:
    worker = WorkerInfo("worker/local/0/a-1", owner("worker", 14), handle=object())
    leader = LeaderReport(
        "leader/local/0", owner("leader/local/0", 13), 1, True,
        (ShardInfo(1, 4, "serving", 1200), ShardInfo(0, 3, "taking", 0)), (worker,),
        {"accepted": 5000, "succeeded": 3800, "worker_deaths": 1}, ("disk is [nearly] full",),
    )  # fmt: skip
    region = RegionReport(
        "coordinator/local", "local", 2, owner("coordinator/local", 12), 1, ready, (leader,),
        {0: "leader/local/0"}, 1,
    )  # fmt: skip
    fields = {
        "swarm": "local", "uuid": "u", "term": 1, "process": owner("orchestrator", 11),
        "generation": 1, "spec": {}, "summary": "local: 8 shards", "regions": {"local": region},
        "ready": ready, "since": 0, "waiting_for": "" if ready else "shard 0", "stopping": False,
    }  # fmt: skip
    return SwarmStatus(**{**fields, **changes})


@pytest.fixture
def world(monkeypatch, tmp_path):
    """Boot and head as a log of what was asked of them."""
    log: list[str] = []
    heads: dict[str, address.Head] = {}

    def begin(swarm, data_dir, dashboard, say):
        is_new = swarm not in heads
        start = address.start_ticks(os.getpid())
        made = address.Head("h:1", "2", "/t", os.getpid(), {os.getpid(): start}, {"A": "1"})
        heads.setdefault(swarm, made)
        log.append(f"begin {data_dir} dashboard={dashboard}" if is_new else "head is there")
        return heads[swarm], is_new

    def end(swarm):
        log.append("end head")
        return heads.pop(swarm, None) is not None

    monkeypatch.setattr(head, "begin", begin)
    monkeypatch.setattr(head, "end", end)
    monkeypatch.setattr(address, "find_head", heads.get)
    monkeypatch.setattr("chimera.cli.down.find_head", heads.get)
    monkeypatch.setattr(link, "join_ray", lambda swarm, where: log.append(f"join {where.address}"))
    monkeypatch.setattr(boot, "up", lambda spec, **_: log.append("boot up") or status())
    monkeypatch.setattr(boot, "down", lambda swarm, **_: log.append("boot down"))
    monkeypatch.setattr(boot, "status", lambda swarm, **_: status())
    (tmp_path / "chimera.yaml").write_text("name: local\nhandlers: [app]\n")
    monkeypatch.chdir(tmp_path)
    return log


class TestUp:
    def test_it_begins_a_head_if_no_ray_is_named(self, world, tmp_path):
        run = chimera("up")
        assert run.exit_code == 0, run.output
        assert world == [
            f"begin {tmp_path / 'home' / 'local'} dashboard=False", "join h:1", "boot up",
        ]  # fmt: skip
        assert "leader/local/0 ready" in run.stdout
        assert "ready in" in run.stderr

    @pytest.mark.parametrize("variable", ["CHIMERA_ADDRESS", "RAY_ADDRESS"])
    def test_in_a_job_it_goes_to_the_jobs_ray(self, world, monkeypatch, variable):
        monkeypatch.setenv(variable, "job:6379")
        assert chimera("up").exit_code == 0
        assert world == ["join job:6379", "boot up"]

    def test_an_address_given_is_used(self, world):
        assert chimera("up", "--address", "x:1", "-f", "chimera.yaml").exit_code == 0
        assert world == ["join x:1", "boot up"]

    def test_a_second_time_it_finds_its_head(self, world):
        chimera("up")
        world.clear()
        assert chimera("up").exit_code == 0
        assert world == ["join h:1", "boot up"]

    def test_what_cannot_come_up_leaves_nothing_behind(self, world, monkeypatch):
        def refuse(spec, **_):
            raise HandlerLoadError("module app: no such module")

        monkeypatch.setattr(boot, "up", refuse)
        run = chimera("up")
        assert run.exit_code == 1
        assert "error: module app: no such module\n" in run.stderr
        assert world[-1] == "end head"

    def test_what_is_slow_goes_on(self, world, monkeypatch):
        def late(spec, **_):
            raise WaitTimeout("not ready in time")

        monkeypatch.setattr(boot, "up", late)
        assert chimera("up").exit_code == 124
        assert "end head" not in world

    def test_a_faulty_spec_is_told_with_its_line(self, world, tmp_path):
        (tmp_path / "bad.yaml").write_text("name: local\nhandlers: [app]\nshard: 3\n")
        run = chimera("up", "-f", "bad.yaml")
        assert run.exit_code == 2
        assert "bad.yaml" in run.stderr
        assert "did you mean `shards`" in run.stderr
        assert world == []

    def test_without_a_spec_it_says_what_to_do(self, world, tmp_path):
        (tmp_path / "chimera.yaml").unlink()
        run = chimera("up")
        assert run.exit_code == 2
        assert "-f FILE" in run.stderr

    def test_as_json(self, world):
        assert printed(chimera("up", "--json"))["swarm"]["swarm"] == "local"


class TestDown:
    def test_it_ends_the_swarm_and_its_own_head(self, world):
        chimera("up")
        world.clear()
        run = chimera("down")
        assert (run.exit_code, run.stderr) == (0, "swarm local is down\n")
        assert world == ["join h:1", "boot down", "end head"]

    def test_the_ray_of_others_is_left_alone(self, world):
        assert chimera("down", "--address", "x:1").exit_code == 0
        assert world == ["join x:1", "boot down"]

    def test_to_do_it_again_changes_nothing(self, world):
        run = chimera("down", "--json")
        assert run.exit_code == 0
        assert printed(run) == {"swarm": "local", "was_up": False}
        assert "boot down" not in world


class TestStatus:
    def test_it_is_a_tree_from_orchestrator_to_workers(self, world):
        run = chimera("status", "--address", "x:1")
        assert run.exit_code == 0
        lines = run.stdout.splitlines()
        assert lines[0] == "local ready, generation 1"
        found = [line.lstrip("│├└─ ") for line in lines[1:]]
        assert found == [
            "orchestrator pid 11, term 1",
            "coordinator/local ready pid 12, term 2, 1 failovers",
            "leader/local/0 ready pid 13: 5,000 accepted, 3,800 succeeded, 1 worker_deaths",
            "fault: disk is [nearly] full",
            "shard 0 taking epoch 3",
            "shard 1 epoch 4, 1,200 open",
            "worker/local/0/a-1 pid 14",
        ]

    def test_objectives_say_what_was_seen_and_what_is_asked_for(self, world, monkeypatch):
        slo = SloSpec(name="done", indicator="success", objective=0.9)
        seen = [Counts(95, 100), Counts(80, 100), Counts(0, 0)]
        slos = tuple(evaluated(slo, counts, Counts(0, 0), 90.0) for counts in seen)
        monkeypatch.setattr(boot, "status", lambda swarm, **_: status(slos=slos))
        lines = chimera("status", "--address", "x:1").stdout.splitlines()
        met, missed, unknown = (
            line.partition("slo done ")[2] for line in lines if "slo done " in line
        )
        assert met.startswith("met: 95 % of 100 tasks ended well in the last 90 s; 90 % are asked")
        assert missed.endswith("the error budget is overspent by 100 %")
        assert unknown == "unknown: no tasks in the last 90 s; 90 % are asked for"
        found = printed(chimera("status", "--address", "x:1", "--json"))["slos"]
        assert [(one["slo"]["name"], one["met"]) for one in found] == [
            ("done", True), ("done", False), ("done", None)
        ]  # fmt: skip

    def test_a_swarm_that_is_not_ready_says_what_it_waits_for(self, world, monkeypatch):
        monkeypatch.setattr(boot, "status", lambda swarm, **_: status(ready=False))
        run = chimera("status", "--address", "x:1")
        assert run.exit_code == 1
        assert "local waits for shard 0" in run.stdout
        monkeypatch.setattr(boot, "status", lambda swarm, **_: status(False, stopping=True))
        assert "stopping" in chimera("status", "--address", "x:1").stdout

    def test_json_has_no_handles(self, world):
        found = printed(chimera("status", "--address", "x:1", "--json"))
        worker = found["regions"]["local"]["leaders"][0]["workers"][0]
        assert worker.keys() == {"name", "process", "revision"}
        assert found["regions"]["local"]["placement"] == {"0": "leader/local/0"}

    def test_what_is_not_up_ends_with_3(self, world, monkeypatch):
        run = chimera("status", "--swarm", "other")
        assert run.exit_code == 3
        assert "`chimera up` starts it" in run.stderr

        def nothing(swarm, **_):
            raise NotFound("swarm 'other' is not up here")

        monkeypatch.setattr(boot, "status", nothing)
        assert chimera("status", "--address", "x:1").exit_code == 3

    def test_no_colour_when_piped(self, world):
        assert "\x1b" not in chimera("status", "--address", "x:1").output


class TestDev:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_it_ends_what_it_began(self, world, monkeypatch, number):
        kept = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}

        class Struck(threading.Event):
            def wait(self, timeout=None):
                os.kill(os.getpid(), number)
                return super().wait(10)

        # the command's own event, not that of every thread in this process
        monkeypatch.setattr("chimera.cli.dev.threading", SimpleNamespace(Event=Struck))
        try:
            run = chimera("dev")
        finally:
            for one, handler in kept.items():
                signal.signal(one, handler)
        assert run.exit_code == 0, run.output
        assert world[-3:] == ["join h:1", "boot down", "end head"]
        assert "Ctrl-C ends it" in run.stderr
        assert run.stderr.endswith("down\n")

    def test_what_does_not_come_up_is_ended_too(self, world, monkeypatch):
        def late(spec, **_):
            raise WaitTimeout("not ready in time")

        monkeypatch.setattr(boot, "up", late)
        assert chimera("dev").exit_code == 124
        assert world[-2:] == ["boot down", "end head"]
