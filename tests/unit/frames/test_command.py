"""Command frames: what is packed comes back, whole or cut, and limits hold."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.errors import CorruptFrame
from chimera.frames import command
from chimera.frames.command import Columns, Head

PAYLOADS = st.lists(st.binary(max_size=40), min_size=1, max_size=40)
UINT32 = st.integers(0, 2**32 - 1)
HEADS = st.builds(
    Head,
    type=st.text(min_size=1, max_size=20),
    tenant=st.sampled_from(["default", "acme"]),
    priority=st.integers(0, 2),
    at=st.integers(0, 2**53),
    traceparent=st.none() | st.text(max_size=55),
    options=st.none() | st.just({"max_attempts": 3}),
    replay_of=st.none() | st.text(max_size=36),
)


@dataclass(frozen=True)
class Packed:
    """A frame and what it was made of."""

    session: int
    first: int
    head: Head
    payloads: list[bytes]
    columns: Columns
    frame: bytes


@st.composite
def columns_of(draw, count):
    def column(values):
        return draw(st.none() | st.lists(values, min_size=count, max_size=count))

    claims = draw(st.none() | st.sets(st.integers(0, count - 1), min_size=1).map(sorted))
    return Columns(
        keys=column(st.none() | st.text(max_size=8)),
        idempotency=column(st.none() | st.text(max_size=8)),
        not_before=column(st.integers(0, 2**45)),
        deadline=column(st.integers(0, 2**45)),
        tags=column(st.lists(st.text(max_size=4), max_size=3)),
        claims=claims,
    )


@st.composite
def packed(draw):
    payloads = draw(PAYLOADS)
    columns = draw(columns_of(len(payloads)))
    session, first, head = draw(st.integers(0, 2**64 - 1)), draw(UINT32), draw(HEADS)
    frame = command.pack(session, 5, first, head, payloads, columns)
    return Packed(session, first, head, payloads, columns, frame)


def check(frame, of, start, stop):
    """That `frame` holds the tasks [start, stop) of what was packed, and says so."""
    header = command.verify(frame)
    assert (header.session, header.first, header.shard) == (of.session, of.first + start, 5)
    assert header.count == stop - start
    assert command.head(frame) == of.head
    assert command.payloads(frame) == of.payloads[start:stop]
    found = command.columns(frame)
    for name in ("keys", "idempotency", "not_before", "deadline", "tags"):
        whole = getattr(of.columns, name)
        assert getattr(found, name) == (None if whole is None else whole[start:stop])
        flag = getattr(command, name.upper())
        assert bool(header.flags & flag) == (whole is not None)
    claims = [at - start for at in of.columns.claims or () if start <= at < stop]
    assert list(found.claims or ()) == claims


@given(packed())
def test_what_is_packed_comes_back(of):
    check(of.frame, of, 0, len(of.payloads))


@given(packed(), st.data())
def test_a_cut_holds_its_range_and_a_cut_of_it_too(of, data):
    count = len(of.payloads)
    start = data.draw(st.integers(0, count - 1))
    stop = data.draw(st.integers(start + 1, count))
    part = command.cut(of.frame, start, stop)
    check(part, of, start, stop)
    inner = data.draw(st.integers(0, stop - start - 1))
    check(command.cut(part, inner, stop - start), of, start + inner, stop)


@given(packed())
def test_cutting_nothing_off_keeps_the_very_bytes(of):
    assert command.cut(of.frame, 0, len(of.payloads)) is of.frame


def test_an_encoded_head_may_be_shared_by_many_frames():
    head = Head("t", tenant="acme", at=17)
    again = command.pack(1, 2, 3, command.encode_head(head), [b"1"])
    assert again == command.pack(1, 2, 3, head, [b"1"])


def test_same_tasks_same_bytes():
    # a frame that is sent again must be the same frame (P12)
    first, second = (command.pack(1, 2, 3, Head("t", at=9), [b"1", b"2"]) for _ in "12")
    assert first == second


@pytest.mark.parametrize("count", [0, command.COUNT_MAX + 1])
def test_a_frame_has_one_to_a_thousand_tasks(count):
    with pytest.raises(ValueError, match=f"1 to {command.COUNT_MAX} tasks, not {count}"):
        command.pack(1, 2, 3, Head("t"), [b"1"] * count)


def test_a_thousand_tasks_fit():
    frame = command.pack(1, 2, 3, Head("t"), [b"1"] * command.COUNT_MAX)
    assert command.verify(frame).count == command.COUNT_MAX
    assert len(frame) < command.BYTES_MAX


def test_a_frame_without_columns_says_so():
    frame = command.pack(1, 2, 3, Head("t"), [b"1"])
    assert command.header(frame).flags == 0
    assert command.columns(frame) == Columns()


def test_a_head_or_columns_that_are_no_msgpack_are_corrupt():
    whole = command.pack(1, 2, 3, b"\xc1", [b"1"])
    with pytest.raises(CorruptFrame, match="head"):
        command.head(whole)
    of = command.header(whole)
    with pytest.raises(CorruptFrame, match="columns"):
        command.columns(whole, of._replace(head_bytes=0, columns_bytes=1))
