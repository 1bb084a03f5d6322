"""A worker on a real Ray: what its death tells, what it answers meanwhile, whom it obeys."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid

import pytest
import ray

from chimera.actors import board, processes
from chimera.actors.cluster import ActorGone, Cluster, incarnation
from chimera.actors.worker import Worker
from chimera.frames import bundle
from chimera.swarm.reports import WorkerConfig
from tests.swarm import worker_handlers
from tests.unit.actors.kit import Answer, frames_of, item, outcomes_of

pytestmark = pytest.mark.cluster

DEADLINE_S = 90.0


@ray.remote(num_cpus=0, max_concurrency=4)
class FakeOwner:
    """An owner of shards, in memory."""

    def __init__(self):
        self.memos, self.states, self.told = {}, {}, []

    def memo(self, shard, position, step):
        return self.memos.get((shard, position, step))

    def memoise(self, shard, position, step, value):
        return self.memos.setdefault((shard, position, step), value)

    def snapshot(self, shard, tenant, type, key):
        return self.states.get((tenant, type, key))

    def progress(self, shard, position, value):
        self.told.append((shard, position, value))

    def put(self, memos, states):
        self.memos.update(memos)
        self.states.update(states)

    def get(self):
        return self.memos, self.told


class Led:
    """A worker, and the test as its leader."""

    def __init__(self, tmp_path, owner, lease_s=300.0):
        self.cluster = Cluster("chimera-tests")
        self.owner = owner
        self.name = f"worker/local/0/{uuid.uuid4().hex[:8]}"
        self.path = tmp_path
        config = WorkerConfig(
            name=self.name,
            swarm="tests",
            region="local",
            leader="A",
            leader_handle=self.owner,
            handlers=(worker_handlers.__name__,),
            data_dir=str(tmp_path),
            board=str(tmp_path / "one.board"),
            lease_s=lease_s,
            objects_url=str(tmp_path / "objects"),
        )
        self.actor = self.cluster.create(Worker, self.name, config)
        self.hello = self.call(self.actor.hello.remote())
        self.dispatches = 0

    def call(self, ref):
        return self.cluster.call(ref, DEADLINE_S)

    def send(self, *items, leader=None):
        self.dispatches += 1
        bundles = [bundle.pack_dispatches([one]) for one in items]
        method = self.actor.run.options(num_returns=1 + len(bundles))
        sender = incarnation(leader or self.owner)
        return method.remote(sender, self.dispatches, (), *bundles)

    def answer(self, refs) -> Answer:
        summary, *replies = self.call(list(refs))
        return Answer(summary, frames_of(replies))

    def collect(self):
        return self.call(self.actor.collect.remote(incarnation(self.owner), self.dispatches, True))

    def adopt(self, leader, handle, shard=0, epoch=2, own=True):
        return self.call(self.actor.adopt.remote(leader, handle, shard, epoch, own))

    def file(self, name) -> str:
        return str(self.path / name)

    def alive(self) -> bool:
        return bool(processes.alive(self.hello.process))


@pytest.fixture(scope="module")
def owner(ray_cluster):
    """An owner that lives through all tests."""
    made = FakeOwner.remote()
    yield made
    ray.kill(made)


@pytest.fixture
def heir(ray_cluster):
    """The next owner."""
    made = FakeOwner.remote()
    yield made
    ray.kill(made)


@pytest.fixture(scope="module")
def steady(owner, tmp_path_factory):
    """A worker for the tests that leave it alive."""
    one = Led(tmp_path_factory.mktemp("steady"), owner)
    yield one
    one.cluster.kill(one.actor)


@pytest.fixture
def led(owner, tmp_path):
    """Makes a worker of the test's own."""
    made = []

    def make(owner=owner, **config) -> Led:
        made.append(Led(tmp_path, owner, **config))
        return made[-1]

    yield make
    for one in made:
        one.cluster.kill(one.actor)


def wait_for(condition):
    end = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < end
        threading.Event().wait(0.01)
    return found


