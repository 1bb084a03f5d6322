"""A swarm brought up, changed, bereft of its orchestrator, and brought down, on real Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid

import msgspec
import pytest
import ray

from chimera import names
from chimera.actors import boot, processes
from chimera.actors.cluster import Cluster
from chimera.config import make_spec
from chimera.errors import (
    ChimeraError,
    HandlerLoadError,
    NotFound,
    SpecError,
    StoreMismatch,
    Unavailable,
    WaitTimeout,
    WrongVersion,
)
from chimera.store.control import ControlStore

pytestmark = pytest.mark.cluster

FAKES = boot.Classes(
    coordinator="tests.swarm.fake_coordinator:FakeCoordinator",
    results="tests.swarm.fake_coordinator:FakeResults",
)
HANDLERS = """
import chimera

@chimera.task("greet")
def greet(name: str) -> str:
    return f"Hello, {name}!"
"""


def until(holds, within_s=60.0):
    """Wait for a condition, through failovers; what it returned at last."""
    end = time.monotonic() + within_s
    while True:
        try:
            if found := holds():
                return found
        except Unavailable:
            pass
        assert time.monotonic() < end, "it did not come to hold"
        time.sleep(0.05)


@pytest.fixture
def spec(ray_cluster, tmp_path, monkeypatch):
    """A spec of a swarm of its own, with its handlers in this process's search path."""
    (tmp_path / "greetings.py").write_text(HANDLERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"t{uuid.uuid4().hex[:8]}"
    data_dir = str(tmp_path / "data")
    yield make_spec({"name": name, "handlers": ["greetings"], "data_dir": data_dir, "shards": 4})
    boot.down(name)
    sys.modules.pop("greetings", None)


@pytest.fixture
def progress():
    return []


def raised(spec, progress=None, **more):
    more.setdefault("classes", FAKES)
    tell = progress.append if progress is not None else lambda _: None
    return boot.up(spec, on_progress=tell, **more)


def store_of(spec):
    return ControlStore.open(os.path.join(spec.data_dir, "control.sqlite"))


def coordinator(spec):
    """The process of the coordinator that is there and ready; else None."""
    status = boot.status(spec.name)
    return status.regions["local"].process if status.ready else None


def orchestrator(spec):
    return Cluster(names.namespace(spec.name)).find(names.ORCHESTRATOR)


# -- before anything is made -------------------------------------------------------------------


def test_another_ray_is_refused(monkeypatch):
    monkeypatch.setattr(ray, "__version__", "2.61.0")
    with pytest.raises(WrongVersion, match=r"Ray 2\.61\.0 .* needs 2\.60\.x"):
        boot.check_version()


def test_handlers_that_cannot_be_loaded_are_told_before_anything_is_made(spec):
    wrong = msgspec.structs.replace(spec, handlers=("greeting",))
    with pytest.raises(HandlerLoadError, match="greeting"):
        raised(wrong)
    with pytest.raises(NotFound, match="not up"):
        boot.status(spec.name)


# -- the control plane, with fakes below it ----------------------------------------------------


def test_up_twice_is_up_once(spec, progress):
    first = raised(spec, progress)
    assert first.ready
    assert (first.swarm, first.generation, first.faults) == (spec.name, 1, ())
    assert any("coordinator" in line for line in progress)
    progress.clear()
    second = raised(spec, progress)
    assert progress[1].startswith("already up")
    assert (second.uuid, second.term, second.process) == (first.uuid, first.term, first.process)
    assert boot.status(spec.name).ready


def test_another_spec_is_a_new_generation(spec, progress):
    raised(spec)
    wider = msgspec.structs.replace(spec, queue_bound=7)
    status = raised(wider, progress)
    assert (status.generation, status.spec["queue_bound"], status.ready) == (2, 7, True)
    assert "queue_bound: 500000 → 7" in progress
    assert [r.generation for r in status.regions.values()] == [2]
    with pytest.raises(SpecError, match="shards is fixed"):
        raised(msgspec.structs.replace(spec, shards=5))
    assert boot.status(spec.name).generation == 2


def test_a_killed_orchestrator_comes_back_as_it_was(spec):
    raised(spec)
    before = raised(msgspec.structs.replace(spec, queue_bound=7))
    os.kill(before.process.pid, signal.SIGKILL)

    def back():
        status = boot.status(spec.name)
        return status if status.term > before.term and status.ready else None

    after = until(back)
    # not what the first incarnation was made with, but what it stored
    assert (after.generation, after.spec) == (before.generation, before.spec)
    assert after.uuid == before.uuid
    assert after.process.pid != before.process.pid
    coordinators = [status.regions["local"].process for status in (before, after)]
    assert coordinators[0] == coordinators[1]
    assert processes.alive(coordinators[0])


def test_a_killed_coordinator_is_made_again(spec):
    before = raised(spec).regions["local"].process
    os.kill(before.pid, signal.SIGKILL)
    until(lambda: coordinator(spec) not in (None, before))


def test_a_paused_coordinator_is_ended_and_made_again(spec):
    before = raised(spec).regions["local"].process
    os.kill(before.pid, signal.SIGSTOP)
    until(lambda: coordinator(spec) not in (None, before))
    assert not processes.alive(before)


def test_every_control_action_is_audited_in_a_whole_chain(spec):
    raised(spec)
    raised(msgspec.structs.replace(spec, queue_bound=7))
    boot.down(spec.name)
    store = store_of(spec)
    try:
        entries = store.audit_entries()
        assert [entry.action for entry in entries][:2] == ["boot", "make"]
        # a machine that is slow has it do more: tell a coordinator again, or make it anew
        asked = [entry for entry in entries if entry.action in ("boot", "apply", "stop", "retire")]
        assert [entry.action for entry in asked] == ["boot", "apply", "stop", "retire"]
        assert asked[1].details()["changes"] == {"queue_bound": [500_000, 7]}
        assert "@" in asked[1].details()["by"]
        assert store.verify_audit() is None
    finally:
        store.close()


def test_after_down_nothing_is_left_and_up_goes_on_with_the_same_swarm(spec):
    first = raised(spec)
    boot.down(spec.name)
    assert Cluster(names.namespace(spec.name)).names() == []
    assert not any(processes.alive(one) for one in (first.process, *first.processes()))
    boot.down(spec.name)
    again = raised(msgspec.structs.replace(spec, queue_bound=7))
    assert (again.uuid, again.generation) == (first.uuid, 2)
    assert again.term > first.term


def test_up_after_a_down_that_was_broken_off_starts_anew(spec, progress):
    first = raised(spec)
    ray.get(orchestrator(spec).stop.remote("somebody who was interrupted"))
    assert boot.status(spec.name).stopping
    again = raised(spec, progress)
    assert any("being brought down" in line for line in progress)
    assert (again.uuid, again.ready, again.stopping) == (first.uuid, True, False)


def test_down_needs_no_orchestrator(spec):
    status = raised(spec)
    Cluster(names.namespace(spec.name)).kill(orchestrator(spec))
    until(lambda: not processes.alive(status.process))
    boot.down(spec.name)
    assert Cluster(names.namespace(spec.name)).names() == []
    assert not any(processes.alive(one) for one in status.processes())


def test_an_empty_store_beside_living_actors_is_refused(spec):
    before = raised(spec)
    for name in os.listdir(spec.data_dir):
        if name.startswith("control.sqlite"):
            os.unlink(os.path.join(spec.data_dir, name))
    os.kill(before.process.pid, signal.SIGKILL)

    def refused():
        try:
            boot.status(spec.name)
        except StoreMismatch as fault:
            return fault
        return None

    assert "coordinator/local" in until(refused).message
    assert processes.alive(before.regions["local"].process)
    with pytest.raises(StoreMismatch):
        raised(spec)


def test_a_store_of_another_swarm_is_refused_and_nothing_stays(spec):
    os.makedirs(spec.data_dir)
    store = store_of(spec)
    store.found("u", "other")
    store.close()
    with pytest.raises(StoreMismatch, match="belongs to swarm 'other'"):
        raised(spec)
    until(lambda: orchestrator(spec) is None)


def test_one_deposed_by_a_term_from_before_its_store_was_lost_draws_a_higher_one(spec):
    before = raised(spec)
    coordinator = Cluster(names.namespace(spec.name)).find("coordinator/local")
    ray.get(coordinator.heed.remote(40))

    def back():
        status = boot.status(spec.name)
        return status.ready and status.term > 40

    until(back)
    assert boot.status(spec.name).regions["local"].process == before.regions["local"].process


def test_what_is_missing_is_told_when_time_is_up(spec, tmp_path):
    (tmp_path / "broken.py").write_text(HANDLERS)
    wrong = msgspec.structs.replace(spec, handlers=("broken",))
    with pytest.raises(WaitTimeout, match="it goes on, and waits for"):
        raised(wrong, timeout_s=0.1)
    until(lambda: "no disk" in "".join(boot.status(spec.name).faults))
    with pytest.raises(WaitTimeout, match=r"coordinator/local: .*no disk"):
        raised(wrong, timeout_s=0.1)


def test_an_orchestrator_that_does_not_answer_is_waited_for_only_so_long(spec):
    classes = boot.Classes(orchestrator="tests.swarm.fake_coordinator:SilentOrchestrator")
    with pytest.raises(WaitTimeout, match="the orchestrator to answer"):
        raised(spec, timeout_s=3.0, classes=classes)


def test_placement_is_merged_of_all_regions(spec):
    regions = [{"name": "eu"}, {"name": "us"}]
    two = msgspec.structs.replace(
        make_spec({"handlers": ["greetings"], "regions": regions, "shards": 4}),
        name=spec.name,
        data_dir=spec.data_dir,
    )
    raised(two)
    placement = ray.get(orchestrator(spec).placement.remote())
    assert placement.term == 14
    assert sorted(placement.shards) == [0, 1, 2, 3]
    assert placement.ring == 4


# -- the whole of it ---------------------------------------------------------------------------


def test_a_worker_that_cannot_load_its_handlers_ends_the_wait_with_its_fault(spec, tmp_path):
    (tmp_path / "fickle.py").write_text(
        "import sys\nif 'default_worker' in sys.argv[0]:\n    raise OSError('only here')\n"
        + HANDLERS
    )
    with pytest.raises(HandlerLoadError, match=r"fickle.*only here"):
        raised(msgspec.structs.replace(spec, handlers=("fickle",)), classes=boot.Classes())


def test_a_swarm_outlives_the_program_that_made_it(spec, ray_cluster, tmp_path):
    """What the program had in its search path is found by actors made after its end."""
    directory = tmp_path / "elsewhere"
    directory.mkdir()
    (directory / "remote_greetings.py").write_text(HANDLERS)
    program = textwrap.dedent(
        f"""
        import sys
        sys.path.insert(0, {str(directory)!r})
        from chimera.actors import boot
        from chimera.config import make_spec
        boot.connect({ray_cluster.address!r})
        boot.up(make_spec({{
            "name": {spec.name!r}, "handlers": ["remote_greetings"],
            "data_dir": {spec.data_dir!r}, "shards": 4,
        }}))
        """
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=120)
    before = boot.status(spec.name)
    assert before.ready
    workers = [worker.process for one in before.regions["local"].leaders for worker in one.workers]
    for process in (before.process, *workers):
        os.kill(process.pid, signal.SIGKILL)

    def made_again():
        status = boot.status(spec.name)
        leaders = status.regions["local"].leaders if status.regions else ()
        found = [worker.process for one in leaders for worker in one.workers]
        return (
            status if status.ready and len(found) == 2 and not set(found) & set(workers) else None
        )

    after = until(made_again)
    boot.down(spec.name)
    assert not any(processes.alive(one) for one in (after.process, *after.processes()))


def test_errors_of_chimera_keep_their_kind_between_processes(spec):
    raised(spec)
    cluster = Cluster(names.namespace(spec.name))
    with pytest.raises(ChimeraError) as caught:
        cluster.call(orchestrator(spec).apply.remote({"name": 1}, "me"), 10)
    assert isinstance(caught.value, SpecError)
