"""The worker's answers while tasks run: nothing is lost, nothing comes twice, nothing is stale."""

from __future__ import annotations

import random
import sys
import threading

import pytest

from chimera.actors import board
from chimera.actors.cluster import incarnation
from chimera.api import registry
from chimera.errors import Fenced, HandlerLoadError, StaleEpoch
from tests.unit.actors.kit import Answer, Bench, frames_of, item, outcomes_of
from tests.unit.actors.sample_handlers import DEADLINE_S


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def held(bench, shard=0, epoch=1, leader="L", handle="first", own=False):
    return bench.worker.adopt(leader, handle, shard, epoch, own)


def test_hello_says_who_and_what(bench, tmp_path):
    hello = bench.worker.hello()
    assert hello.worker == hello.process.name == "worker/local/0/1"
    assert hello.board == str(tmp_path / "boards" / "one.board")
    policies = {policy.type: policy for policy in hello.policies}
    assert policies["waiting"].is_async
    assert policies["sum"].keyed_state


def test_a_fault_of_the_handlers_is_told_by_hello(tmp_path):
    bench = Bench(tmp_path, handlers=("no.such.module",))
    with pytest.raises(HandlerLoadError, match="no module 'no' on the path"):
        bench.worker.hello()


# collecting


def test_what_is_finished_leaves_while_a_later_task_runs(bench):
    running = bench.start(
        item("echo", ["a", "b"]),
        item("fail", ["c", "value"], position=10),
        item("gated", ["hangs", "e", "f"], position=20),
        item("echo", ["g"], position=30),
        item("echo", ["h"], shard=1),
    )
    collected = bench.collect(take_back=False)
    early = outcomes_of(frame for _, frame in frames_of(collected.replies))
    assert sorted(early) == [(0, 0), (0, 1), (0, 10), (0, 11)]
    assert (collected.returned, collected.running, collected.begun) == ((), ((0, 20),), 1)
    assert bench.collect(take_back=False).replies == ()

    collected = bench.collect()
    assert sorted(collected.returned) == [(0, 21, 2), (0, 30, 1), (1, 0, 1)]
    assert bench.collect().returned == ()
    answer = running.finish()
    assert answer.outcomes[0, 20].body == ["hangs", False]
    assert list(answer.outcomes) == [(0, 20)]
    assert answer.summary.returned == ()
    assert answer.summary.tasks == 5


def test_a_part_of_a_frame_is_collected(bench):
    running = bench.start(item("gated", ["a"]), slots=1)
    running.gate.opened.set()
    running.finish()
    gate_for_second = item("gated", ["x"], position=50, keys=["k"])
    mixed = item("echo", list(range(5)), position=60)
    running = bench.start(mixed, gate_for_second)
    part = outcomes_of(frame for _, frame in frames_of(bench.collect().replies))
    assert sorted(part) == [(0, 60 + index) for index in range(5)]
    assert list(running.finish().outcomes) == [(0, 50)]


def test_a_voided_dispatch_runs_nothing(bench):
    bench.collect(through=2)
    answer = bench.run(item("echo", [1]), item("echo", [2], position=5))
    assert not answer.frames
    assert answer.summary.returned == ((0, 0, 1), (0, 5, 1))
    bench.run(item("echo", [3]))
    assert bench.run(item("echo", [4])).states() == ["succeeded"]


def test_only_the_own_leader_collects(bench):
    with pytest.raises(Fenced):
        bench.worker.collect("other", 5, True)


@pytest.fixture
def _threads_meet_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Hammer(threading.Thread):
    """Collects as fast as it can, sometimes taking back what has not begun."""

    def __init__(self, bench):
        super().__init__(daemon=True)
        self.bench, self.dice, self.over = bench, random.Random(4), threading.Event()
        self.frames: list[bytes] = []
        self.returned: list[tuple[int, int, int]] = []

    def run(self):
        while not self.over.is_set():
            collected = self.bench.collect(take_back=self.dice.random() < 0.3, through=1000)
            if self.dice.random() < 0.5:
                self.bench.worker._machine.void = 0  # only the dispatch in hand is taken back
            self.frames += [frame for _, frame in frames_of(collected.replies)]
            self.returned += collected.returned


