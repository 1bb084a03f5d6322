"""The client and the command line on a real swarm, through the deaths of those whom they ask."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest
import ray

import chimera
from chimera import names
from chimera.actors import boot
from chimera.actors.cluster import Cluster
from chimera.client import connection
from chimera.config import make_spec
from chimera.errors import ChimeraError, NotFound, TaskFailed, UnknownTaskType
from chimera.swarm.spec import Spec
from tests.unit.client.test_session import in_child

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

#: the machine that runs this may be busy
DEADLINE_S = 120.0
SWARM = "client-tests"


@pytest.fixture(scope="module")
def spec(ray_cluster, tmp_path_factory):
    made = make_spec(
        {
            "name": SWARM,
            "handlers": ["tests.swarm.client_handlers"],
            "data_dir": str(tmp_path_factory.mktemp("client")),
            "shards": 4,
        }
    )
    boot.up(made, timeout_s=DEADLINE_S)
    yield made
    boot.down(SWARM)


@pytest.fixture
def swarm(spec):
    with chimera.connect(SWARM, timeout_s=DEADLINE_S) as made:
        yield made


def leader_of(task_id: str) -> tuple[str, int]:
    """Name and pid of the leader that has a task's shard."""
    status = boot.status(SWARM, timeout_s=DEADLINE_S)
    shard = chimera.client.task.parse_id(task_id).shard
    for region in status.regions.values():
        for leader in region.leaders:
            if any(one.shard == shard for one in leader.shards):
                return leader.leader, leader.process.pid
    raise AssertionError(f"nobody has shard {shard}")


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def test_tasks_and_their_results(swarm):
    assert swarm.call("client.echo", {"a": [1, None]}, DEADLINE_S) == {"a": [1, None]}
    handle = swarm.submit("client.echo", "é")
    assert handle.result(DEADLINE_S) == "é"
    assert handle.status().state == "succeeded"
    with chimera.connect(SWARM) as again:
        assert again.handle(handle.id).result(DEADLINE_S) == "é"
    with pytest.raises(TaskFailed, match="ValueError: 7 is bad"):
        swarm.call("client.fail", 7, DEADLINE_S)
    with pytest.raises(UnknownTaskType, match=r"known types: client\.await_file"):
        swarm.submit("client.nope")


def test_a_bulk_in_submit_order(swarm):
    payloads = [{"i": i, "k": f"k{i % 50}"} for i in range(20_000)]
    for key in (None, lambda payload: payload["k"]):
        bulk = swarm.submit_many("client.echo", payloads, key=key)
        assert list(bulk.results(DEADLINE_S)) == payloads
        assert bulk.counts().succeeded == len(payloads)


def test_keyed_tasks_run_in_submit_order(swarm, tmp_path):
    file = tmp_path / "ran"
    payloads = [{"i": i, "key": f"k{i % 7}", "file": str(file)} for i in range(500)]
    bulk = swarm.submit_many("client.note", payloads, key=lambda payload: payload["key"])
    assert bulk.wait(DEADLINE_S).succeeded == 500
    ran = [line.split() for line in file.read_text().splitlines()]
    for key in {key for key, _ in ran}:
        order = [int(i) for k, i in ran if k == key]
        assert order == sorted(order)
    assert len(ran) == 500


def test_duplicates_and_large_payloads(swarm):
    first = swarm.submit("client.echo", 5, idempotency_key="once")
    again = swarm.submit("client.echo", 5, idempotency_key="once")
    assert (again.id, again.duplicate) == (first.id, True)
    assert again.result(DEADLINE_S) == 5
    large = "x" * 300_000
    assert swarm.call("client.echo", large, DEADLINE_S) == large


def test_coroutines(spec):
    async def work():
        async with await chimera.connect_async(SWARM, timeout_s=DEADLINE_S) as swarm:
            handles = await asyncio.gather(*(swarm.submit("client.echo", i) for i in range(100)))
            found = await asyncio.gather(*(handle.result(DEADLINE_S) for handle in handles))
            bulk = await swarm.submit_many("client.echo", range(3000))
            return found, [value async for value in bulk.results(DEADLINE_S)]

    found, streamed = asyncio.run(work())
    assert found == list(range(100))
    assert streamed == list(range(3000))


def test_refs_are_the_callers_own_and_survive_the_results_actor(swarm, tmp_path):
    gate = tmp_path / "gate"
    handle = swarm.submit("client.await_file", str(gate))
    ref = handle.ref
    assert ray.wait([ref], timeout=0.5)[0] == []
    results = Cluster(names.namespace(SWARM)).find(names.RESULTS)
    kill(ray.get(results.pid.remote(), timeout=DEADLINE_S))
    gate.touch()
    assert ray.get(ref, timeout=DEADLINE_S) == "there"
    with pytest.raises(TaskFailed):
        ray.get(swarm.submit("client.fail", 1).ref, timeout=DEADLINE_S)
    bulk = swarm.submit_many("client.echo", range(2500))
    values = [one for part in ray.get(list(bulk.refs()), timeout=DEADLINE_S) for one in part]
    assert sorted(values) == list(range(2500))


