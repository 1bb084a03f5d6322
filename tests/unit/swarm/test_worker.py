"""The worker's machine: what may begin, what is kept, who is heard."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chimera.errors import Fenced, StaleEpoch
from chimera.swarm import worker as module
from chimera.swarm.worker import Fate, Part, Worker


def make(**changes) -> Worker:
    return Worker(**{"leader": "A", "incarnation": "a1", "lease_s": 30.0, **changes})


def part(shard=0, epoch=1, position=0, count=10) -> Part:
    return Part(shard, epoch, position, count)


def fates(run) -> list[str]:
    return [one.fate.name for one in run.parts]


# dispatches


def test_a_dispatch_of_the_own_leader_runs_part_by_part():
    worker = make()
    first, second = part(), part(shard=1)
    run = worker.begin("a1", 1, [first, second])
    assert worker.start(first)
    assert worker.in_hand() == [first]
    worker.finish(first)
    assert worker.start(second)
    worker.finish(second)
    assert fates(run) == ["ENDED", "ENDED"]
    assert worker.end() == ((), ())
    assert worker.begun == 1


def test_a_part_starts_once():
    worker = make()
    worker.begin("a1", 1, [one := part()])
    assert worker.start(one)
    assert not worker.start(one)


def test_a_former_leaders_dispatch_is_refused_whole():
    worker = make()
    worker.adopt("B", "b1", shard=0, epoch=2, own=True)
    run = worker.begin("a1", 7, [part(shard=5), part(epoch=9)])
    assert fates(run) == ["REFUSED", "REFUSED"]
    assert worker.end()[0] == ((5, 0, 10), (0, 0, 10))
    assert worker.begun == 0
    assert 5 not in worker.epochs, "a former leader's word raises no epoch"


def test_a_part_of_a_former_epoch_is_refused_and_the_others_run():
    worker = make()
    worker.adopt("A", "a1", shard=0, epoch=5, own=False)
    old, same, other = part(epoch=4), part(epoch=5), part(shard=1, epoch=1)
    worker.begin("a1", 1, [old, same, other])
    assert [worker.start(one) for one in (old, same, other)] == [False, True, True]
    assert worker.end()[0] == (old.range,)


def test_a_higher_epoch_in_a_dispatch_is_heard():
    worker = make()
    worker.begin("a1", 1, [part(epoch=7)])
    worker.end()
    with pytest.raises(StaleEpoch) as caught:
        worker.adopt("B", "b1", shard=0, epoch=6, own=True)
    assert caught.value.details["epoch"] == 7
    assert worker.leader == "A"


# taking back


def test_what_has_not_begun_is_taken_back_once():
    worker = make()
    parts = [part(position=0), part(position=10), part(position=20)]
    worker.begin("a1", 3, parts)
    worker.start(parts[0])
    assert worker.take_back("a1", 3) == [(0, 10, 10), (0, 20, 10)]
    assert worker.take_back("a1", 3) == []
    assert not worker.start(parts[1])
    worker.finish(parts[0])
    assert worker.end() == ((), ()), "what `collect` has named is not named again"


def test_a_voided_dispatch_that_comes_later_runs_nothing_and_says_so():
    worker = make()
    worker.take_back("a1", 4)
    run = worker.begin("a1", 4, [part()])
    assert fates(run) == ["TAKEN"]
    assert worker.end()[1] == ((0, 0, 10),)
    worker.begin("a1", 5, [one := part()])
    assert worker.start(one)


def test_taking_back_earlier_dispatches_leaves_the_one_in_hand():
    worker = make()
    worker.begin("a1", 5, [one := part()])
    assert worker.take_back("a1", 4) == []
    assert not worker.covers(4)
    assert worker.start(one)


def test_only_the_own_leader_takes_back():
    worker = make()
    worker.begin("a1", 1, [part()])
    with pytest.raises(Fenced, match="belongs to A"):
        worker.take_back("b1", 1)


def test_a_new_leader_does_not_take_back_what_a_former_one_sent():
    worker = make()
    worker.begin("a1", 1, [one := part(shard=3)])
    worker.adopt("B", "b1", shard=0, epoch=2, own=True)
    assert worker.take_back("b1", 9) == []
    assert worker.start(one), "nobody has taken its shard over yet"


def test_marks_are_of_one_incarnation():
    """A leader of the same name, made anew, counts its dispatches from 1 again."""
    worker = make()
    worker.begin("a1", 8, [])
    worker.end()
    worker.take_back("a1", 9)
    worker.adopt("A", "a2", shard=0, epoch=2, own=True)
    assert (worker.begun, worker.void) == (0, 0)
    worker.begin("a2", 1, [one := part(epoch=2)])
    assert worker.start(one)


def test_what_a_former_leader_of_the_same_name_sent_is_not_begun():
    """Its number is another task's at the new one, which would be blamed (P7)."""
    worker = make()
    worker.adopt("A", "a2", shard=0, epoch=2, own=True)
    run = worker.begin("a1", 1, [part(shard=3)])
    assert fates(run) == ["REFUSED"]
    assert (worker.begun, worker.is_former()) == (0, True)
    assert not worker.renew("a1")
    with pytest.raises(Fenced):
        worker.take_back("a1", 9)


