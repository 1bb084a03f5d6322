"""A leader's house: what it finds wrong is told by what it is."""

from __future__ import annotations

import threading

from chimera.actors import house
from chimera.actors.house import House
from chimera.errors import StoreFull

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


def test_that_a_journal_cannot_be_written_is_told_from_other_faults(monkeypatch):
    monkeypatch.setattr(house, "SWEEP_S", 0.0)
    shards, found = FullShards(), {}
    House(shards, lambda text, key: found.update({text: House.is_store(key)}), found.pop)
    assert shards.kept.wait(DEADLINE_S)
    assert found == {
        "shard 0 cannot archive: no space left": False,
        "shard 0 cannot write: no space left": True,
    }
