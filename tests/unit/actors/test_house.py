"""A leader's house: what it finds wrong is told by what it is."""

from __future__ import annotations

import queue
import threading
import time
from types import SimpleNamespace

import pytest

from chimera.actors import house
from chimera.actors.house import House
from chimera.actors.recorder import Recorder
from chimera.actors.waiters import Waiters
from chimera.errors import StoreFull
from chimera.frames import command, outcome
from chimera.store.memory import MemoryJournal
from chimera.store.memory_disk import MemoryDisk
from chimera.swarm.facts import Settlement
from chimera.swarm.leader.effects import Record
from chimera.swarm.leader.events import Recorded, RecordRefused
from chimera.swarm.reports import Owner

#: the machine that runs this may be busy
DEADLINE_S = 20.0


class FullShards:
    """One shard on a disk that is full; its house is kept once."""

    def __init__(self):
        self.kept = threading.Event()
        self._looked = False

    def owned(self):
        if self._looked:
            self.kept.set()
            threading.Event().wait()
        self._looked = True
        return (0,)

    def journal(self, shard):
        raise StoreFull("no space left")


class Journal(MemoryJournal):
    """Nothing at all fits on its disk while that is full."""

    def settle(self, settlement, now):
        if self._disk.full:
            raise StoreFull("no room for outcomes")
        return super().settle(settlement, now)

    def probe(self):
        if self._disk.full:
            raise StoreFull("no space left")


class OneShard:
    """A shard that is served here as long as `journal_of_it` is set."""

    config = SimpleNamespace(archive="", synced=False)

    def __init__(self, disk):
        self.journal_of_it = Journal(disk, 0)
        self.journal_of_it.take(0, Owner("leader/r/0", "boot", 1, 1, 1, "node"))

    def owned(self):
        return {} if self.journal_of_it is None else {0: 1}

    def journal(self, shard):
        return self.journal_of_it

    recording = journal


@pytest.fixture
def disk():
    return MemoryDisk()


@pytest.fixture
def shards(disk):
    made = OneShard(disk)
    yield made
    made.journal_of_it = None


def until(condition):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_that_a_journal_cannot_be_written_is_told_from_other_faults(monkeypatch):
    monkeypatch.setattr(house, "SWEEP_S", 0.0)
    shards, found = FullShards(), {}
    House(shards, lambda text, key: found.update({text: House.is_store(key)}), found.pop)
    assert shards.kept.wait(DEADLINE_S)
    assert found == {
        "shard 0 cannot archive: no space left": False,
        "shard 0 cannot write: no space left": True,
    }


@pytest.mark.parametrize("has_room", [True, False])
def test_what_could_not_be_recorded_is_a_fault_of_the_store_until_it_is_mended(
    monkeypatch, disk, shards, has_room
):
    monkeypatch.setattr(house, "SWEEP_S", 0.01)
    shown, faults, told = [], {}, queue.SimpleQueue()

    def show(text, key):
        shown.append((text, House.is_store(key)))
        faults[key] = text

    kept = House(shards, show, lambda key: faults.pop(key, None))
    recorder = Recorder(shards, Waiters(shards), told.put, kept.unwritable)
    shards.journal_of_it.append(
        [command.pack(7, 0, 0, command.Head("t", at=1), [b"1"])], now=1, queue_bound=9
    )
    record = Record(0, 5, Settlement(frames=(outcome.pack(0, 1, 0, b"\1", [b"1"]),)))
    disk.full = True
    assert recorder.write_now(record) == [RecordRefused(0, 5)]
    assert ("shard 0 cannot write: no room for outcomes", True) in shown
    until(lambda: faults)
    if has_room:
        disk.full = False
    else:
        shards.journal_of_it = None  # it is somebody else's
    until(lambda: not faults)
    if has_room:
        assert recorder.write_now(record) == [Recorded(0, 5, 1)]
        assert not faults
    recorder.stop(5.0)