def test_asking_again_resets_nothing():
    worker = make()
    worker.adopt("A", "a2", shard=0, epoch=2, own=True)
    worker.take_back("a2", 9)
    worker.adopt("A", "a2", shard=0, epoch=2, own=True)
    worker.adopt("A", "a2", shard=1, epoch=2, own=True)
    assert worker.void == 9


# outcomes


def test_an_outcome_is_kept_until_it_is_recorded_however_often_it_was_taken():
    worker = make()
    first, second = worker.hold(0, b"x"), worker.hold(1, b"y")
    assert worker.held(0) == worker.held(0) == [(first, b"x")]
    worker.recorded([first, first, 99])
    assert worker.held(0) == []
    assert worker.held(1) == [(second, b"y")]
    assert not worker.idle()
    worker.recorded([second])
    assert worker.idle()
    assert worker.hold(0, b"z") not in (first, second), "a serial is never used twice"


# owners


def test_a_new_owner_overtakes_the_former_ones_work():
    worker = make()
    in_hand, queued, other = part(), part(position=10), part(shard=1)
    run = worker.begin("a1", 1, [in_hand, queued, other])
    worker.start(in_hand)
    assert worker.adopt("B", "b1", shard=0, epoch=2, own=False) == [in_hand]
    assert fates(run) == ["IN_HAND", "REFUSED", "QUEUED"]
    assert worker.leader == "A"
    worker.refuse([(0, 4, 6)])
    worker.finish(in_hand)
    assert worker.adopt("B", "b1", shard=0, epoch=2, own=False) == []
    assert worker.end()[0] == ((0, 10, 10), (0, 4, 6))


def test_the_owner_that_dispatched_overtakes_nothing_by_asking():
    worker = make()
    worker.begin("a1", 1, [one := part(epoch=3)])
    worker.start(one)
    assert worker.adopt("A", "a1", shard=0, epoch=3, own=False) == []


def test_a_dispatch_in_hand_is_a_former_leaders_once_there_is_another():
    worker = make()
    assert not worker.is_former()
    worker.begin("a1", 1, [])
    assert not worker.is_former()
    worker.adopt("A", "a2", shard=0, epoch=2, own=True)
    assert worker.is_former(), "the same name, another incarnation"


# the lease


def test_the_lease_lapses_when_nobody_renews_it():
    worker = make(lease_s=3.0)
    lapsed = [worker.lapsed(now / 10) for now in range(40)]
    assert lapsed.index(True) == 30


def test_only_the_own_leader_renews():
    worker = make(lease_s=1.0)
    for now in range(11):
        renewed = worker.renew("b1")
        lapsed = worker.lapsed(now / 10)
    assert not renewed
    assert lapsed
    assert worker.renew("a1")
    assert not worker.lapsed(1.1)


def test_a_time_in_which_nobody_could_be_heard_does_not_end_the_lease():
    worker = make(lease_s=30.0)
    assert not worker.lapsed(0.0)
    assert not worker.lapsed(500.0), "a handler kept the interpreter's lock"
    quiet = [worker.lapsed(500.0 + second) for second in range(1, 31)]
    assert quiet.index(True) == 28, "it counts again from where it was: a second was heard"


def test_adopting_renews():
    worker = make(lease_s=1.0)
    for now in range(10):
        worker.lapsed(now / 10)
    worker.adopt("B", "b1", shard=0, epoch=2, own=True)
    assert not worker.lapsed(1.0)
    assert worker.renew("b1")
    assert not worker.renew("a1")


# cancelling and retiring


def test_a_task_is_cancelled_where_it_is():
    worker = make()
    worker.begin("a1", 1, [first := part(), second := part(position=10)])
    worker.start(first)
    assert worker.cancel(0, 3) is first
    assert worker.cancel(0, 12) is second
    assert worker.cancelled(second) == []