@pytest.mark.usefixtures("_threads_meet_often")
def test_every_task_goes_to_exactly_one_side_however_the_threads_meet(bench):
    """Collecting hammers at dispatches of the hot loop: outcomes and returns add up."""
    payloads = [*["fine"] * 19, "permanent"] * 20
    hammer = Hammer(bench)
    hammer.start()
    answers: list[Answer] = []
    for number in range(60):
        columns = {"deadline": [0] * 400} if number % 2 else {}
        positions = range(number * 2000, (number + 1) * 2000, 400)
        items = [item("fail", payloads, position=at, **columns) for at in positions]
        answers.append(bench.run(*items))
    hammer.over.set()
    hammer.join(DEADLINE_S)
    frames = [frame for answer in answers for _, frame in answer.frames]
    ended = outcomes_of(frames + hammer.frames)
    for (_, position), one in ended.items():
        assert one.state == ("attempt failed" if position % 20 == 19 else "succeeded")
    returned = [one for answer in answers for one in answer.summary.returned] + hammer.returned
    given_back = [at for _, first, count in returned for at in range(first, first + count)]
    both = given_back + [position for _, position in ended]
    assert sorted(both) == list(range(60 * 2000))
    assert given_back, "the schedule must have met both sides"
    assert ended, "the schedule must have met both sides"


# outcomes are kept


def test_outcomes_are_kept_until_they_are_recorded(bench):
    first = bench.run(item("echo", [1, 2]), item("echo", [9], shard=1))
    for _ in range(2):
        assert frames_of(held(bench).replies) == first.frames[:1]
    second = bench.run(item("echo", [3], position=5), recorded=(first.frames[0][0],))
    assert frames_of(held(bench).replies) == second.frames
    bench.worker.recorded([serial for serial, _ in second.frames])
    assert held(bench).replies == ()
    assert frames_of(held(bench, shard=1).replies) == first.frames[1:]


def test_a_new_owner_gets_what_is_held_and_what_ended_of_the_task_in_hand(bench):
    before = bench.run(item("echo", [1], position=90))
    running = bench.start(
        item("echo", ["a"]),
        item("gated", ["hangs", "c"], position=1),
        item("echo", ["d"], position=3),
        item("echo", ["e"], shard=1),
    )
    found = held(bench, epoch=2, leader="M", handle="second", own=True)
    outcomes = outcomes_of(frame for _, frame in frames_of(found.replies))
    assert sorted(outcomes) == [(0, 0), (0, 90)]
    assert frames_of(found.replies)[0] == before.frames[0]
    assert found.running == ((1, 1),)
    assert bench.owner.owners == {0: "second"}
    assert bench.board().dispatch == 2 | board.FORMER

    again = held(bench, epoch=2, leader="M", handle="second", own=True)
    assert again == found, "it is polled until nothing runs"

    answer = running.finish()
    assert answer.summary.refused == ((0, 3, 1), (0, 2, 1))
    assert (1, 0) in answer.outcomes, "a shard that nobody took over yet goes on"
    last = held(bench, epoch=2, leader="M", handle="second", own=True)
    assert last.running == ()
    assert sorted(outcomes_of(f for _, f in frames_of(last.replies))) == [(0, 0), (0, 1), (0, 90)]


def test_a_former_owner_is_told_so(bench):
    held(bench, epoch=3)
    with pytest.raises(StaleEpoch):
        held(bench, epoch=2, own=True)
    answer = bench.run(item("echo", [1], epoch=2), item("echo", [2], shard=1))
    assert answer.summary.refused == ((0, 0, 1),)
    assert list(answer.outcomes) == [(1, 0)]


def test_a_former_leader_is_refused_and_renews_nothing(bench):
    held(bench, epoch=2, leader="M", handle="second", own=True)
    answer = bench.run(item("echo", [1], shard=7))
    assert answer.summary.refused == ((7, 0, 1),)
    assert bench.worker.watch(incarnation("first"), 0.0) is False
    assert bench.worker.watch(incarnation("second"), 0.0) is True
    bench.leader = incarnation("second")
    bench.dispatches = 0
    assert bench.run(item("echo", [1], epoch=2)).states() == ["succeeded"]


def test_an_adopted_workers_owner_does_not_take_its_own_dispatches_for_a_former_ones(bench):
    running = bench.start(item("gated", ["a"], epoch=4))
    assert held(bench, epoch=4).running == ()
    assert running.finish().states() == ["succeeded"]


