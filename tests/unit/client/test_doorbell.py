"""What is handed in is taken, all of it, and with no more rings than are needed."""

from __future__ import annotations

import queue
import threading

import pytest

from chimera.client.doorbell import Doorbell
from tests.unit.client.fake import DEADLINE_S


def test_what_comes_before_somebody_is_at_the_door_is_taken_in_one_go():
    rings, taken = [], []
    door = Doorbell(rings.append, taken.append)
    for thing in "abc":
        door.hand_in(thing)
    assert len(rings) == 1
    rings.pop()()
    assert taken == [["a", "b", "c"]]
    door.hand_in("d")
    rings.pop()()
    assert taken[1:] == [["d"]]


def test_it_rings_for_as_many_as_are_wanted():
    rings, taken = [], []
    door = Doorbell(rings.append, taken.append)
    door.quorum = 3
    door.hand_in(1)
    door.hand_in(2)
    assert (len(rings), len(door)) == (0, 2)
    door.hand_in(3)
    rings.pop()()
    assert (taken, len(door)) == ([[1, 2, 3]], 0)


def test_who_rings_in_vain_takes_his_back_and_the_next_one_rings_again():
    rings, taken = [], []

    def ring(work):
        if not rings:
            rings.append("broken")
            raise RuntimeError("broken")
        rings.append(work)

    door = Doorbell(ring, taken.append)
    with pytest.raises(RuntimeError):
        door.hand_in(1)
    door.hand_in(2)
    rings.pop()()
    assert taken == [[2]]


def test_whoever_hands_in_from_whatever_thread_everything_is_taken():
    works: queue.SimpleQueue = queue.SimpleQueue()
    taken = []
    door = Doorbell(works.put, taken.extend)
    threads = [
        threading.Thread(target=lambda n=n: [door.hand_in((n, i)) for i in range(5_000)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    while len(taken) < 20_000:
        works.get(timeout=DEADLINE_S)()
    for thread in threads:
        thread.join()
    assert all([i for m, i in taken if m == n] == list(range(5_000)) for n in range(4))


def test_who_comes_while_others_are_taken_rings_again():
    rings, taken = [], []

    def take(found):
        taken.append(found)
        if found == ["a"]:
            door.hand_in("b")

    door = Doorbell(rings.append, take)
    door.hand_in("a")
    rings.pop()()
    rings.pop()()
    assert taken == [["a"], ["b"]]


def test_what_several_take_at_once_each_gets_once():
    door = Doorbell(lambda work: None, list)
    found = []
    for n in range(20_000):
        door.hand_in(n)
    threads = [threading.Thread(target=lambda: found.extend(door.left())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(20_000))
