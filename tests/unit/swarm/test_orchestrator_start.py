"""What an incarnation of the orchestrator starts with, and which stores it refuses."""

from __future__ import annotations

import msgspec
import pytest

from chimera.errors import SpecError, StoreMismatch
from chimera.swarm.orchestrator.start import Declared, check_store, declare
from chimera.swarm.spec import Spec

SPEC = Spec(handlers=("app.tasks",), data_dir="/data", objects="file:///data/objects", shards=2)


def changed(**changes):
    return msgspec.structs.replace(SPEC, **changes)


def test_an_empty_store_takes_what_is_ordered():
    assert declare(None, SPEC, carried_out=False) == Declared(SPEC, 1, new=True)


def test_a_restart_goes_by_the_store_not_by_its_first_arguments():
    newer = changed(queue_bound=7)
    assert declare((5, newer), SPEC, carried_out=True) == Declared(newer, 5, new=False)


def test_the_same_spec_ordered_again_is_no_new_generation():
    assert declare((5, SPEC), SPEC, carried_out=False) == Declared(SPEC, 5, new=False)


def test_another_spec_is_the_next_generation():
    newer = changed(queue_bound=7)
    assert declare((5, SPEC), newer, carried_out=False) == Declared(newer, 6, new=True)


def test_a_spec_that_the_stored_swarm_cannot_become_is_refused():
    with pytest.raises(SpecError, match="shards"):
        declare((5, SPEC), changed(shards=9), carried_out=False)


def test_an_empty_store_beside_living_actors_is_refused():
    with pytest.raises(StoreMismatch, match=r"empty, but .*worker/eu/0/a"):
        check_store("local", None, ["orchestrator", "results", "worker/eu/0/a"], "/data")
    check_store("local", None, ["orchestrator", "results"], "/data")
    check_store("local", "local", ["worker/eu/0/a"], "/data")


def test_the_store_of_another_swarm_is_refused():
    with pytest.raises(StoreMismatch, match="belongs to swarm 'other'"):
        check_store("local", "other", [], "/data")
