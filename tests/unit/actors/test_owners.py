"""Asking the owner of a shard: again through a failover, of whoever owns it by then."""

from __future__ import annotations

import threading

import pytest

from chimera.actors.cluster import ActorGone, CallFailed, Silent
from chimera.actors.owners import Owners
from chimera.errors import NotOwner, StaleEpoch, Unavailable
from tests.unit.actors.sample_handlers import DEADLINE_S


class Cluster:
    """Calls are answered at once: a fake leader's method gives the answer, or raises."""

    def call(self, ref, deadline_s):
        assert 0 < deadline_s <= 5.0
        return [one() for one in ref] if isinstance(ref, list) else ref()


class Method:
    def __init__(self, fn):
        self.fn = fn

    def remote(self, *args):
        return lambda: self.fn(*args)


class Leader:
    def __init__(self, answer):
        self.asked = []

        def reply(*args):
            self.asked.append(args)
            return answer(*args)

        self.memo = self.memoise = self.snapshot = Method(reply)


def failing(fault):
    def answer(*_):
        raise fault

    return Leader(answer)


def test_the_own_leader_is_asked_first():
    leader = Leader(lambda *args: args)
    owners = Owners(Cluster(), leader)
    assert owners.memo(3, 7, "step", 1.0) == (3, 7, "step")
    assert owners.memoise(3, 7, "step", b"v", 1.0) == (3, 7, "step", b"v")
    assert owners.snapshots(3, "t", "type", ["a", "b"], 1.0) == [
        (3, "t", "type", "a"), (3, "t", "type", "b"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "fault", [ActorGone("dead"), Silent("?"), NotOwner("not mine"), StaleEpoch("not any more")]
)
def test_a_new_owner_is_asked_as_soon_as_it_is_known(fault):
    heir = Leader(lambda *_: b"stored")
    former = failing(fault)
    owners = Owners(Cluster(), former)
    found = []
    asking = threading.Thread(target=lambda: found.append(owners.memo(3, 7, "s", DEADLINE_S)))
    asking.start()
    owners.set(4, heir, own=False)
    owners.set(3, heir, own=False)
    asking.join(DEADLINE_S)
    assert found == [b"stored"]
    assert heir.asked == [(3, 7, "s")]


def test_it_gives_up_when_the_time_is_up():
    owners = Owners(Cluster(), failing(ActorGone("dead")))
    with pytest.raises(Unavailable, match=r"no owner of shard 3 answered in 0\.2 s: dead"):
        owners.memo(3, 7, "step", 0.2)


def test_a_fault_of_the_owner_is_not_repeated():
    leader = failing(CallFailed("bug"))
    with pytest.raises(CallFailed):
        Owners(Cluster(), leader).memo(3, 7, "step", DEADLINE_S)
    assert len(leader.asked) == 1


def test_who_dispatches_tasks_of_a_shard_owns_it():
    own, other, heir = (Leader(lambda *_: None) for _ in range(3))
    owners = Owners(Cluster(), own)
    owners.set(3, other, own=False)
    assert owners.of(3) is other
    owners.dispatched({3})
    assert owners.of(3) is own
    owners.set(5, heir, own=True)
    assert owners.of(3) is owners.of(5) is heir