# cancelling


def test_a_task_in_hand_sees_that_it_is_cancelled_and_a_later_one_does_not_run(bench):
    running = bench.start(item("gated", ["a", "b", "c"]), item("echo", ["d"], position=9))
    for position in (0, 2, 9):
        bench.worker.cancel(0, position)
    answer = running.finish()
    assert answer.states() == ["succeeded", "succeeded", "cancelled", "cancelled"]
    assert answer.bodies()[:2] == [["a", True], ["b", False]]
    assert answer.bodies()[2]["error"] == "chimera.TaskCancelled"


def test_a_task_that_is_cancelled_before_it_comes_does_not_run(bench):
    bench.worker.cancel(0, 1)
    assert bench.run(item("echo", [1, 2])).states() == ["succeeded", "cancelled"]


# the board


def test_the_board_names_the_task_in_hand(bench):
    assert bench.board() == (0, None, 0)
    running = bench.start(
        item("echo", ["a", "b"]), item("gated", ["c"], position=7), item("echo", ["d"])
    )
    assert bench.board() == (1, 2, 0)
    running.finish()
    assert bench.board().dispatch == 0


def test_heartbeats_show_on_the_board_and_progress_goes_to_the_owner(bench):
    bench.run(item("tell", [0.5], shard=2, position=4))
    assert bench.board().heartbeats == 2
    assert bench.owner.told == [(2, 4, {"done": 0.5})]


# what a handler asks


def test_a_memo_is_made_once(bench):
    assert bench.run(item("memo", ["x"])).bodies() == [[["x", 1], ["x", 1], 1]]
    bench.owner.memos[0, 5, "a"] = b'"from the attempt before"'
    (found,) = bench.run(item("memo", ["y"], position=5)).bodies()
    assert found == ["from the attempt before"] * 2 + [0]


def test_an_owner_that_cannot_be_reached_fails_the_attempt_not_the_task(bench):
    bench.owner.silent = True
    answer = bench.run(item("memo", ["x"]))
    assert answer.states() == ["attempt failed"]
    assert answer.bodies()[0]["error"] == "chimera.Unavailable"
    assert answer.bodies()[0].get("retryable", True)


# the end


def test_it_ends_when_nobody_renews_its_lease(tmp_path, monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr("chimera.actors.worker.WorkerShell._exit", lambda *_: ended.set())
    Bench(tmp_path, lease_s=0.2)
    assert ended.wait(DEADLINE_S)


def test_it_ends_when_its_handlers_take_for_ever_to_load(tmp_path, monkeypatch):
    ended, never = threading.Event(), threading.Event()

    def load(_):
        assert never.wait(DEADLINE_S)
        return registry.Registry()

    monkeypatch.setattr("chimera.actors.worker.PREPARE_S", 0.05)
    monkeypatch.setattr("chimera.actors.worker.registry.load", load)
    monkeypatch.setattr("chimera.actors.worker.WorkerShell._exit", lambda *_: ended.set())
    loading = threading.Thread(target=Bench, args=(tmp_path,), daemon=True)
    loading.start()
    assert ended.wait(DEADLINE_S)
    never.set()
    loading.join(DEADLINE_S)


def test_who_retires_ends_when_all_is_recorded(tmp_path, monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr("chimera.actors.worker.TICK_S", 0.01)
    monkeypatch.setattr("chimera.actors.worker.WorkerShell._exit", lambda *_: ended.set())
    bench = Bench(tmp_path)
    answer = bench.run(item("echo", [1]))
    bench.worker.retire()
    assert bench.run(item("echo", [2], position=1)).summary.returned == ((0, 1, 1),)
    assert not ended.is_set()
    bench.worker.recorded([serial for serial, _ in answer.frames])
    assert ended.wait(DEADLINE_S)


def test_who_retires_ends_in_the_end(tmp_path, monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr("chimera.actors.worker.TICK_S", 0.01)
    monkeypatch.setattr("chimera.actors.worker.RETIRE_S", 0.05)
    monkeypatch.setattr("chimera.actors.worker.WorkerShell._exit", lambda *_: ended.set())
    bench = Bench(tmp_path)
    bench.run(item("echo", [1]))
    bench.worker.retire()
    assert ended.wait(DEADLINE_S)