def test_a_wait_survives_the_leaders_death(swarm, tmp_path):
    gate = tmp_path / "gate"
    handle = swarm.submit("client.await_file", str(gate), key="k")
    found: list[object] = []
    waiting = threading.Thread(target=lambda: found.append(handle.result(DEADLINE_S)))
    waiting.start()
    _, pid = leader_of(handle.id)
    kill(pid)
    gate.touch()
    waiting.join(DEADLINE_S)
    assert found == ["there"]
    assert swarm.call("client.echo", 1, DEADLINE_S) == 1


def test_submits_survive_the_leaders_death(swarm):
    """Each of many tasks is accepted once, while a leader dies half way."""
    swarm.types()
    _, pid = leader_of(swarm.submit("client.echo", 0).id)
    accepted: list[str] = []
    results: list[int] = []

    def work(start: int) -> None:
        for i in range(start, start + 50):
            handle = swarm.submit("client.echo", i, key=f"k{i % 5}", timeout_s=DEADLINE_S)
            accepted.append(handle.id)
            results.append(handle.result(DEADLINE_S))

    threads = [threading.Thread(target=work, args=(start,)) for start in (0, 50, 100, 150)]
    for thread in threads:
        thread.start()
    kill(pid)
    bulk = swarm.submit_many("client.echo", range(5000), timeout_s=DEADLINE_S)
    assert list(bulk.results(DEADLINE_S)) == list(range(5000))
    for thread in threads:
        thread.join(DEADLINE_S)
    assert sorted(results) == list(range(200))
    assert len(set(accepted)) == 200


def test_a_forked_child_is_told_why_it_cannot_go_on(swarm):
    swarm.call("client.echo", 1, DEADLINE_S)

    def attempt(work):
        try:
            return work()
        except ChimeraError as error:
            return error.message

    assert "fork" in in_child(lambda: attempt(lambda: swarm.call("client.echo", 1)))
    assert "fork" in in_child(lambda: attempt(lambda: chimera.connect(SWARM)))
    assert swarm.call("client.echo", 2, DEADLINE_S) == 2


def test_what_is_not_there_is_told(spec):
    with pytest.raises(NotFound, match="no swarm 'nobody' in this Ray cluster"):
        chimera.connect("nobody", timeout_s=0.5)


def test_another_process_is_told_when_there_is_no_ray(ray_cluster, tmp_path):
    code = "import chimera; chimera.connect('x')"
    environment = {**os.environ, "CHIMERA_DATA_DIR": str(tmp_path)}
    for address, says in (("", "chimera up"), ("127.0.0.1:9", "nothing answers at 127.0.0.1:9")):
        run = subprocess.run(
            [sys.executable, "-c", code],
            env={**environment, "CHIMERA_ADDRESS": address},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "NotFound" in run.stderr
        assert says in run.stderr


def test_closing_leaves_no_thread(spec):
    before = {thread.name for thread in threading.enumerate()}
    with chimera.connect(SWARM, timeout_s=DEADLINE_S) as swarm:
        swarm.call("client.echo", 1, DEADLINE_S)
    assert SWARM not in connection._shared
    left = {thread.name for thread in threading.enumerate() if thread.is_alive()} - before
    assert not [name for name in left if name.startswith("chimera-client")]


class TestCommandLine:
    """As inside a job: RAY_ADDRESS says where Ray is."""

    @pytest.fixture
    def run(self, ray_cluster, tmp_path):
        def chimera_(*arguments: str) -> subprocess.CompletedProcess[str]:
            code = "from chimera.cli.main import main; main()"
            return subprocess.run(
                [sys.executable, "-c", code, *arguments],
                env={
                    **os.environ,
                    "RAY_ADDRESS": ray_cluster.address,
                    "CHIMERA_DATA_DIR": str(tmp_path),
                },
                capture_output=True, text=True, check=False, timeout=2 * DEADLINE_S,
            )  # fmt: skip

        return chimera_

    def test_a_task_from_the_command_line(self, run, spec: Spec):
        done = run("submit", "client.echo", '{"a":1}', "--wait", "--swarm", SWARM)
        assert (done.returncode, done.stdout) == (0, '{"a":1}\n'), done.stderr
        failed = run("submit", "client.fail", "3", "--wait", "--swarm", SWARM)
        assert (failed.returncode, failed.stdout) == (1, "")
        told = r"error: task [0-9a-f-]{36}: builtins\.ValueError: 3 is bad\n"
        assert re.fullmatch(told, failed.stderr)
        status = run("status", "--json", "--swarm", SWARM)
        assert json.loads(status.stdout)["swarm"] == SWARM

    def test_up_leaves_a_swarm_behind_and_down_leaves_nothing(self, run, tmp_path):
        file = tmp_path / "chimera.yaml"
        file.write_text(
            "name: from-a-job\nhandlers: [tests.swarm.client_handlers]\nshards: 2\n"
            "regions: [{name: local, leaders: 1, workers: 1}]\n"
        )
        up = run("up", "-f", str(file), "--timeout", str(DEADLINE_S))
        assert up.returncode == 0, up.stderr
        done = run("submit", "client.echo", "7", "--wait", "--swarm", "from-a-job")
        assert done.stdout == "7\n", done.stderr
        down = run("down", "--swarm", "from-a-job")
        assert down.returncode == 0, down.stderr
        assert run("status", "--swarm", "from-a-job").returncode == 3
        until = time.monotonic() + DEADLINE_S
        while Cluster(names.namespace("from-a-job")).names():
            assert time.monotonic() < until