def held(found):
    return outcomes_of(frame for _, frame in frames_of(found.replies))


def gone(one, refs):
    with pytest.raises(ActorGone):
        one.call(list(refs))


def test_the_board_of_a_killed_worker_tells_the_task_in_hand(led):
    one = led()
    refs = one.send(
        item("echo", list(range(100))), item("hang", [one.file("here")], position=100),
        item("echo", [1], position=101),
    )  # fmt: skip
    wait_for(lambda: os.path.exists(one.file("here")))
    os.kill(one.hello.process.pid, signal.SIGKILL)
    gone(one, refs)
    assert board.read(one.hello.board) == (1, 100, 0)


def test_the_board_tells_which_task_ended_its_process(led):
    one = led()
    gone(one, one.send(item("echo", [1, 2]), item("exit", [0], position=2)))
    assert board.read(one.hello.board) == (1, 2, 0)


def test_finished_outcomes_leave_while_a_task_hangs(led):
    one = led()
    one.send(
        item("echo", ["a", "b"]), item("hang", [one.file("here")], position=2),
        item("echo", ["c"], position=3),
    )  # fmt: skip
    queued = one.send(item("echo", ["d"], position=4))
    wait_for(lambda: os.path.exists(one.file("here")))
    collected = one.collect()
    assert sorted(held(collected)) == [(0, 0), (0, 1)]
    assert collected.returned == ((0, 3, 1),)
    assert collected.running == ((0, 2),)
    assert collected.begun == 1, "the second one, given up, will run nothing"
    os.kill(one.hello.process.pid, signal.SIGKILL)
    gone(one, queued)


def test_a_dispatch_given_up_in_the_queue_runs_nothing(steady, tmp_path):
    one, one.path = steady, tmp_path
    first = one.send(item("meet", [[one.file("here"), one.file("gone")]]))
    second = one.send(item("echo", ["never"], position=1))
    wait_for(lambda: os.path.exists(one.file("here")))
    one.collect()
    third = one.send(item("echo", ["later"], position=2))
    open(one.file("gone"), "w").close()
    assert one.answer(first).bodies() == ["met"]
    answer = one.answer(second)
    assert (answer.frames, answer.summary.returned) == ([], ((0, 1, 1),))
    assert one.answer(third).bodies() == ["later"]


def test_another_leader_gets_what_is_held_and_what_still_runs(led, heir):
    one = led(FakeOwner.remote())
    one.answer(one.send(item("echo", ["a"]), item("echo", ["other"], shard=1)))
    refs = one.send(
        item("meet", [[one.file("here"), one.file("gone")]], position=1),
        item("echo", ["unbegun"], position=2),
    )
    wait_for(lambda: os.path.exists(one.file("here")))
    one.cluster.kill(one.owner)
    found = one.adopt("B", heir)
    assert sorted(held(found)) == [(0, 0)]
    assert found.running == ((1, 1),)
    open(one.file("gone"), "w").close()
    last = wait_for(lambda: (found := one.adopt("B", heir)).running == () and found)
    assert held(last)[0, 1].body == "met"
    assert one.answer(refs).summary.refused == ((0, 2, 1),)
    one.dispatches = 0
    assert one.answer(one.send(item("echo", [1], epoch=1), leader=heir)).summary.refused
    assert one.answer(one.send(item("echo", [1], epoch=2), leader=heir)).bodies() == [1]
    assert one.answer(one.send(item("echo", [1], shard=7))).summary.refused


def test_once_goes_to_whoever_owns_the_shard_then(led, heir):
    """P18: it waits through a failover, and gets what another attempt made first."""
    one = led(FakeOwner.remote())
    refs = one.send(item("once", [[one.file("here"), one.file("gone")]], position=5))
    wait_for(lambda: os.path.exists(one.file("here")))
    one.cluster.kill(one.owner)
    open(one.file("gone"), "w").close()
    one.call(heir.put.remote({(0, 5, "step"): b'"made before"'}, {}))
    one.adopt("B", heir)
    assert one.answer(refs).bodies() == ["made before"]


