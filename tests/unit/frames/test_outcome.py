"""Outcome frames: states and bodies come back, whole, cut, restated, or one by one."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.errors import CorruptFrame
from chimera.frames import outcome
from chimera.frames.outcome import Columns, Failure

STATES = st.integers(outcome.OPEN, outcome.ATTEMPT_FAILED)
TASKS = st.lists(st.tuples(STATES, st.binary(max_size=30)), min_size=1, max_size=40)


@dataclass(frozen=True)
class Packed:
    """A frame and what it was made of."""

    states: bytes
    bodies: list[bytes]
    columns: Columns | None
    frame: bytes


@st.composite
def packed(draw):
    states, bodies = zip(*draw(TASKS), strict=True)
    count = len(states)
    index = st.integers(0, count - 1)
    columns = draw(
        st.none()
        | st.builds(
            Columns,
            claims=st.sets(index, min_size=1).map(sorted),
            snapshots=st.none() | st.dictionaries(index, st.binary(max_size=8), min_size=1),
        )
    )
    frame = outcome.pack(
        5, 9, 1000, bytes(states), list(bodies), attempt=2, duration_us=count * 10, columns=columns
    )
    return Packed(bytes(states), list(bodies), columns, frame)


def check(frame, of, start, stop):
    """That `frame` holds the outcomes [start, stop) of what was packed, and says so."""
    header = outcome.verify(frame)
    states = of.states[start:stop]
    assert header[1:7] == (5, stop - start, len(states) - states.count(outcome.SUCCEEDED), 2, 9,
                           1000 + start)  # fmt: skip
    assert header.duration_us == 10 * (stop - start)
    assert outcome.states(frame) == states
    assert outcome.bodies(frame) == of.bodies[start:stop]
    pairs = list(zip(states, of.bodies[start:stop], strict=True))
    assert [outcome.body(frame, index) for index in range(stop - start)] == pairs
    whole, found = of.columns or Columns(), outcome.columns(frame)
    claims = [at - start for at in whole.claims or () if start <= at < stop]
    assert list(found.claims or ()) == claims
    snapshots = {at - start: s for at, s in (whole.snapshots or {}).items() if start <= at < stop}
    assert (found.snapshots or {}) == snapshots


@given(packed())
def test_what_is_packed_comes_back(of):
    check(of.frame, of, 0, len(of.bodies))


@given(packed(), st.data())
def test_a_cut_holds_its_range_and_a_cut_of_it_too(of, data):
    count = len(of.bodies)
    start = data.draw(st.integers(0, count - 1))
    stop = data.draw(st.integers(start + 1, count))
    part = outcome.cut(of.frame, start, stop)
    check(part, of, start, stop)
    inner = data.draw(st.integers(0, stop - start - 1))
    check(outcome.cut(part, inner, stop - start), of, start + inner, stop)


@given(packed(), st.data())
def test_restating_changes_the_named_states_and_nothing_else(of, data):
    changes = data.draw(st.dictionaries(st.integers(0, len(of.bodies) - 1), STATES))
    expected = bytearray(of.states)
    for index, state in changes.items():
        expected[index] = state
    restated = outcome.restate(of.frame, changes)
    check(restated, Packed(bytes(expected), of.bodies, of.columns, restated), 0, len(of.bodies))


@given(packed())
def test_restating_nothing_keeps_the_bytes(of):
    assert outcome.restate(of.frame, {}) == of.frame


@pytest.mark.parametrize(("states", "bodies"), [(b"", []), (b"\1", []), (b"\1", [b"1", b"2"])])
def test_as_many_bodies_as_states_and_at_least_one(states, bodies):
    with pytest.raises(ValueError, match="states and"):
        outcome.pack(1, 1, 1, states, bodies)


def test_a_duration_past_the_field_is_the_most_it_holds():
    frame = outcome.pack(1, 1, 1, b"\1", [b"1"], duration_us=2**40)
    assert outcome.header(frame).duration_us == 2**32 - 1


def test_columns_that_are_no_msgpack_are_corrupt():
    frame = outcome.pack(1, 1, 1, b"\1", [b"\xc1"])
    with pytest.raises(CorruptFrame, match="columns"):
        outcome.columns(frame, outcome.header(frame)._replace(count=5, columns_bytes=1))


@given(
    st.builds(
        Failure,
        error=st.text(),
        message=st.text(),
        traceback=st.text(),
        retryable=st.booleans(),
        retry_after=st.none() | st.floats(0, 1e6),
    )
)
def test_a_failure_survives_its_json(failure):
    assert outcome.decode_failure(outcome.encode_failure(failure)) == failure