def test_a_cancellation_waits_for_its_task():
    worker = make()
    assert worker.cancel(0, 3) is None
    assert worker.cancelled(part(shard=1)) == []
    assert worker.cancelled(part()) == [3]
    assert worker.cancelled(part()) == []


def test_a_cancel_finds_a_task_that_was_taken_back_and_is_on_its_way_again():
    """Found in seed 388: it was marked in the part that had given it up, and ran."""
    worker = make()
    worker.begin("a1", 1, [one := part()])
    worker.start(one)
    worker.take_back("a1", 1)
    assert worker.cancel(0, 7) is one, "it may be in hand"
    worker.finish(one)
    worker.end()
    worker.begin("a1", 2, [again := part(position=7, count=1)])
    assert worker.cancelled(again) == [7]


def test_a_cancel_finds_a_task_that_a_new_owner_sends_again():
    worker = make()
    worker.begin("a1", 1, [one := part()])
    worker.start(one)
    worker.adopt("B", "b1", shard=0, epoch=2, own=True)
    assert worker.cancel(0, 7) is one
    assert worker.cancelled(part(epoch=2, position=7, count=1)) == [7]


def test_cancellations_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "CANCELS_MAX", 3)
    worker = make()
    for position in range(5):
        worker.cancel(0, position)
    assert worker.cancelled(part()) == [2, 3, 4]
    worker.check()


def test_who_retires_begins_nothing():
    worker = make()
    worker.retire()
    run = worker.begin("a1", 1, [part()])
    assert fates(run) == ["TAKEN"]
    assert not worker.idle()
    assert worker.end()[1] == ((0, 0, 10),)
    assert worker.idle()


class Schedules(RuleBasedStateMachine):
    """Whatever comes in whatever order: no outcome is lost, no former owner's work is begun."""

    leaders = st.sampled_from([("A", "a1"), ("A", "a2"), ("B", "b1")])

    def __init__(self):
        super().__init__()
        self.worker = make()
        self.heard: dict[int, int] = {}
        self.kept: dict[int, bytes] = {}
        self.dispatch = 0

    @precondition(lambda self: self.worker.run is None)
    @rule(
        leader=leaders,
        parts=st.lists(st.builds(part, st.integers(0, 2), st.integers(1, 4)), max_size=3),
    )
    def begin(self, leader, parts):
        self.dispatch += 1
        own = leader[1] == self.worker.incarnation
        self.worker.begin(leader[1], self.dispatch, parts)
        for one in parts if own else ():
            self.heard[one.shard] = max(one.epoch, self.heard.get(one.shard, 0))

    @precondition(lambda self: self.worker.run is not None)
    @rule(index=st.integers(0, 2))
    def start(self, index):
        parts = self.worker.run.parts
        if index < len(parts) and self.worker.start(parts[index]):
            assert parts[index].epoch >= self.heard[parts[index].shard]

    @precondition(lambda self: self.worker.run is not None)
    @rule()
    def end(self):
        parts = self.worker.run.parts
        for one in self.worker.in_hand():
            frame = bytes([one.shard])
            self.kept[self.worker.hold(one.shard, frame)] = frame
            self.worker.finish(one)
        refused, returned = self.worker.end()
        unsaid = [one for one in parts if one.fate is Fate.REFUSED]
        assert sorted(refused) == sorted(one.range for one in unsaid)
        assert set(returned) <= {one.range for one in parts if one.fate is Fate.TAKEN}

    @rule(leader=leaders, shard=st.integers(0, 2), epoch=st.integers(1, 4), own=st.booleans())
    def adopt(self, leader, shard, epoch, own):
        if epoch < self.heard.get(shard, 0):
            with pytest.raises(StaleEpoch):
                self.worker.adopt(*leader, shard, epoch, own)
            return
        self.worker.adopt(*leader, shard, epoch, own)
        self.heard[shard] = epoch
        held = dict(self.worker.held(shard))
        assert held == {s: frame for s, frame in self.kept.items() if frame == bytes([shard])}

    @rule(leader=leaders, dispatch=st.integers(0, 9))
    def take_back(self, leader, dispatch):
        if leader[1] == self.worker.incarnation:
            self.worker.take_back(leader[1], dispatch)

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def record(self, data):
        serial = data.draw(st.sampled_from(sorted(self.kept)))
        self.worker.recorded([serial])
        del self.kept[serial]

    @invariant()
    def holds(self):
        self.worker.check()
        assert set(self.worker.outcomes) == set(self.kept)


TestSchedules = Schedules.TestCase