def test_progress_goes_to_the_owner(steady, owner):
    steady.answer(steady.send(item("tell", [0.5], shard=4, position=5)))
    told = wait_for(lambda: steady.call(owner.get.remote())[1])
    assert told == [(4, 5, {"done": 0.5})]


def test_state_of_keys_comes_from_the_owner(steady):
    one = steady
    one.call(one.owner.put.remote({}, {("t", "count", "a"): b"10"}))
    answer = one.answer(one.send(item("count", [1, 1, 1], keys=["a", "b", "a"])))
    assert answer.bodies() == [11, 1, 12]
    assert [found.snapshot for found in answer.outcomes.values()] == [None, 1, 12]


def test_handlers_are_made_where_they_run(steady):
    one = steady
    answer = one.answer(one.send(item("db", [5]), item("loop", [0], position=1)))
    assert answer.bodies() == [5, True]


def test_control_calls_are_answered_while_a_handler_computes(steady, tmp_path):
    one, one.path = steady, tmp_path
    refs = one.send(item("spin", [[one.file("here"), one.file("gone")]]))
    wait_for(lambda: os.path.exists(one.file("here")))
    assert one.collect().running == ((0, 0),)
    assert one.call(one.actor.hello.remote()) == one.hello
    assert one.call(one.actor.watch.remote(incarnation(one.owner), 0.0))
    open(one.file("gone"), "w").close()
    assert one.answer(refs).bodies() == ["spun"]


# the lease


class Watching(threading.Thread):
    """Keeps one watch pending, as a leader does."""

    def __init__(self, one):
        super().__init__(daemon=True)
        self.one, self.over = one, threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join(DEADLINE_S)

    def run(self):
        while not self.over.is_set():
            try:
                self.one.call(self.one.actor.watch.remote(incarnation(self.one.owner), 0.1))
            except ActorGone:
                return


def test_a_worker_that_nobody_leads_ends(led):
    one = led(lease_s=1.0)
    with Watching(one):
        assert one.answer(one.send(item("echo", [1]))).bodies() == [1]
    wait_for(lambda: not one.alive())
    gone(one, [one.actor.hello.remote()])


def test_a_former_leaders_watch_does_not_keep_it(led, heir):
    one = led(lease_s=1.0)
    one.adopt("B", heir)
    with Watching(one):
        wait_for(lambda: not one.alive())


def test_a_handler_that_holds_the_interpreter_is_busy_not_lost(led):
    one = led(lease_s=1.0)
    with Watching(one):
        refs = one.send(item("hold.gil", [[one.file("here"), 3]]), item("echo", [1], position=1))
        wait_for(lambda: os.path.exists(one.file("here")))
        assert wait_for(lambda: board.read(one.hello.board))[:2] == (1, 0)
        assert one.answer(refs).bodies() == ["let go", 1]
        assert one.alive()


def test_a_worker_that_was_stopped_for_longer_than_its_lease_goes_on(led):
    one = led(lease_s=1.0)
    with Watching(one):
        os.kill(one.hello.process.pid, signal.SIGSTOP)
        stopped = time.monotonic()
        wait_for(lambda: time.monotonic() - stopped > 2.5)
        os.kill(one.hello.process.pid, signal.SIGCONT)
        assert one.answer(one.send(item("echo", [1]))).bodies() == [1]


def test_a_retired_worker_ends_when_its_outcomes_are_recorded(led):
    one = led()
    answer = one.answer(one.send(item("echo", [1])))
    one.call(one.actor.retire.remote())
    assert one.answer(one.send(item("echo", [2], position=1))).summary.returned == ((0, 1, 1),)
    assert one.alive()
    one.call(one.actor.recorded.remote(tuple(serial for serial, _ in answer.frames)))
    wait_for(lambda: not one.alive())
